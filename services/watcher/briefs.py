"""What the images of one request have in common: read once per request, since it never changes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from libs.documents import Requests
from libs.mongo import patiently

_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Brief:
    """Options and trace of a request, how many images it has, and when it was uploaded, by the server's clock."""

    options: Mapping[str, Any]
    total: int
    trace: str
    created_at: datetime


class Briefs:
    """The briefs of the requests this watcher has lately worked on."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
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
        brief = Brief(request.options, request.total, request.trace, request.created_at)
        if started:
            if len(self._known) >= _KEPT:
                del self._known[next(iter(self._known))]
            self._known[request_id] = brief
        return brief
