"""How many attempts run against one endpoint at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

_PATIENCE_SECONDS = 0.1


class NoTurnError(Exception):
    """The endpoint has its share of attempts, and no other has started for `full_seconds`."""

    def __init__(self, full_seconds: float) -> None:
        super().__init__(f"no turn for {full_seconds:.3f} s")
        self.full_seconds = full_seconds


class Turns:
    """At most `each` attempts per endpoint, so that one that hangs cannot take the place of the others.

    An endpoint that answers is waited for, since its next turn is near: for `patience_seconds`, if an attempt has
    started there that lately. One that hangs is not. Idle endpoints are forgotten.
    """

    def __init__(self, each: int, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._each = each
        self._patience_seconds = patience_seconds
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def taken(self, endpoint: str) -> AsyncIterator[None]:
        """Holds a turn of `endpoint`.

        Raises:
            NoTurnError: there is none soon enough.
        """
        queue = self._queues.setdefault(endpoint, _Queue(asyncio.Semaphore(self._each)))
        queue.users += 1
        try:
            await self._wait(queue)
            try:
                yield
            finally:
                queue.free.release()
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[endpoint]

    async def _wait(self, queue: "_Queue") -> None:
        if queue.free.locked():
            full_seconds = time.monotonic() - queue.started
            if full_seconds > self._patience_seconds:
                raise NoTurnError(full_seconds)
        try:
            async with asyncio.timeout(self._patience_seconds):
                await queue.free.acquire()
        except TimeoutError as error:
            raise NoTurnError(time.monotonic() - queue.started) from error
        queue.started = time.monotonic()


@dataclass(slots=True)
class _Queue:
    free: asyncio.Semaphore
    users: int = 0
    started: float = 0.0


def endpoint_of(url: str) -> str:
    """The host and port of `url` as they are written there; the whole of it when it has none."""
    try:
        return urlsplit(url).netloc.lower() or url
    except ValueError:
        return url
