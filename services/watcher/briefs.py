"""What the images of one request have in common: read once per request, since it never changes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from libs.documents import Requests
from libs.imaging import Options
from libs.mongo import patiently

_KEPT = 1024
_FEW = 64


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
    """The briefs of the requests this watcher has lately worked on."""

    def __init__(self, requests: Requests, *, max_pixels: int) -> None:
        self._requests = requests
        self._max_pixels = max_pixels
        self._known: dict[str, Brief] = {}

    async def of(self, request_id: str) -> Brief | None:
        """The request's brief, marking the request as processing when this watcher meets it; None: it is gone."""
        if brief := self._known.get(request_id):
            return brief
        # Side by side, since the first image waits for it.
        request, started = await patiently(
            lambda: asyncio.gather(self._requests.get(request_id), self._requests.start(request_id))
        )
        if request is None:
            return None
        brief = Brief(request.options, self._max_pixels, request.total, request.trace, request.created_at)
        if started:
            if len(self._known) >= _KEPT:
                del self._known[next(iter(self._known))]
            self._known[request_id] = brief
        return brief
