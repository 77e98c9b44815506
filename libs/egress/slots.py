"""How many requests run against one host at once."""

import asyncio
from types import TracebackType


class HostSlots:
    """A cap per host, so that one that hangs cannot take the place of the others; idle hosts are forgotten."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._gates: dict[str, _Gate] = {}

    def held(self, host: str) -> "_Gate":
        """A context that waits for one of the slots of `host`, first come, first served, and holds it."""
        name = host.removesuffix(".")
        gate = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = _Gate(self._gates, name, self._each)
        return gate


class _Gate:
    """The slots of one host, and how many hold or await one; a context that takes one of them."""

    def __init__(self, gates: "dict[str, _Gate]", name: str, slots: int) -> None:
        self._gates = gates
        self._name = name
        self._free = asyncio.Semaphore(slots)
        self._users = 0

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self._free.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free.release()
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            del self._gates[self._name]
