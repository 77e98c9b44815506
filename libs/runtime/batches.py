"""Work that is done in batches: while one batch is under way, the next one gathers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Batches(Generic[ItemT, ResultT]):
    """Hands items to `work`, at most `most` at once, one batch after the other; it gives a result for each, in order.

    An item that comes alone is not kept waiting for others. An error of `work` ends the context.
    """

    def __init__(self, work: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]], *, most: int) -> None:
        self._work = work
        self._most = most
        self._queue: asyncio.Queue[tuple[ItemT, asyncio.Future[ResultT]]] = asyncio.Queue()

    async def result(self, item: ItemT) -> ResultT:
        """What came of the item, once its batch is done. Cancelled: the item is worked on all the same."""
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((item, future))
        return await future

    @asynccontextmanager
    async def running(self, name: str) -> AsyncIterator[None]:
        """Works while the context lasts, as a task called `name`; nothing may wait for a result when it is left."""
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._run(), name=name)
            yield
            working.cancel()

    async def _run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self._most and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            results = await self._work([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
