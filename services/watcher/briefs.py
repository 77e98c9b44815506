"""What the images of one request have in common: learnt once per request, since it never changes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import Any

from libs.documents import Requests
from libs.imaging import Options
from libs.mongo import patiently

_KEPT = 1024
_FEW = 64
# A write that no image waits for, which would be in the way of the first; most small requests are closed by then.
_MARK_SECONDS = 0.1


@dataclass(frozen=True)
class Brief:
    """What was asked of a request, how many images it has, its trace, and when it was uploaded, by the server's clock.

    No source may have more than `max_pixels`.
    """

    asked: Mapping[str, Any]
    max_pixels: int
    total: int
    trace: str
    created_at: datetime

    @property
    def is_awaited(self) -> bool:
        """Whether somebody may be waiting for just one of its images: it has at most 64. Else they go in batches."""
        return self.total <= _FEW

    @cached_property
    def options(self) -> Options:
        """What was asked, for the codec. Raises ValueError: a newer ingest stored options this does not know."""
        return Options.from_document(self.asked, max_pixels=self.max_pixels)


class Briefs:
    """The briefs of the requests this watcher has lately worked on, or was told of."""

    def __init__(self, requests: Requests, *, max_pixels: int) -> None:
        self._requests = requests
        self._max_pixels = max_pixels
        self._known: dict[str, Brief] = {}
        self._unmarked: set[str] = set()
        self._marks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Marks requests while the context lasts; what is not marked at its end is left as it is."""
        async with asyncio.TaskGroup() as self._tasks:
            yield
            for mark in self._marks:
                mark.cancel()

    def told(self, request_id: str, request: Mapping[str, Any]) -> None:
        """Learns a request from the change stream, where its first image would else wait for it to be read.

        `request` has the fields of its document that a brief is made of, or none; they never change.
        """
        if request and request_id not in self._known:
            self._keep(
                request_id,
                Brief(request["options"], self._max_pixels, request["total"], request["trace"], request["created_at"]),
            )

    async def of(self, request_id: str) -> Brief | None:
        """The request's brief; None: it is gone.

        A request that this watcher meets and that is not closed a tenth of a second later is marked as processing.
        """
        if request_id not in self._known:
            request = await patiently(partial(self._requests.get, request_id))
            if request is None:
                return None
            brief = Brief(request.options, self._max_pixels, request.total, request.trace, request.created_at)
            if request_id not in self._known:
                self._keep(request_id, brief)
        if request_id in self._unmarked:
            self._unmarked.remove(request_id)
            mark = self._tasks.create_task(self._mark(request_id), name=f"mark {request_id}")
            self._marks.add(mark)
            mark.add_done_callback(self._marks.discard)
        return self._known[request_id]

    def _keep(self, request_id: str, brief: Brief) -> None:
        if len(self._known) >= _KEPT:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._unmarked.discard(oldest)
        self._known[request_id] = brief
        self._unmarked.add(request_id)

    async def _mark(self, request_id: str) -> None:
        await asyncio.sleep(_MARK_SECONDS)
        while not await patiently(partial(self._requests.start, request_id)):
            pass  # it is locked, and half a second has passed
