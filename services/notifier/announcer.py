"""Turns closed requests into deliveries, each exactly once."""

import structlog

from libs.documents import Documents, Request
from libs.runtime import metrics
from libs.runtime.lifecycle import Stop
from libs.runtime.trace import trace_id
from services.notifier.event import event_of

_log = structlog.get_logger()
_CHUNK = 50


class Announcer:
    """Announces what has been closed. `base_url` is where clients reach ingest."""

    def __init__(self, documents: Documents, *, base_url: str, stop: Stop) -> None:
        self._documents = documents
        self._base_url = base_url
        self._stop = stop

    async def announce(self) -> int:
        """Announces some of the closed requests, the oldest first, and says how many; 0 when none is left.

        Of several notifiers that find the same request one makes its deliveries, in a transaction; the others do not
        count it, so that none of them keeps looking for what is being announced elsewhere.
        """
        announced = 0
        for request in await self._documents.requests.unannounced(_CHUNK):
            if self._stop.is_set:
                break
            with structlog.contextvars.bound_contextvars(request_id=request.id, trace_id=trace_id(request.trace)):
                announced += await self._announce(request)
        return announced

    async def _announce(self, request: Request) -> bool:
        urls = [request.webhook_url] if request.webhook_url else []
        deliveries = [event_of(request, url, base_url=self._base_url) for url in urls]
        if not await self._documents.deliveries.announce(request.id, deliveries):
            return False
        metrics.REQUESTS_ANNOUNCED.labels(request.status).inc()
        _log.info("request.announced", status=request.status, deliveries=len(deliveries))
        return True
