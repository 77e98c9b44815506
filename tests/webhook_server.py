"""A loopback webhook receiver that answers as told; `tests.receivers` has one that only listens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web
from multidict import CIMultiDictProxy
from standardwebhooks import Webhook

WAIT_SECONDS = 60.0

Answer: TypeAlias = Callable[["Received"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it came."""

    path: str
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def webhook_id(self) -> str:
        """The same at every attempt of a delivery."""
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The payload, once the independent library has verified it."""
        return Webhook(secret).verify(self.body, dict(self.headers))


@dataclass(slots=True)
class Receiver:
    """A running receiver."""

    answer: Answer
    url: str = ""
    received: list[Received] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Notes the request, then answers."""
        received = Received(request.path, request.headers, await request.read())
        async with self._arrived:
            self.received.append(received)
            self._arrived.notify_all()
        return await self.answer(received)

    async def first(self, count: int) -> list[Received]:
        """The first `count` requests, once they are here."""
        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)
        return self.received[:count]


def says(*statuses: int, **headers: str) -> Answer:
    """Answers with these statuses in turn, the last of them from then on; underscores in headers stand for hyphens."""
    left = list(statuses)

    async def answer(_: Received) -> web.StreamResponse:
        status = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


def waits_for(gate: asyncio.Event) -> Answer:
    """Answers 200 once the gate is open, and not before."""

    async def answer(_: Received) -> web.StreamResponse:
        await gate.wait()
        return web.Response()

    return answer


@asynccontextmanager
async def receiving(answer: Answer | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port while the context lasts; it says 200 unless told otherwise."""
    receiver = Receiver(answer or says(200))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
