"""A consumer in the test's own process, whose drain tells what it does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from libs.changestream import ChangeStream, Consumer, Permits, Wake
from libs.mongo import Mongo
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop

INSERTS: Sequence[dict[str, Any]] = ({"$match": {"operationType": "insert"}},)


def stream(mongo: Mongo) -> ChangeStream:
    """A stream of the inserts into `work`."""
    return ChangeStream(mongo, mongo.collection("work"), INSERTS)


class Recorder:
    """A drain that takes every document of `work`, and signals when it begins and what woke it."""

    def __init__(self, mongo: Mongo) -> None:
        self._work = mongo.collection("work")
        self.wakes: asyncio.Queue[Wake] = asyncio.Queue()
        self.taken: asyncio.Queue[Any] = asyncio.Queue()
        self.gate, self.entered = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def drain(self, wake: Wake) -> bool:
        """Takes what there is, once the gate is open."""
        self.entered.set()
        await self.gate.wait()
        found = False
        while document := await self._work.find_one_and_delete({}):
            self.taken.put_nowait(document["_id"])
            found = True
        self.wakes.put_nowait(wake)
        return found

    async def woken_by(self, cause: str) -> None:
        """Returns after the next drain of this cause."""
        async with asyncio.timeout(30):
            while (await self.wakes.get()).cause != cause:
                pass

    async def next_taken(self) -> Any:
        """The next document taken."""
        async with asyncio.timeout(30):
            return await self.taken.get()


async def _nothing_due() -> None:
    return None


@asynccontextmanager
async def consuming(
    mongo: Mongo,
    drain: Recorder,
    *,
    sweep_seconds: float = 3600.0,
    readers: int = 1,
    next_due_seconds: Callable[[], Awaitable[float | None]] = _nothing_due,
    on_ready: Callable[[], None] | None = None,
) -> AsyncIterator[tuple[Stop, Health]]:
    """A running consumer, stopped at the end."""
    stop, health = Stop(), Health()
    consumer = Consumer(
        "test",
        lambda: stream(mongo),
        Permits(mongo, "test", limit=readers),
        sweep_seconds=sweep_seconds,
        next_due_seconds=next_due_seconds,
        stop=stop,
        health=health,
        on_ready=on_ready,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(consumer.run(drain.drain))
        yield stop, health
        stop.set()
