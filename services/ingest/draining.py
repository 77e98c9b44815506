"""Lets what has begun come to its end when the service stops.

aiohttp's own shutdown throws away whatever still arrives from clients, so an upload in the middle of its body could
never end; here the bodies are read on, and only then aiohttp shuts down.
"""

import asyncio

import structlog
from aiohttp import web

from services.ingest.problems import Handler, ProblemError

_log = structlog.get_logger()


class Draining:
    """Counts the requests that run, and refuses new ones once the end has begun."""

    def __init__(self) -> None:
        self._running = 0
        self._begun = False
        self._idle = asyncio.Event()
        self._idle.set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Wraps every request. What comes over an open connection after the end has begun gets 503."""
        if self._begun:
            raise ProblemError(503, "stopping", "the service is stopping; try again", closes=True)
        self._running += 1
        self._idle.clear()
        try:
            return await handler(request)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def finish(self, seconds: float) -> None:
        """Begins the end, and returns when nothing runs any more or `seconds` have passed."""
        self._begun = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("http.cut_off", requests=self._running)


DRAINING = web.AppKey("draining", Draining)
