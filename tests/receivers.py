"""A loopback receiver of webhooks, which keeps what it got."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from libs.runtime.health import serve_app


@dataclass(frozen=True, slots=True)
class Received:
    """One POST: its headers, in lower case, its exact body, and when it was here, in seconds of the epoch."""

    headers: Mapping[str, str]
    body: bytes
    moment: float = field(default_factory=time.time)


@dataclass(slots=True)
class Receiver:
    """The receiver: `url` to give as webhook, and what arrived, in order."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, received: Received) -> None:
        """Keeps what arrived and wakes who waits."""
        async with self._arrived:
            self.received.append(received)
            self._arrived.notify_all()

    async def wait(self, count: int, *, seconds: float = 60.0) -> list[Received]:
        """What has arrived once there are `count`; TimeoutError when there are not in time."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)
        return self.received


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port that answers 204 while the context lasts."""
    receiver = Receiver()

    async def answer(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        await receiver.add(Received(headers, await request.read()))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", answer)
    async with serve_app(app, "127.0.0.1", 0) as port:
        receiver.url = f"http://127.0.0.1:{port}/hook"
        yield receiver
