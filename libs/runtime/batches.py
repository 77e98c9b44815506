"""Work that is done in batches: while one batch is under way, the next one gathers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Batches(Generic[ItemT, ResultT]):
    """Hands items to `work`, at most `most` at once, one batch after the other; it gives a result for each, in order.

    A batch begins when the one before it has ended and `pace_seconds` have passed since that began; without waiting for
    the latter where half of `most` have gathered. An error of `work` ends the context.
    """

    def __init__(
        self,
        work: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]],
        *,
        most: int,
        pace_seconds: float = 0.0,
    ) -> None:
        self._work = work
        self._most = most
        self._pace_seconds = pace_seconds
        self._waiting: deque[tuple[ItemT, asyncio.Future[ResultT]]] = deque()
        self._some, self._half = asyncio.Event(), asyncio.Event()

    async def result(self, item: ItemT) -> ResultT:
        """What came of the item, once its batch is done. Cancelled: the item is worked on all the same."""
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._tell()
        return await future

    def pace(self, seconds: float) -> None:
        """Batches begin so far apart from now on; where that is shorter than before, the next one begins at once."""
        if self._waiting and seconds < self._pace_seconds:
            self._half.set()
        self._pace_seconds = seconds

    @asynccontextmanager
    async def running(self, name: str) -> AsyncIterator[None]:
        """Works while the context lasts, as a task called `name`; nothing may wait for a result when it is left."""
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._run(), name=name)
            yield
            working.cancel()

    async def _run(self) -> None:
        time = asyncio.get_running_loop().time
        begun = -self._pace_seconds
        while True:
            batch = await self._gathered(begun)
            begun = time()
            results = await self._work([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _gathered(self, begun: float) -> list[tuple[ItemT, "asyncio.Future[ResultT]"]]:
        await self._some.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(begun + self._pace_seconds):
                await self._half.wait()
        batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        self._some.clear()
        self._half.clear()
        self._tell()
        return batch

    def _tell(self) -> None:
        if self._waiting:
            self._some.set()
        if len(self._waiting) * 2 >= self._most:
            self._half.set()
