"""Deliveries: one per request, event and endpoint, from its announcement to its last attempt."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from pymongo import IndexModel, UpdateOne

from libs.documents.requests import Requests
from libs.leases import Fields, Leases, Shares, Spread
from libs.mongo import Collection, Document, Mongo, Session

_ATTEMPTS_KEPT = 20
_AHEAD = 16


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What one endpoint is to be told.

    `body` is the exact text to send, the same at every attempt. Deliveries are attempted in order of `rank`.
    """

    request_id: str
    event: str
    url: str
    body: str
    trace: str
    rank: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: when it began by the server's clock, what came of it and how long it took.

    `status` is the HTTP status (None: no answer), `error` a reason code (None: delivered).
    """

    started_at: datetime
    seconds: float
    status: int | None
    error: str | None
    detail: str
    remote_address: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as it stands; `rank` and `body` are the announcement's.

    `endpoint` is the host and port of `url`. `token` is the lease it is held under ("" when it is not), `claimed_at`
    when it was claimed, by the server's clock (None: it has not just been claimed).
    """

    webhook_id: str
    request_id: str
    event: str
    url: str
    endpoint: str
    body: str
    trace: str
    rank: float
    state: str
    attempts_made: int
    attempts: Sequence[Attempt]
    token: str
    claimed_at: datetime | None = None

    @property
    def document_id(self) -> str:
        """The `_id` of its document."""
        return self.webhook_id


@dataclass(frozen=True, slots=True)
class Ending:
    """What an attempt comes to: a final state, or `delayed`, when the next attempt is in `seconds`."""

    delivery: Delivery
    attempt: Attempt
    state: Literal["delivered", "failed", "delayed"]
    seconds: float = 0.0


class Deliveries:
    """The `deliveries` collection; `_id` is the webhook-id, made from what makes a delivery unique."""

    def __init__(self, mongo: Mongo, requests: Requests, *, lease_seconds: float, holder: str) -> None:
        self._mongo = mongo
        self._requests = requests
        self._collection: Collection = mongo.collection("deliveries")
        fields = Fields("rank", "next_attempt_at", "attempts_made")
        # Nothing of a delivery is decoded by its holder, so it is not what ended one that died.
        self.leases = Leases(
            mongo,
            "deliveries",
            fields,
            seconds=lease_seconds,
            holder=holder,
            suspect_after=None,
            spread=Spread(ahead=_AHEAD),
        )

    async def ensure_indexes(self) -> None:
        """Makes one partial index per state that is searched for, and one to list a request's deliveries."""
        await self._collection.create_indexes([*self.leases.indexes(), IndexModel([("request_id", 1)], name="request")])

    async def announce(self, deliveries: Mapping[str, Sequence[NewDelivery]]) -> set[str]:
        """Makes the deliveries of closed requests, by request, each exactly once, in one transaction if it can be.

        Gives the requests that were announced here, and not by another before. What another is announcing now, or was
        when it was killed, is passed over.
        """

        async def work(session: Session, request_ids: Sequence[str]) -> set[str]:
            announced = await self._requests.mark_announced(request_ids, session)
            if new := [_document(delivery) for request_id in announced for delivery in deliveries[request_id]]:
                await self._collection.insert_many(new, session=session)
            return announced

        pieces = await self._mongo.transact_in_pieces(list(deliveries), work)
        return set().union(*pieces)

    async def claim(self, limit: int, *, each: int | None = None, held: Iterable[Delivery] = ()) -> list[Delivery]:
        """Claims up to `limit` deliveries that may be attempted now, about the oldest requests' first.

        No endpoint gets more than `each` at once (None: any number), those in `held` counted.
        """
        running = Counter(delivery.endpoint for delivery in held)
        shares = Shares("endpoint", each, running) if each is not None else None
        claim = await self.leases.claim(limit, shares=shares)
        while claim.outrun:  # others took them all, and there may be more
            claim = await self.leases.claim(limit, shares=shares)
        return [_delivery(document, self.leases.claimed_at(document)) for document in claim.documents]

    async def record(self, endings: Sequence[Ending]) -> list[bool]:
        """Records attempts in one call, and says of each whether its delivery was still held, so that it counts.

        It can be repeated after an error: what was recorded before counts.
        """
        writes = [self._ending(ending) for ending in endings]
        if (await self._collection.bulk_write(writes, ordered=False)).matched_count == len(writes):
            return [True] * len(writes)
        ids = [ending.delivery.webhook_id for ending in endings]
        found = await self._collection.find({"_id": {"$in": ids}}, {"recorded": 1}).to_list(None)
        recorded = {document["_id"]: document.get("recorded") for document in found}
        return [recorded.get(ending.delivery.webhook_id) == ending.delivery.token for ending in endings]

    def _ending(self, ending: Ending) -> UpdateOne:
        delivery = ending.delivery
        values = {
            "attempts_made": delivery.attempts_made + 1,
            "attempts": [asdict(made) for made in [*delivery.attempts, ending.attempt][-_ATTEMPTS_KEPT:]],
            "recorded": delivery.token,
        }
        if ending.state == "delayed":
            return self.leases.delaying(delivery.token, delivery.webhook_id, ending.seconds, values)
        return UpdateOne(
            {"_id": delivery.webhook_id, "lease.token": delivery.token},
            {"$set": {"state": ending.state, **values}, "$unset": {"lease": ""}, "$currentDate": {"ended_at": True}},
        )

    async def of_request(self, request_id: str) -> list[Delivery]:
        """Every delivery of a request."""
        found = await self._collection.find({"request_id": request_id}).to_list(None)
        return [_delivery(document) for document in found]


def endpoint_of(url: str) -> str:
    """The host and port of `url` as they are written there; the whole of it when it has none."""
    try:
        return urlsplit(url).netloc.lower() or url
    except ValueError:
        return url


def _document(new: NewDelivery) -> Document:
    unique = f"{new.request_id}\n{new.event}\n{new.url}"
    return {
        "_id": f"msg_{hashlib.sha256(unique.encode()).hexdigest()[:32]}",
        "request_id": new.request_id,
        "event": new.event,
        "url": new.url,
        "endpoint": endpoint_of(new.url),
        "body": new.body,
        "trace": new.trace,
        "state": "pending",
        "rank": new.rank,
        "created_at": datetime.fromtimestamp(new.rank, UTC),
        "attempts_made": 0,
        "attempts": [],
        "lost_leases": 0,
    }


def _delivery(document: Mapping[str, Any], claimed_at: datetime | None = None) -> Delivery:
    return Delivery(
        webhook_id=document["_id"],
        request_id=document["request_id"],
        event=document["event"],
        url=document["url"],
        endpoint=document["endpoint"],
        body=document["body"],
        trace=document["trace"],
        rank=document["rank"],
        state=document["state"],
        attempts_made=document["attempts_made"],
        attempts=[Attempt(**attempt) for attempt in document["attempts"]],
        token=document.get("lease", {}).get("token", ""),
        claimed_at=claimed_at,
    )
