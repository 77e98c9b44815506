"""Writes outcomes in batches: while one transaction runs, the next batch gathers."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from libs.documents import Documents, HeldImage, Outcome, Output
from libs.mongo import patiently
from libs.runtime import metrics
from libs.runtime.batches import Batches
from services.watcher.briefs import Brief
from services.watcher.closing import Closing, note_closed

_BATCH = 128
# An image at a time, a transaction would be half of all that a watcher asks of MongoDB. Its slot is free meanwhile.
# Where somebody may be waiting, only as long as others that are done at the same time need.
_PACE_OF_AWAITED_SECONDS = 0.05
_PACE_SECONDS = 0.5
_PACE_OF_THE_LAST_SECONDS = 0.05
_MEGAPIXEL = 1e6


@dataclass(frozen=True, slots=True)
class _Entry:
    image: HeldImage
    outcome: Outcome
    brief: Brief


class Completion:
    """Finishes images, and has the requests closed whose last image that was."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._closing = Closing(documents)
        self._awaited = Batches(self._write, most=_BATCH, pace_seconds=_PACE_OF_AWAITED_SECONDS)
        self._of_many = Batches(self._write, most=_BATCH, pace_seconds=_PACE_SECONDS)

    async def finish(self, image: HeldImage, outcome: Outcome, brief: Brief) -> bool:
        """Returns once the outcome is durable; false when the image was no longer held, so that nothing was written."""
        entries = self._awaited if brief.is_awaited else self._of_many
        return await entries.result(_Entry(image, outcome, brief))

    def hurry(self, *, is_dry: bool) -> None:
        """Whether nothing waits behind what is worked on now: then a request may be done once this is written."""
        self._of_many.pace(_PACE_OF_THE_LAST_SECONDS if is_dry else _PACE_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Writes while the context lasts; waits out a MongoDB that does not answer."""
        async with (
            self._closing.running(),
            self._awaited.running("completion of small requests"),
            self._of_many.running("completion of large requests"),
        ):
            yield

    async def _write(self, entries: Sequence[_Entry]) -> Sequence[bool]:
        totals = {entry.image.request_id: entry.brief.total for entry in entries}
        outcomes = [(entry.image, entry.outcome) for entry in entries]
        finished = await patiently(partial(self._documents.outcomes.write, outcomes, totals))
        # Every request of the batch, not only of what was finished: a write that errored may have counted before.
        for request_id, total in totals.items():
            if status := finished.closed.get(request_id):
                note_closed(request_id, status)
            else:
                self._closing.check(request_id, total)
        held = set(finished.images)
        written = [entry.image in held for entry in entries]
        for entry, was_held in zip(entries, written, strict=True):
            _measure(entry, written=was_held)
        return written


def _measure(entry: _Entry, *, written: bool) -> None:
    if not written:
        metrics.IMAGES_FENCED.inc()
    elif isinstance(entry.outcome, Output):
        metrics.IMAGES_FINISHED.labels("completed", "").inc()
        _measure_output(entry.outcome)
    else:
        metrics.IMAGES_FINISHED.labels("failed", entry.outcome.error.code).inc()


def _measure_output(output: Output) -> None:
    flags = [str(flag).lower() for flag in (output.kept, output.animated, output.larger_than_source)]
    metrics.IMAGE_OUTPUTS.labels(output.source_format, output.format, *flags).inc()
    metrics.IMAGE_MEGAPIXELS.observe(output.source_width * output.source_height / _MEGAPIXEL)
    if output.quality is not None:
        metrics.IMAGE_QUALITY.labels(output.format).observe(output.quality)
