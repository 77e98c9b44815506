"""How many requests run against one host at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .errors import EgressError


class HostSlots:
    """A cap per host, so that one that hangs cannot take the place of the others; idle hosts are forgotten."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._gates: dict[str, _Gate] = {}

    @asynccontextmanager
    async def held(self, host: str, *, busy_seconds: float | None = None) -> AsyncIterator[None]:
        """Waits for one of the slots of `host`, first come, first served, and holds it.

        Raises:
            EgressError: `host_busy`, retryable: none came free within `busy_seconds`.
        """
        name = host.removesuffix(".")
        gate = self._gates.setdefault(name, _Gate(self._each))
        gate.users += 1
        try:
            await gate.take(name, busy_seconds)
            try:
                yield
            finally:
                gate.free.release()
        finally:
            gate.users -= 1
            if not gate.users:
                del self._gates[name]


class _Gate:
    """The slots of one host, and how many hold or await one."""

    def __init__(self, slots: int) -> None:
        self.free = asyncio.Semaphore(slots)
        self.users = 0

    async def take(self, name: str, busy_seconds: float | None) -> None:
        if not self.free.locked():
            await self.free.acquire()
            return
        try:
            async with asyncio.timeout(busy_seconds):
                await self.free.acquire()
        except TimeoutError as error:
            raise EgressError("host_busy", f"other downloads from {name} take too long", retryable=True) from error
