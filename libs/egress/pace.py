"""How fast a download has to go."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .errors import EgressError

MIN_BYTES_PER_SECOND = 1024


class Pace:
    """Moves the deadline of a download along as its body comes in, up to `end` (by the clock `time`).

    A stretch of `stall_seconds` x 1,024 bytes may take `stall_seconds`: what stalls or trickles is given up long before
    the total time is over, and what is merely large is not. A timer is not moved for every piece of a fast body, so a
    stall may be noticed a tenth early.
    """

    def __init__(
        self,
        deadline: asyncio.Timeout,
        time: Callable[[], float],
        *,
        end: float,
        stall_seconds: float,
        room_seconds: float,
    ) -> None:
        self._deadline = deadline
        self._time = time
        self._end = end
        self._stall_seconds = stall_seconds
        self._room_seconds = room_seconds
        self._next_bytes = 0.0
        self._next_at = 0.0

    def reached(self, total_bytes: int) -> None:
        """So much of the body is there, which begins the next stretch when it completes one."""
        now = self._time()
        if total_bytes < self._next_bytes or now < self._next_at:
            return
        self._next_bytes = total_bytes + self._stall_seconds * MIN_BYTES_PER_SECOND
        self._next_at = now + self._stall_seconds / 10
        self._deadline.reschedule(min(self._end, now + self._stall_seconds))

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Waits in here for memory, which is not the server's fault: it counts to none of the deadlines.

        Raises:
            EgressError: `memory_busy`, retryable: after `room_seconds`, in which a server may hang up.
        """
        began = self._time()
        self._deadline.reschedule(None)
        try:
            async with asyncio.timeout(self._room_seconds):
                yield
        except TimeoutError as error:
            raise EgressError("memory_busy", "other images take all memory for too long", retryable=True) from error
        now = self._time()
        self._end += now - began
        self._deadline.reschedule(min(self._end, now + self._stall_seconds))
