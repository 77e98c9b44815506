"""Health for orchestrators: alive (the loop turns), ready (work is taken), and metrics for Prometheus."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from libs.runtime.errors import FatalError


@dataclass(slots=True)
class Health:
    """What a service says of itself.

    `ready` is true while the service takes on work; `reason` says why it does not. A consumer calls `beat` each time
    its main loop turns; the service counts as dead when that stops for `beat_within_seconds`.
    """

    beat_within_seconds: float = 120.0
    ready: bool = False
    reason: str = "starting"
    _beaten: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        """The main loop has turned."""
        self._beaten = time.monotonic()

    def set_ready(self) -> None:
        """The service takes on work from now."""
        self.ready, self.reason = True, ""

    def set_unready(self, reason: str) -> None:
        """The service takes on no work, because of `reason`."""
        self.ready, self.reason = False, reason

    @property
    def alive(self) -> bool:
        """Whether the main loop has turned lately."""
        return time.monotonic() - self._beaten < self.beat_within_seconds


def health_routes(health: Health) -> list[web.RouteDef]:
    """GET /livez and /readyz (200 or 503) and /metrics (Prometheus text format)."""

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"alive": health.alive}, status=200 if health.alive else 503)

    async def readyz(_: web.Request) -> web.Response:
        return web.json_response({"ready": health.ready, "reason": health.reason}, status=200 if health.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)]


@asynccontextmanager
async def listening(protocol: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> AsyncIterator[int]:
    """Accepts connections for `protocol` while the context lasts, and gives the bound port.

    Raises:
        FatalError: the address or port cannot be had.
    """
    try:
        server = await asyncio.get_running_loop().create_server(protocol, host, port, backlog=128)
    except OSError as error:
        raise FatalError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


@asynccontextmanager
async def serve_app(app: web.Application, host: str, port: int, *, shutdown_seconds: float = 5.0) -> AsyncIterator[int]:
    """Serves `app` while the context lasts and gives the bound port.

    On leaving, requests that still run get `shutdown_seconds`.

    Raises:
        FatalError: the address or port cannot be had.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_seconds)
    await runner.setup()
    try:
        async with listening(_protocol_of(runner), host, port) as bound:
            yield bound
    finally:
        await runner.cleanup()


def _protocol_of(runner: web.AppRunner) -> web.Server:
    if runner.server is None:
        raise RuntimeError("the runner is not set up")
    return runner.server


@asynccontextmanager
async def serve_health(health: Health, host: str, port: int) -> AsyncIterator[int]:
    """Serves only the health routes while the context lasts, and gives the bound port."""
    app = web.Application()
    app.add_routes(health_routes(health))
    async with serve_app(app, host, port, shutdown_seconds=1.0) as bound:
        yield bound
