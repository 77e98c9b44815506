"""Work that is done in batches: while one batch is under way, the next one gathers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Lent(Generic[ItemT, ResultT]):
    """Items that were lent, and the result of each, in order, to be set by the borrower (None: it has none)."""

    items: Sequence[ItemT]
    results: Sequence[ResultT] | None = None


class Batches(Generic[ItemT, ResultT]):
    """Hands items to `work`, at most `most` at once, one batch after the other; it gives a result for each, in order.

    A batch begins when the one before it has ended and `pace_seconds` have passed since that began; without waiting for
    the latter where half of `most` have gathered. Fewer than that are left for `linger_seconds` to be `lent` first. An
    error of `work` ends the context.
    """

    def __init__(
        self,
        work: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]],
        *,
        most: int,
        pace_seconds: float = 0.0,
        linger_seconds: float = 0.0,
    ) -> None:
        self._work = work
        self._most = most
        self._pace_seconds = pace_seconds
        self._linger_seconds = linger_seconds
        self._since = 0.0
        self._waiting: deque[tuple[ItemT, asyncio.Future[ResultT]]] = deque()
        self._some, self._half = asyncio.Event(), asyncio.Event()

    async def result(self, item: ItemT) -> ResultT:
        """What came of the item, once its batch is done. Cancelled: the item is worked on all the same."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        if not self._waiting:
            self._since = loop.time()
        self._waiting.append((item, future))
        self._tell()
        return await future

    def pace(self, seconds: float) -> None:
        """Batches begin so far apart from now on; where that is shorter than before, the next one begins at once."""
        if self._waiting and seconds < self._pace_seconds:
            self._half.set()
        self._pace_seconds = seconds

    @contextmanager
    def lent(self, most: int) -> Iterator[Lent[ItemT, ResultT]]:
        """Lends all items that wait, if they are at most `most` (else none), to be worked on otherwise.

        The results that are set at the end of the context are the items'; what has none then waits as before.
        """
        waiting, since = list[tuple[ItemT, asyncio.Future[ResultT]]](), self._since
        if len(self._waiting) <= most:
            waiting.extend(self._waiting)
            self._waiting.clear()
        lent: Lent[ItemT, ResultT] = Lent([item for item, _ in waiting])
        try:
            yield lent
        finally:
            if lent.results is not None:
                _settle(waiting, lent.results)
            elif waiting:
                self._waiting.extendleft(reversed(waiting))
                self._since = since
                self._tell()

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
            if batch := await self._gathered(begun):
                begun = time()
                _settle(batch, await self._work([item for item, _ in batch]))

    async def _gathered(self, begun: float) -> list[tuple[ItemT, "asyncio.Future[ResultT]"]]:
        """The next batch; none when all was lent meanwhile."""
        await self._some.wait()
        await self._gather_until(begun + self._pace_seconds)
        time = asyncio.get_running_loop().time
        # Time and again, since those that the wait began for may have been lent, and others have come.
        while self._waiting and not self._half.is_set() and time() < (until := self._since + self._linger_seconds):
            await self._gather_until(until)
        batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        self._some.clear()
        self._half.clear()
        self._tell()
        return batch

    async def _gather_until(self, when: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                await self._half.wait()

    def _tell(self) -> None:
        if self._waiting:
            self._some.set()
        if len(self._waiting) * 2 >= self._most:
            self._half.set()


def _settle(batch: Sequence[tuple[ItemT, "asyncio.Future[ResultT]"]], results: Sequence[ResultT]) -> None:
    for (_, future), result in zip(batch, results, strict=True):
        if not future.done():
            future.set_result(result)
