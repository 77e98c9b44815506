"""Slots that many flows of work share, so that a small flow does not wait behind a large one's queue."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Waiter:
    flow: str
    tag: float
    turn: "asyncio.Future[None]"


class Rota:
    """`slots` that may be in use at once. One that comes free goes to the flow that has fewest of them.

    Among equals virtual time decides: each piece of a flow is tagged one later than the one before it, and the first
    of a new flow half a step later than the last that was served: so it is next, and yet flows that come after it do
    not keep an old one from its turn. (After P. Goyal et al., "Start-time Fair Queuing", 1996.)
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._taken: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []
        self._tags: dict[str, float] = {}
        self._time = 0.0

    @asynccontextmanager
    async def slot(self, flow: str) -> AsyncIterator[None]:
        """Waits for a slot, and gives it back at the end of the context."""
        await self._take(flow)
        try:
            yield
        finally:
            self._give(flow)

    async def _take(self, flow: str) -> None:
        tag = max(self._time + 0.5, self._tags.get(flow, 0.0) + 1)
        self._tags[flow] = tag
        if self._free:
            self._free -= 1
            self._serve(flow, tag)
            return
        waiter = _Waiter(flow, tag, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():
                self._waiting.remove(waiter)
                self._forget(flow)
            else:  # its turn came in the moment in which it was cancelled
                self._give(flow)
            raise

    def _serve(self, flow: str, tag: float) -> None:
        self._taken[flow] += 1
        self._time = max(self._time, tag)

    def _give(self, flow: str) -> None:
        self._taken[flow] -= 1
        waiting = [waiter for waiter in self._waiting if not waiter.turn.cancelled()]
        if waiting:
            first = min(waiting, key=lambda waiter: (self._taken[waiter.flow], waiter.tag))
            self._waiting.remove(first)
            self._serve(first.flow, first.tag)
            first.turn.set_result(None)
        else:
            self._free += 1
        self._forget(flow)

    def _forget(self, flow: str) -> None:
        if not self._taken[flow]:
            del self._taken[flow]
            if all(waiter.flow != flow for waiter in self._waiting):
                self._tags.pop(flow, None)
