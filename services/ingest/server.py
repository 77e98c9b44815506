"""The HTTP server: aiohttp's, with problems for what is not even HTTP, and deadlines for clients that stall."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiohttp import web

from libs.runtime.health import listening
from services.ingest.draining import DRAINING
from services.ingest.problems import ProblemError

IDLE_SECONDS = 30.0
"""From the beginning of a connection, or the end of an answer, to the whole head of the next request."""
STALL_SECONDS = 60.0
"""A client that takes nothing of its answer for so long loses its connection."""

_CLOSING_SECONDS = 1.0
"""For answers that are on their way when all requests have ended; also for what was cut off to take notice."""

_log = structlog.get_logger()


class _Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ("_stall_seconds",)

    def __init__(
        self, server: web.Server, stall_seconds: float, *, loop: asyncio.AbstractEventLoop, keepalive_timeout: float
    ) -> None:
        super().__init__(server, loop=loop, keepalive_timeout=keepalive_timeout)
        self._stall_seconds = stall_seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Has the kernel end the connection when the client takes nothing of an answer for too long.

        It sees what no timer here does: whether the bytes of a file, which it sends by itself, are taken.
        """
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux (RFC 5482)
            milliseconds = round(self._stall_seconds * 1000)
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        super().connection_made(transport)

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Logs what ended a connection outside any handler; a client that stalled while it got a file is no defect."""
        if isinstance(options.get("exc_info"), TimeoutError | ConnectionError):
            _log.info("http.client_gone", error=repr(options["exc_info"]))
        else:
            super().log_exception(*args, **options)

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
            problem = ProblemError(status, "malformed_request", "this is no valid HTTP request", closes=True)
        else:
            _log.error("http.failed", path=request.path, exc_info=exc)
            detail = "this is a defect of the service; its log has the cause"
            problem = ProblemError(500, "internal_error", detail, closes=True)
        return problem.response()


@asynccontextmanager
async def serving(
    app: web.Application,
    host: str,
    port: int,
    *,
    shutdown_seconds: float,
    idle_seconds: float = IDLE_SECONDS,
    stall_seconds: float = STALL_SECONDS,
) -> AsyncIterator[int]:
    """Serves `app` while the context lasts and gives the bound port.

    On leaving, nothing new is accepted and what still runs gets `shutdown_seconds`.

    Raises:
        FatalError: the address or port cannot be had.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSING_SECONDS)
    await runner.setup()
    if runner.server is None:
        raise RuntimeError("the runner is not set up")
    server, loop = runner.server, asyncio.get_running_loop()

    def connection() -> _Connection:
        return _Connection(server, stall_seconds, loop=loop, keepalive_timeout=idle_seconds)

    try:
        async with listening(connection, host, port) as bound:
            yield bound
        await app[DRAINING].finish(shutdown_seconds)
    finally:
        await runner.cleanup()
