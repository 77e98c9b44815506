"""Closes requests whose last image is final, beside the writing of outcomes and not between two batches of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import structlog

from libs.documents import Counts, Documents
from libs.mongo import patiently
from libs.runtime import metrics
from libs.runtime.batches import Batches

_log = structlog.get_logger()
_SECONDS_PER_IMAGE_LEFT = 0.0001
_LONGEST_PAUSE_SECONDS = 1.0
_LAST_CHECKS_SECONDS = 1.0
_BATCH = 64


class Closing:
    """Checks requests of which images were counted, and closes those that are done.

    Several requests that are checked at once are looked up together. A check behind every batch would still be a good
    part of all that a watcher asks of the database. So behind a check the next one of the same request waits for as
    long as the images that were left will take at the very least, and never longer than a second, by which a request
    may close late that has many aliases: they are left too, and take no time. Behind the last image there always is
    one.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._sums = Batches(self._sum, most=_BATCH)
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._wanted: set[str] = set()
        self._leaving = asyncio.Event()

    def check(self, request_id: str, total: int) -> None:
        """Images of this request, which has `total`, have just been counted."""
        self._wanted.add(request_id)
        if request_id not in self._checks:
            check = self._tasks.create_task(self._check(request_id, total), name=f"closing {request_id}")
            self._checks[request_id] = check

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Checks while the context lasts; on leaving it, what is wanted is checked at once.

        What MongoDB does not answer within a second then is left to the sweep.
        """
        async with self._sums.running("sums"), asyncio.TaskGroup() as self._tasks:
            yield
            self._leaving.set()
            if self._checks:
                _, late = await asyncio.wait(self._checks.values(), timeout=_LAST_CHECKS_SECONDS)
                for check in late:
                    check.cancel()

    async def _check(self, request_id: str, total: int) -> None:
        while request_id in self._wanted:
            self._wanted.discard(request_id)
            left = await self._close(request_id, total)
            await self._pause(min(left * _SECONDS_PER_IMAGE_LEFT, _LONGEST_PAUSE_SECONDS))
        del self._checks[request_id]

    async def _close(self, request_id: str, total: int) -> int:
        """How many images are left; when there is none, the request is closed."""
        counts = await self._sums.result(request_id)
        if counts.finished < total:
            return total - counts.finished
        if status := await patiently(partial(self._documents.requests.close, request_id, counts)):
            note_closed(request_id, status)
        return 0

    async def _sum(self, request_ids: Sequence[str]) -> Sequence[Counts]:
        totals = await patiently(partial(self._documents.progress.totals, request_ids))
        return [totals[request_id] for request_id in request_ids]

    async def _pause(self, seconds: float) -> None:
        if seconds > 0 and not self._leaving.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._leaving.wait()


def note_closed(request_id: str, status: str) -> None:
    """Counts and logs a request that was closed."""
    metrics.REQUESTS_CLOSED.labels(status).inc()
    _log.info("request.closed", request_id=request_id, status=status)
