"""The HTTP server: aiohttp's, with problems for what is not even HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from services.ingest.draining import DRAINING
from services.ingest.problems import ProblemError

_CLOSING_SECONDS = 1.0
"""For answers that are on their way when all requests have ended; also for what was cut off to take notice."""

_log = structlog.get_logger()


class _Protocol(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what could not be parsed, or a failure outside the middlewares, and closes the connection."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, or nobody is there to read one") from exc
        if status < 500:
            _log.info("http.malformed", remote=request.remote, error=(message or "")[:200])
            problem = ProblemError(status, "malformed_request", (message or "this is no valid HTTP")[:300], closes=True)
        else:
            _log.error("http.failed", path=request.path, exc_info=exc)
            detail = "this is a defect of the service; its log has the cause"
            problem = ProblemError(500, "internal_error", detail, closes=True)
        return problem.response()


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **made._kwargs)  # noqa: SLF001


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int, *, shutdown_seconds: float) -> AsyncIterator[int]:
    """Serves `app` while the context lasts and gives the bound port.

    On leaving, nothing new is accepted and what still runs gets `shutdown_seconds`.
    """
    runner = _Runner(app, access_log=None, shutdown_timeout=_CLOSING_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
        for site in list(runner.sites):
            await site.stop()
        await app[DRAINING].finish(shutdown_seconds)
    finally:
        await runner.cleanup()
