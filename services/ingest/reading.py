"""Reads one upload's CSV in a thread of its own, which the upload always waits for before it ends."""

import asyncio
import hashlib
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event
from types import TracebackType
from typing import Self

from libs.egress import EgressPolicy
from services.ingest.catalogue import Catalogue
from services.ingest.spool import Spool


class _AbandonedError(Exception):
    """The upload has ended before its file did."""


@dataclass(frozen=True, slots=True)
class ReadCatalogue:
    """A catalogue that is valid; `spool` has its images and is the reading's to close."""

    spool: Spool
    bytes: int
    sha256: str


class Reading:
    """A context in which chunks of a CSV are fed to a thread that checks and spools them.

    The thread makes the spool, and closes it unless the catalogue turns out valid. However the context is left (a
    deadline, a client that went away, a shutdown), the thread is told to end and is waited for, so that nothing is
    closed under it; it takes notice at every row and URL.
    """

    def __init__(self, executor: Executor, policy: EgressPolicy, *, max_images: int) -> None:
        self._executor = executor
        self._policy = policy
        self._max_images = max_images
        self._chunks: SimpleQueue[bytes | None] = SimpleQueue()
        self._abandoned = Event()
        self._hungry = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        self._thread = asyncio.wrap_future(self._executor.submit(self._read))
        self._thread.add_done_callback(lambda _: self._hungry.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._abandoned.set()
        self._chunks.put(None)
        cancelled: asyncio.CancelledError | None = None
        while not self._thread.done():
            try:
                await asyncio.wait([self._thread])
            except asyncio.CancelledError as again:  # it would close the spool under the thread: later
                cancelled = again
        if self._thread.exception() is None:
            self._thread.result().spool.close()
        if cancelled:
            raise cancelled

    async def feed(self, chunk: bytes) -> None:
        """Hands over the next bytes; returns when all lines that end in them have been checked.

        Raises what `Catalogue.read` raises.
        """
        await self._until_hungry()
        self._hungry.clear()
        self._chunks.put(chunk)
        await self._until_hungry()

    async def finish(self) -> ReadCatalogue:
        """Ends the file. Raises what `Catalogue.read` raises."""
        self._chunks.put(None)
        return await asyncio.shield(self._thread)

    async def _until_hungry(self) -> None:
        await self._hungry.wait()
        if self._thread.done():
            self._thread.result()

    # --- in the thread -----------------------------------------------------------------------------------------------
    def _read(self) -> ReadCatalogue:
        spool = Spool()
        try:
            self._digest = hashlib.sha256()
            self._bytes = 0
            Catalogue(self._policy, spool, max_images=self._max_images, checkpoint=self._checkpoint).read(
                self._received()
            )
            spool.complete()
            return ReadCatalogue(spool, self._bytes, self._digest.hexdigest())
        except BaseException:
            spool.close()
            raise

    def _received(self) -> Iterator[bytes]:
        while True:
            self._loop.call_soon_threadsafe(self._hungry.set)
            chunk = self._chunks.get()
            self._checkpoint()
            if chunk is None:
                return
            self._digest.update(chunk)
            self._bytes += len(chunk)
            yield chunk

    def _checkpoint(self) -> None:
        if self._abandoned.is_set():
            raise _AbandonedError
