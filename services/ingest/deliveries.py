"""GET /api/deliveries, and sending again: what the receivers of webhooks were told, and what they said."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import structlog
from aiohttp import web

from libs.documents import Bar, DeliveryFilter
from libs.documents import Delivery as Stored
from services.ingest.context import Context
from services.ingest.cursor import cursor_of, place_of
from services.ingest.delivery_models import (
    Deliveries,
    DeliveriesQuery,
    Delivery,
    DeliveryPath,
    FullDelivery,
    RedeliverBody,
    Redelivered,
    RedeliveredSome,
)
from services.ingest.json_answer import json_answer
from services.ingest.json_body import json_of
from services.ingest.parameters import path_of, query_of
from services.ingest.problems import ProblemError

_CHUNK = 500
_SECONDS = 5.0
_AS_STORED = (
    "request_id",
    "event",
    "endpoint_id",
    "state",
    "reason",
    "created_at",
    "ended_at",
    "next_attempt_at",
    "attempts_made",
)
_WHY: Mapping[Bar, str] = {
    "endpoint_disabled": "its endpoint is disabled, so it would not be sent; enable it first",
    "endpoint_deleted": "its endpoint was deleted, so it would not be sent",
}

_log = structlog.get_logger()


class DeliveryLog:
    """Tells what became of deliveries, and queues them again."""

    def __init__(self, context: Context, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._clock = clock

    async def page(self, request: web.Request) -> web.StreamResponse:
        """A page of deliveries, the newest first."""
        query = query_of(request, DeliveriesQuery)
        page = await self._context.documents.delivery_log.page(
            _filter(query), query.limit, behind=place_of(query.cursor)
        )
        return json_answer(
            Deliveries(deliveries=[_short(delivery) for delivery in page.deliveries], next=cursor_of(page.behind))
        )

    async def one(self, request: web.Request) -> web.StreamResponse:
        """A delivery with what is sent and every attempt."""
        path = path_of(request, DeliveryPath)
        delivery = await self._context.documents.delivery_log.get(path.delivery_id)
        if delivery is None:
            raise _unknown_delivery()
        return json_answer(_full(delivery))

    async def redeliver(self, request: web.Request) -> web.StreamResponse:
        """Queues a delivery again that has ended; 409 when its endpoint gets nothing."""
        path = path_of(request, DeliveryPath)
        redelivery = await self._context.documents.delivery_log.redeliver(path.delivery_id)
        if redelivery is None:
            raise _unknown_delivery()
        if redelivery.barred:
            raise ProblemError(409, redelivery.barred, _WHY[redelivery.barred])
        if redelivery.queued:
            _log.info("delivery.queued_again", webhook_id=path.delivery_id)
        return json_answer(Redelivered(id=path.delivery_id, queued=redelivery.queued, state=redelivery.state))

    async def redeliver_some(self, request: web.Request) -> web.StreamResponse:
        """Queues again what has ended of those asked for, chunk by chunk for some seconds at most."""
        body = await json_of(request, RedeliverBody)
        log, wanted, behind = self._context.documents.delivery_log, _filter(body), place_of(body.cursor)
        deadline = self._clock() + _SECONDS
        queued, left = 0, body.limit
        while True:
            limit = _CHUNK if left is None else min(_CHUNK, left)
            chunk = await log.redeliver_some(wanted, limit, behind=behind)
            queued, behind = queued + chunk.queued, chunk.behind
            left = None if left is None else left - chunk.queued
            if behind is None or left == 0 or self._clock() >= deadline:
                break
        if queued:
            _log.info("delivery.queued_again", queued=queued, **body.model_dump(exclude_none=True, mode="json"))
        return json_answer(RedeliveredSome(queued=queued, next=cursor_of(behind)))


def shown(url: str) -> str:
    """`url` without what its query says.

    Whoever may see the log may not be meant to call the receiver, and what is copied from a log ends up in tickets.
    Path and names are enough to know the endpoint by; the owner of a standing one sees its URL there.
    """
    address, mark, query = url.partition("#")[0].partition("?")
    parts = [part.partition("=") for part in query.split("&")] if query else []
    return address + mark + "&".join(f"{name}{sign}***" if sign else "***" for name, sign, _ in parts)


def _unknown_delivery() -> ProblemError:
    return ProblemError(404, "unknown_delivery", "there is no delivery of this id")


def _filter(asked: DeliveriesQuery | RedeliverBody) -> DeliveryFilter:
    return DeliveryFilter(
        request_id=asked.request_id,
        endpoint=asked.endpoint,
        state=asked.state,
        since=asked.since,
        until=asked.until,
        failed_since=asked.failed_since,
    )


def _short(delivery: Stored) -> Delivery:
    last: dict[str, Any] | None = asdict(delivery.attempts[-1]) if delivery.attempts else None
    if last:
        del last["response"]
    return Delivery.model_validate({**_common(delivery), "last_attempt": last})


def _full(delivery: Stored) -> FullDelivery:
    attempts = [asdict(attempt) for attempt in delivery.attempts]
    for attempt in attempts:
        headers = attempt["response"]["headers"]
        attempt["response"]["headers"] = [{"name": name, "value": value} for name, value in headers]
    return FullDelivery.model_validate({**_common(delivery), "body": delivery.body, "attempts": attempts})


def _common(delivery: Stored) -> dict[str, Any]:
    fields = {name: getattr(delivery, name) for name in _AS_STORED}
    return {**fields, "id": delivery.webhook_id, "host": delivery.endpoint, "url": shown(delivery.url)}
