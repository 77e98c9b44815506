"""Slots that many flows of work share, so that a small flow does not wait behind a large one's queue."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Waiter:
    flow: str
    slots: int
    tag: float
    turn: "asyncio.Future[None]"


class Rota:
    """`slots` that may be in use at once. One that comes free goes to the flow that has fewest of them.

    A piece of work may take several: it waits for one, and the others are made up for by those that come free next.

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
    async def slot(self, flow: str, slots: int = 1) -> AsyncIterator[None]:
        """Waits for its turn, and gives its `slots` back at the end of the context."""
        await self._take(flow, slots)
        try:
            yield
        finally:
            self._give(flow, slots)

    async def _take(self, flow: str, slots: int) -> None:
        tag = max(self._time + 0.5, self._tags.get(flow, 0.0) + 1)
        self._tags[flow] = tag
        waiter = _Waiter(flow, slots, tag, asyncio.get_running_loop().create_future())
        if self._free > 0:
            self._serve(waiter)
            return
        self._waiting.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.cancelled():
                self._waiting.remove(waiter)
                self._forget(flow)
            else:  # its turn came in the moment in which it was cancelled
                self._give(flow, slots)
            raise

    def _serve(self, waiter: _Waiter) -> None:
        self._free -= waiter.slots
        self._taken[waiter.flow] += waiter.slots
        self._time = max(self._time, waiter.tag)
        waiter.turn.set_result(None)

    def _give(self, flow: str, slots: int) -> None:
        self._free += slots
        self._taken[flow] -= slots
        while self._free > 0 and (waiting := [waiter for waiter in self._waiting if not waiter.turn.cancelled()]):
            first = min(waiting, key=lambda waiter: (self._taken[waiter.flow], waiter.tag))
            self._waiting.remove(first)
            self._serve(first)
        self._forget(flow)

    def _forget(self, flow: str) -> None:
        if not self._taken[flow]:
            del self._taken[flow]
            if all(waiter.flow != flow for waiter in self._waiting):
                self._tags.pop(flow, None)
