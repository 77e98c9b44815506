"""How many bytes of bodies are in memory at once."""

import asyncio
from collections import deque

_UNTOLD_BYTES = 1024 * 1024


class Allowance:
    """At most `total` bytes of bodies, first come, first served, and beside them one body that is larger.

    A body whose length is told takes it before it is read, and then needs nothing more. One whose length is not told
    takes a megabyte; when it outgrows that, it waits until it is the one beside the others, and needs nothing more from
    then on either. So whoever waits, waits for some that wait for nobody here: nothing can be stuck.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._outgrown = asyncio.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether nobody has anything of it."""
        return self._free == self._total and not self._outgrown.locked()

    def share(self) -> "Share":
        """A share for one body, of nothing yet."""
        return Share(self)

    async def take(self, count: int) -> None:
        """Waits until `count` bytes, at most all, are free, and takes them."""
        if count <= self._free and not self._waiting:
            self._free -= count
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(count)  # its turn came at the moment at which it gave up
            else:
                self._waiting.remove((count, turn))
                self.give(0)
            raise

    def give(self, count: int) -> None:
        """Gives `count` bytes back."""
        self._free += count
        while self._waiting and self._waiting[0][0] <= self._free:
            taken, turn = self._waiting.popleft()
            self._free -= taken
            turn.set_result(None)

    async def outgrow(self) -> None:
        """Waits until nobody else's body is the one beside the others."""
        await self._outgrown.acquire()

    def shrink(self) -> None:
        """That body is gone."""
        self._outgrown.release()

    @property
    def total(self) -> int:
        """All there is."""
        return self._total


class Share:
    """What one body has of an allowance."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._taken = 0
        self._has_outgrown = False

    async def expect(self, told: int) -> None:
        """Takes what is needed for a body of `told` bytes; 0: its length is not told."""
        wanted = told or min(_UNTOLD_BYTES, self._allowance.total)
        if wanted > self._allowance.total:
            await self.reach(wanted)
            return
        await self._allowance.take(wanted)
        self._taken = wanted

    async def reach(self, length: int) -> None:
        """Waits until so many bytes of the body may be kept."""
        if length > self._taken and not self._has_outgrown:
            await self._allowance.outgrow()
            self._has_outgrown = True

    def settle(self, length: int) -> None:
        """Gives back what the whole body of `length` bytes does not need."""
        spare = max(0, self._taken - length)
        self._taken -= spare
        self._allowance.give(spare)

    def release(self) -> None:
        """Gives everything back; can be repeated."""
        if self._has_outgrown:
            self._allowance.shrink()
        self._allowance.give(self._taken)
        self._taken, self._has_outgrown = 0, False
