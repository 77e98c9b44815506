"""Writes outcomes in batches: while one transaction runs, the next batch gathers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from libs.documents import Documents, HeldImage, Outcome, Output
from libs.mongo import patiently
from libs.runtime import metrics
from services.watcher.closing import Closing, note_closed

_BATCH = 64


@dataclass(frozen=True, slots=True)
class _Entry:
    image: HeldImage
    outcome: Outcome
    total: int
    written: asyncio.Future[bool]


class Completion:
    """Finishes images, and has the requests closed whose last image that was."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._closing = Closing(documents)
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue()

    async def finish(self, image: HeldImage, outcome: Outcome, total: int) -> bool:
        """Returns once the outcome is durable; false when the image was no longer held, so that nothing was written.

        `total` is how many images the request has.
        """
        entry = _Entry(image, outcome, total, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(entry)
        return await entry.written

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Writes while the context lasts; waits out a MongoDB that does not answer."""
        async with self._closing.running(), asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write(), name="completion")
            yield
            writing.cancel()

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            totals = {entry.image.request_id: entry.total for entry in batch}
            settled, closed = await self._settle(batch, totals)
            # Every request of the batch, not only of what was settled: a write that errored may have counted before.
            for request_id, total in totals.items():
                if request_id in closed:
                    note_closed(request_id, closed[request_id])
                else:
                    self._closing.check(request_id, total)
            for entry in batch:
                _measure(entry, written=entry.image in settled)
                if not entry.written.done():
                    entry.written.set_result(entry.image in settled)

    async def _settle(self, batch: list[_Entry], totals: Mapping[str, int]) -> tuple[set[HeldImage], dict[str, str]]:
        """What was still held, and the requests that were closed with it, with their status."""
        outcomes = [(entry.image, entry.outcome) for entry in batch]
        finished = await patiently(partial(self._documents.outcomes.write, outcomes, totals))
        return set(finished.images), dict(finished.closed)


def _measure(entry: _Entry, *, written: bool) -> None:
    if not written:
        metrics.IMAGES_FENCED.inc()
    elif isinstance(entry.outcome, Output):
        metrics.IMAGES_FINISHED.labels("completed", "").inc()
    else:
        metrics.IMAGES_FINISHED.labels("failed", entry.outcome.error.code).inc()
