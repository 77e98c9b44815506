"""How many requests run against one host at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class HostSlots:
    """A cap per host, so that one that hangs cannot take the place of the others; idle hosts are forgotten."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._gates: dict[str, _Gate] = {}

    @asynccontextmanager
    async def held(self, host: str) -> AsyncIterator[None]:
        """Waits for one of the slots of `host`, first come, first served, and holds it."""
        gate = self._gates.setdefault(host, _Gate(self._each))
        gate.users += 1
        try:
            async with gate.free:
                yield
        finally:
            gate.users -= 1
            if not gate.users:
                del self._gates[host]


class _Gate:
    def __init__(self, slots: int) -> None:
        self.free = asyncio.Semaphore(slots)
        self.users = 0
