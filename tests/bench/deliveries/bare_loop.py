"""The measure of a notifier, in a process of its own: `python -m tests.bench.deliveries.bare_loop AT_ONCE URL…`.

It posts what a notifier would post, so many at once, with aiohttp as it comes: signed, to one URL after the other, over
connections that it keeps. It asks no database and writes nothing down.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from libs.documents import NewDelivery
from libs.webhooks import parse_secret, signed_headers
from tests.bench.children import Child, child, say, told
from tests.bench.deliveries.news import news
from tests.processes import SECRET

_KEY = parse_secret(SECRET)
_PREPARED = 1_000


@dataclass(frozen=True, slots=True)
class BareLoop:
    """A running loop."""

    process: Child

    async def per_second(self, seconds: float) -> float:
        """POSTs per second, as fast as it can for so long."""
        await self.process.tell(f"race {seconds}")
        answer = await self.process.answer()
        return float(answer["posts"] / answer["seconds"])

    async def paced(self, per_second: float, count: int) -> dict[str, float]:
        """Posts at an even pace; gives when it began with each, by its id."""
        await self.process.tell(f"pace {per_second} {count}")
        begun: dict[str, float] = (await self.process.answer())["begun"]
        return begun


@asynccontextmanager
async def bare_loop(at_once: int, urls: Sequence[str]) -> AsyncIterator[BareLoop]:
    """Runs the loop, idle until it is asked, until the end of the context."""
    async with child(__name__, str(at_once), *urls) as process:
        await process.answer()
        yield BareLoop(process)


class _Loop:
    def __init__(self, client: aiohttp.ClientSession, at_once: int, urls: Sequence[str]) -> None:
        self._client = client
        self._at_once = at_once
        self._urls = itertools.cycle(urls)

    async def race(self, seconds: float) -> None:
        prepared = itertools.cycle([news(next(self._urls)) for _ in range(_PREPARED)])
        posts, began = 0, time.monotonic()

        async def some() -> None:
            nonlocal posts
            while time.monotonic() < began + seconds:
                await self._post(next(prepared))
                posts += 1

        await asyncio.gather(*(some() for _ in range(self._at_once)))
        say(posts=posts, seconds=time.monotonic() - began)

    async def pace(self, per_second: float, count: int) -> None:
        free, begun, began = asyncio.Semaphore(self._at_once), dict[str, float](), time.monotonic()

        async def one(new: NewDelivery) -> None:
            async with free:
                await self._post(new)

        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                await asyncio.sleep(began + number / per_second - time.monotonic())
                new = news(next(self._urls))
                begun[new.webhook_id] = time.monotonic()
                tasks.create_task(one(new))
        say(begun=begun)

    async def _post(self, new: NewDelivery) -> None:
        body = new.body.encode()
        headers = signed_headers(_KEY, new.webhook_id, int(time.time()), body) | {
            "content-type": "application/json",
            "user-agent": "Darkroom",
            "traceparent": new.trace,
        }
        async with self._client.post(new.url, data=body, headers=headers) as answer:
            await answer.read()
            assert answer.status == 204


async def _run(at_once: int, urls: Sequence[str]) -> None:
    async with aiohttp.ClientSession() as client:
        loop = _Loop(client, at_once, urls)
        say(ready=True)
        while command := (await told()).split():
            if command[0] == "race":
                await loop.race(float(command[1]))
            else:
                await loop.pace(float(command[1]), int(command[2]))


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), sys.argv[2:]))
