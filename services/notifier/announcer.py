"""Turns closed requests into deliveries, each exactly once."""

from collections import Counter
from collections.abc import Mapping, Sequence

import structlog
from structlog.typing import FilteringBoundLogger

from libs.documents import Documents, Endpoint, FailedImage, NewDelivery, Request, Telling
from libs.runtime import metrics
from libs.runtime.lifecycle import Stop
from libs.runtime.trace import trace_id
from services.notifier.courier import Courier
from services.notifier.event import IMAGE_FAILED, event_of, image_event_of, type_of

_CHUNK = 100
_DELIVERIES = 1_000
_TELLINGS = 8


class Announcer:
    """Announces what has been closed. `base_url` is where clients reach ingest.

    A request becomes a delivery to its own `webhook_url` and one to each endpoint that is enabled and wants the event
    at that moment, all in one transaction. Where an endpoint lists `image.failed`, the failed images follow from then
    on, in chunks, each in a transaction; whoever is killed between two of them leaves the rest to others.

    What `courier` has room for it is to attempt at once: it is claimed by its announcement.
    """

    def __init__(self, documents: Documents, courier: Courier, *, base_url: str, stop: Stop) -> None:
        self._documents = documents
        self._courier = courier
        self._base_url = base_url
        self._stop = stop
        self._looks = True

    def look_around(self) -> None:
        """Has the next `tell` look for failed images that another notifier has left untold."""
        self._looks = True

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

    async def tell(self) -> int:
        """Makes deliveries of some failed images, where this notifier has announced any or is to look around.

        Says of how many requests; 0 when none is left.
        """
        if not self._looks:
            return 0
        tellings = await self._documents.deliveries.failures.untold(_TELLINGS)
        told = 0
        for telling in tellings:
            told += await self._tell(telling)
        self._looks = told > 0
        return told

    async def _announce(self, requests: Sequence[Request]) -> int:
        if not requests:
            return 0
        # Read behind the requests: an endpoint that was there when one was closed is told of it.
        wanting = {
            event: await self._documents.endpoints.wanting(event)
            for event in {type_of(request) for request in requests}
        }
        failed = any(request.counts and request.counts.failed for request in requests)
        telling = [endpoint.id for endpoint in await self._documents.endpoints.wanting(IMAGE_FAILED)] if failed else []
        announced = 0
        chunk: dict[str, list[NewDelivery]] = {}
        failures: dict[str, Sequence[str]] = {}
        for request in requests:
            chunk[request.id] = self._deliveries(request, wanting[type_of(request)])
            if telling and request.counts and request.counts.failed:
                failures[request.id] = telling
            if request is requests[-1] or sum(map(len, chunk.values())) >= _DELIVERIES:
                announced += await self._make(requests, chunk, failures)
                chunk, failures = {}, {}
        return announced

    async def _make(
        self,
        requests: Sequence[Request],
        deliveries: Mapping[str, Sequence[NewDelivery]],
        failures: Mapping[str, Sequence[str]],
    ) -> int:
        async with self._courier.begin([new for some in deliveries.values() for new in some]) as beginning:
            announced, beginning.held = await self._documents.deliveries.announce(
                deliveries, failures, beginning=beginning.webhook_ids
            )
        self._looks |= bool(announced.intersection(failures))
        _note([(request, len(deliveries[request.id])) for request in requests if request.id in announced])
        return len(announced)

    def _deliveries(self, request: Request, endpoints: Sequence[Endpoint]) -> list[NewDelivery]:
        own = [event_of(request, request.webhook_url, base_url=self._base_url)] if request.webhook_url else []
        standing = [
            event_of(request, endpoint.url, base_url=self._base_url, endpoint_id=endpoint.id) for endpoint in endpoints
        ]
        return own + standing

    async def _tell(self, telling: Telling) -> bool:
        request = await self._documents.requests.get(telling.request_id)
        if request is None:
            raise LookupError(f"request {telling.request_id} is announced and not there")
        endpoints = await self._documents.endpoints.of(telling.endpoint_ids)

        def news(image: FailedImage) -> list[NewDelivery]:
            return [
                image_event_of(request, image, endpoint, base_url=self._base_url) for endpoint in endpoints.values()
            ]

        return await self._documents.deliveries.failures.tell(telling, request.total, news)


def _note(announced: Sequence[tuple[Request, int]]) -> None:
    """Logs each request with its number of deliveries, and counts them by status."""
    log: FilteringBoundLogger = structlog.get_logger().bind()  # once, since that is half of a line's work
    for request, deliveries in announced:
        context = {"request_id": request.id, "trace_id": trace_id(request.trace)}
        log.info("request.announced", **context, status=request.status, deliveries=deliveries)
    for status, count in Counter(request.status for request, _ in announced).items():
        metrics.REQUESTS_ANNOUNCED.labels(status).inc(count)
