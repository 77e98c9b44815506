"""Turns closed requests into deliveries, each exactly once."""

from collections.abc import Sequence

import structlog

from libs.documents import Documents, NewDelivery, Request
from libs.runtime import metrics
from libs.runtime.lifecycle import Stop
from libs.runtime.trace import trace_id
from services.notifier.event import event_of

_log = structlog.get_logger()
_CHUNK = 100


class Announcer:
    """Announces what has been closed. `base_url` is where clients reach ingest."""

    def __init__(self, documents: Documents, *, base_url: str, stop: Stop) -> None:
        self._documents = documents
        self._base_url = base_url
        self._stop = stop

    async def announce(self) -> int:
        """Announces some of the closed requests, the oldest first, and says how many; 0 when none is left.

        Of several notifiers that find the same requests one makes their deliveries; the others do not count them, so
        that none of them keeps looking for what is being announced elsewhere.
        """
        after = None
        while not self._stop.is_set:
            requests = await self._documents.requests.unannounced(_CHUNK, after=after)
            announced = await self._announce(requests)
            if announced or len(requests) < _CHUNK:
                return announced
            after = requests[-1].completed_at  # a notifier that was killed may hold all of these for a while
        return 0

    async def _announce(self, requests: Sequence[Request]) -> int:
        deliveries = {request.id: self._deliveries(request) for request in requests}
        announced = await self._documents.deliveries.announce(deliveries)
        for request in requests:
            if request.id in announced:
                self._note(request, len(deliveries[request.id]))
        return len(announced)

    def _deliveries(self, request: Request) -> list[NewDelivery]:
        urls = [request.webhook_url] if request.webhook_url else []
        return [event_of(request, url, base_url=self._base_url) for url in urls]

    def _note(self, request: Request, deliveries: int) -> None:
        metrics.REQUESTS_ANNOUNCED.labels(request.status).inc()
        with structlog.contextvars.bound_contextvars(request_id=request.id, trace_id=trace_id(request.trace)):
            _log.info("request.announced", status=request.status, deliveries=deliveries)
