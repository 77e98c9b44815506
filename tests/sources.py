"""A loopback server of source images, which counts what is fetched."""

import asyncio
import io
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from PIL import Image, ImageDraw

from libs.runtime.health import serve_app


def photograph(width: int = 320, height: int = 240, *, shade: int = 0, quality: int = 95) -> bytes:
    """A JPEG with a red left and a blue right half, some texture, and `shade` to tell one from another."""
    image = Image.effect_noise((width, height), 24).convert("RGB")
    draw = ImageDraw.Draw(image, "RGBA")
    draw.rectangle((0, 0, width // 2, height), fill=(200, shade % 64, 30, 225))
    draw.rectangle((width // 2, 0, width, height), fill=(30, shade // 64 % 64, 200, 225))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@dataclass(slots=True)
class Sources:
    """The server: `images` by path, and how often each path was fetched. While it is closed, answers wait.

    A path answers 503 as often as `refusals` says before it gives its image; `moments` has when each was asked for, in
    monotonic seconds. `numbered`: each answer has a number behind the image, so that none is the same as another.
    """

    url: str
    images: dict[str, bytes]
    fetched: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    numbered: bool = False
    moments: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _waiting: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    def link(self, path: str) -> str:
        """The URL of a path."""
        return f"{self.url}/{path}"

    def close(self) -> None:
        """Answers wait from now on."""
        self._opened.clear()

    def open(self) -> None:
        """Answers are given from now on."""
        self._opened.set()

    async def pass_gate(self) -> None:
        """Returns when the server is open."""
        async with self._changed:
            self._waiting += 1
            self._changed.notify_all()
        await self._opened.wait()
        self._waiting -= 1

    async def waiting_for(self, count: int, *, seconds: float = 60.0) -> None:
        """Returns when `count` fetches wait for their answer."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: self._waiting >= count)


@asynccontextmanager
async def served(images: Mapping[str, bytes]) -> AsyncIterator[Sources]:
    """Serves `images` on a free port while the context lasts; other paths are 404."""
    sources = Sources("", dict(images))
    sources.open()
    numbers = itertools.count()

    async def answer(request: web.Request) -> web.Response:
        path = request.match_info["path"]
        sources.fetched[path] += 1
        sources.moments[path].append(time.monotonic())
        await sources.pass_gate()
        if sources.refusals[path]:
            sources.refusals[path] -= 1
            return web.Response(status=503)
        body = sources.images.get(path)
        if body is None:
            return web.Response(status=404)
        if sources.numbered:
            body += b"%d" % next(numbers)
        return web.Response(body=body, content_type="application/octet-stream")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serve_app(app, "127.0.0.1", 0) as port:
        sources.url = f"http://127.0.0.1:{port}"
        yield sources
