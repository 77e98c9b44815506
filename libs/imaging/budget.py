"""A budget that work of unlike weight shares, first come, first served."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """`size` of something, of which each task takes its share for as long as it works.

    Nobody is passed by one who came later, so that the small do not starve the large; who wants more than there is gets
    all of it, and is alone. (The shape of Go's `semaphore.Weighted`; asyncio's semaphore counts by ones.)
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """How much of it is in use."""
        return self._size - self._free

    @asynccontextmanager
    async def share(self, amount: int) -> AsyncIterator[None]:
        """Waits for `amount`, and gives it back at the end of the context."""
        amount = min(amount, self._size)
        await self._take(amount)
        try:
            yield
        finally:
            self._give(amount)

    async def _take(self, amount: int) -> None:
        if not self._waiting and amount <= self._free:
            self._free -= amount
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._wake()  # it may have been the first, for which others waited
            else:  # its turn came in the moment in which it was cancelled
                self._give(amount)
            raise

    def _give(self, amount: int) -> None:
        self._free += amount
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if not turn.cancelled():
                if amount > self._free:
                    return
                self._free -= amount
                turn.set_result(None)
            self._waiting.popleft()
