"""A server that takes its time, in a process of its own: `python -m tests.bench.slow_host PORTS`.

It listens on that many free loopback ports and says them in one JSON line. `GET /<milliseconds>/<n>` answers after that
time with a tiny image, another one for each n; `POST /<milliseconds>/…` with 204. It counts both.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import numpy as np
import simplejpeg  # type: ignore[import-untyped]
import uvloop
from aiohttp import web

from tests.bench.children import child, say


@dataclass(frozen=True, slots=True)
class Counted:
    """Answers since the last look, the most requests that were in progress at once, and how long that was."""

    answers: int
    most_at_once: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.answers / self.seconds


@dataclass(frozen=True, slots=True)
class SlowHost:
    """A running host."""

    urls: list[str]
    pid: int
    client: aiohttp.ClientSession

    async def counted(self) -> Counted:
        """What was answered since the last call."""
        async with self.client.get(f"{self.urls[0]}/counted") as answer:
            return Counted(**await answer.json())


@asynccontextmanager
async def slow_host(ports: int) -> AsyncIterator[SlowHost]:
    """Runs the host until the end of the context."""
    async with child(__name__, str(ports)) as process, aiohttp.ClientSession() as client:
        urls = [f"http://127.0.0.1:{port}" for port in (await process.answer())["ports"]]
        yield SlowHost(urls, process.process.pid, client)


class _Host:
    """The handlers, and what they count."""

    def __init__(self) -> None:
        self._now = self._most = self._answers = 0
        self._since = time.monotonic()

    async def image(self, request: web.Request) -> web.Response:
        """A tiny image."""
        await self._pause(request)
        return web.Response(body=tiny_image(int(request.match_info["n"])), content_type="image/jpeg")

    async def webhook(self, request: web.Request) -> web.Response:
        """204."""
        await request.read()
        await self._pause(request)
        return web.Response(status=204)

    async def counted(self, _: web.Request) -> web.Response:
        """What was counted since the last call."""
        now = time.monotonic()
        counted = {"answers": self._answers, "most_at_once": self._most, "seconds": now - self._since}
        self._answers, self._most, self._since = 0, self._now, now
        return web.json_response(counted)

    async def _pause(self, request: web.Request) -> None:
        self._now += 1
        self._most = max(self._most, self._now)
        try:
            await asyncio.sleep(int(request.match_info["milliseconds"]) / 1000)
            self._answers += 1
        finally:
            self._now -= 1


def tiny_image(number: int) -> bytes:
    """A JPEG of 16 by 16 pixels; the shades of its four blocks spell `number`, so that none is the same as another."""
    shades = np.array([(number >> 4 * block & 15) * 16 for block in range(4)], dtype=np.uint8).reshape(2, 2, 1)
    # The host is to leave the cores to what is measured, and this takes a fifth of what Pillow takes.
    picture = np.ascontiguousarray(shades.repeat(8, axis=0).repeat(8, axis=1).repeat(3, axis=2))
    made: bytes = simplejpeg.encode_jpeg(picture, quality=90)
    return made


async def _serve(ports: int) -> None:
    host, app = _Host(), web.Application()
    app.router.add_get("/counted", host.counted)
    app.router.add_get("/{milliseconds:[0-9]+}/{n:[0-9]+}", host.image)
    app.router.add_post("/{milliseconds:[0-9]+}/{rest:.*}", host.webhook)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for _ in range(ports):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    say(ports=[address[1] for address in runner.addresses])
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
