"""How many bytes of bodies are in memory at once."""

import asyncio
from collections import deque
from typing import TypeAlias

_STEP_BYTES = 1024 * 1024

_Waiter: TypeAlias = tuple[int, asyncio.Future[bool]]
"""How many bytes are wanted, and whether they are had: if not, it is the one beside the others."""


class Allowance:
    """At most `total` bytes of bodies, and beside them what is left of one body for which there was no more room.

    A body takes a megabyte before it is read, or less if it is known to be smaller, and more as it comes in: what a
    server announces takes nothing from others until it sends it. Whoever has begun goes before those that have not, and
    each in turn. Where there is no room, the first becomes the one beside the others, which needs nothing more; so
    whoever waits, waits for some that wait for nobody here, and nothing can be stuck.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._has_beside = False
        self._growing: deque[_Waiter] = deque()
        self._waiting: deque[_Waiter] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether nobody has anything of it."""
        return self._free == self._total and not self._has_beside

    @property
    def step(self) -> int:
        """How many bytes are taken at once, at the most."""
        return min(_STEP_BYTES, self._total)

    def share(self) -> "Share":
        """A share for one body, of nothing yet."""
        return Share(self)

    async def take(self, count: int) -> None:
        """Waits until `count` bytes, at most all, are free for one that has none yet, and takes them."""
        if count <= self._free and not self._growing and not self._waiting:
            self._free -= count
        else:
            await self._turn(self._waiting, count)

    async def grow(self, count: int) -> bool:
        """Waits until `count` bytes more are free, and takes them; False: it is the one beside the others instead."""
        if count <= self._free and not self._growing:
            self._free -= count
            return True
        if not self._has_beside:
            self._has_beside = True
            return False
        return await self._turn(self._growing, count)

    def give(self, count: int) -> None:
        """Gives `count` bytes back."""
        self._free += count
        self._serve()

    def shrink(self) -> None:
        """The one beside the others is gone."""
        self._has_beside = False
        self._serve()

    async def _turn(self, queue: deque[_Waiter], count: int) -> bool:
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        queue.append((count, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._serve()  # it may have been the first, for which others waited
            elif turn.result():  # its turn came at the moment at which it gave up
                self.give(count)
            else:
                self.shrink()
            raise

    def _serve(self) -> None:
        while (growing := _first(self._growing)) and (growing[0] <= self._free or not self._has_beside):
            is_room = growing[0] <= self._free
            self._has_beside |= not is_room
            self._pass(self._growing, growing[0] if is_room else 0, is_room=is_room)
        while not self._growing and (waiting := _first(self._waiting)) and waiting[0] <= self._free:
            self._pass(self._waiting, waiting[0], is_room=True)

    def _pass(self, queue: deque[_Waiter], count: int, *, is_room: bool) -> None:
        self._free -= count
        queue.popleft()[1].set_result(is_room)


class Share:
    """What one body has of an allowance."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._taken = 0
        self._is_beside = False

    async def expect(self, told: int) -> None:
        """Takes what is needed to begin with a body of `told` bytes; 0: its length is not told."""
        wanted = min(told or self._allowance.step, self._allowance.step)
        await self._allowance.take(wanted)
        self._taken = wanted

    def covers(self, length: int) -> bool:
        """Whether so many bytes of the body may be kept."""
        return self._is_beside or length <= self._taken

    async def reach(self, length: int) -> None:
        """Waits until so many bytes of the body may be kept."""
        while not self.covers(length):
            if await self._allowance.grow(self._allowance.step):
                self._taken += self._allowance.step
            else:
                self._is_beside = True

    def settle(self, length: int) -> None:
        """Gives back what the whole body of `length` bytes does not need."""
        spare = max(0, self._taken - length)
        self._taken -= spare
        self._allowance.give(spare)

    def release(self) -> None:
        """Gives everything back; can be repeated."""
        taken, self._taken = self._taken, 0
        is_beside, self._is_beside = self._is_beside, False
        if is_beside:
            self._allowance.shrink()
        self._allowance.give(taken)


def _first(queue: deque[_Waiter]) -> _Waiter | None:
    """The first that has not given up."""
    while queue and queue[0][1].cancelled():
        queue.popleft()
    return queue[0] if queue else None
