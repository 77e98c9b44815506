"""The log of deliveries: what became of them, page by page, and queueing them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import IndexModel

from libs.documents.delivery import DUE_AT_ONCE, Delivery, delivery_of
from libs.documents.endpoint import Bar, bar_of
from libs.documents.endpoints import Endpoints
from libs.mongo import BY_ID, Collection, Document, Mongo, Session

_FAILED = "failed"
_FINAL = ("delivered", _FAILED)
_STATES = ("pending", "delayed", "processing", *_FINAL)
# What waits without having been tried, behind a rate limit or a silent host, would only be put off again.
_AGAIN: Document = {"$or": [{"state": {"$in": _FINAL}}, {"state": "delayed", "attempts_made": {"$gt": 0}}]}
_STANDING = {"endpoint_id": {"$gte": "ep_"}}

# What it was told is kept, and it is tried as if it were new: behind all that waits now, however old it is.
_QUEUED: list[Document] = [
    {
        "$set": {
            **DUE_AT_ONCE,
            "rank": {"$divide": [{"$toLong": "$$NOW"}, 1000]},
            "reason": None,
            "attempts_made": 0,
            "lost_leases": 0,
        }
    },
    {"$unset": "ended_at"},
]


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries; what is None does not count.

    `endpoint` is the id of a standing endpoint, or a host (with its port, if the URL has one). They were made from
    `since` on and before `until`. With `failed_since`, only those that have failed for good from then on.
    """

    request_id: str | None = None
    endpoint: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    failed_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a list a delivery stands: by the moment it is sorted by, and its id where several have the same."""

    moment: datetime
    webhook_id: str


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries, each with its last attempt alone and without `body`.

    `behind` is the place behind which there may be more (None: these were the last).
    """

    deliveries: Sequence[Delivery]
    behind: Place | None


@dataclass(frozen=True, slots=True)
class Redelivery:
    """What came of asking for a delivery again: whether it was queued by that, and the state it is in now.

    `barred` says why its endpoint gets nothing (None: it does); it was left as it is then.
    """

    queued: bool
    state: str
    barred: Bar | None = None


@dataclass(frozen=True, slots=True)
class RedeliveryChunk:
    """How many deliveries were queued, and the place behind which there may be more (None: these were the last)."""

    queued: int
    behind: Place | None


class DeliveryLog:
    """Reads the `deliveries` collection, and queues again what of it has ended or waits.

    Lists are sorted by the time of the event, those of `failed_since` by when they failed; always the newest first. So
    what comes meanwhile stands before the pages yet to be read, and nothing is given twice.
    """

    def __init__(self, mongo: Mongo, endpoints: Endpoints) -> None:
        self._mongo = mongo
        self._collection: Collection = mongo.collection("deliveries")
        self._endpoints = endpoints

    async def ensure_indexes(self) -> None:
        """Makes an index for each list: of a state, or of all; of a request; of a host; of an endpoint; of failures.

        Nobody else pays for a list with more than this: measured on two cores, 16,000 deliveries/s are stored instead
        of 22,000, and 1,800 claimed and recorded instead of 1,930.
        """
        await self._collection.create_indexes(
            [
                _listing("logged", "state", "created_at"),
                _listing("of_request", "request_id", "created_at"),
                _listing("of_host", "endpoint", "created_at"),
                _listing("of_endpoint", "endpoint_id", "created_at", partialFilterExpression=_STANDING),
                _listing("failures", "ended_at", partialFilterExpression={"state": _FAILED}),
            ]
        )

    async def page(self, wanted: DeliveryFilter, limit: int, *, behind: Place | None = None) -> DeliveryPage:
        """Up to `limit` of the deliveries that are `wanted`, those behind a place."""
        found = await self._found(wanted, limit, behind, {"body": 0, "trace": 0, "attempts": {"$slice": -1}})
        return DeliveryPage([delivery_of(document) for document in found], _last(found, wanted, limit))

    async def get(self, webhook_id: str) -> Delivery | None:
        """One delivery with its attempts; None when there is none of that id."""
        document = await self._collection.find_one({"_id": webhook_id})
        return delivery_of(document) if document else None

    async def redeliver(self, webhook_id: str) -> Redelivery | None:
        """Queues a delivery again that has ended or waits for its next attempt; None when there is none of that id.

        It keeps its id and its attempts, its schedule begins anew, and the next attempt has a timestamp of its own.
        What is queued or attempted now stays as it is: asking twice is asking once, and no holder is interfered with.
        So does what its endpoint would not get: what was delivered has not failed because its endpoint is no more.
        """
        found = await self._collection.find_one({"_id": webhook_id}, {"state": 1, "endpoint_id": 1, "attempts_made": 1})
        if found is None:
            return None
        if found["state"] not in _FINAL and not (found["state"] == "delayed" and found["attempts_made"]):
            return Redelivery(queued=False, state=found["state"])
        if barred := (await self._barred([found])).get(webhook_id):
            return Redelivery(queued=False, state=found["state"], barred=barred)
        return Redelivery(queued=await self._queue([webhook_id]) == 1, state="delayed")

    async def redeliver_some(
        self, wanted: DeliveryFilter, limit: int, *, behind: Place | None = None
    ) -> RedeliveryChunk:
        """Looks at up to `limit` of those `wanted` that have ended, behind a place; queues them as `redeliver` does.

        Where the state `delayed` is wanted it looks at these instead, and queues what waits for its next attempt.
        Called on and on with the place it gives, it comes to an end: what ends again meanwhile does so before the place
        or has been looked at already. It can be repeated after an error. What an endpoint would not get is passed over.
        """
        shown = {"created_at": 1, "ended_at": 1, "endpoint_id": 1}
        states = ("delayed",) if wanted.state == "delayed" else _FINAL
        found = await self._found(wanted, limit, behind, shown, states)
        last = _last(found, wanted, limit)
        barred = await self._barred(found)
        ids = [document["_id"] for document in found if document["_id"] not in barred]
        return RedeliveryChunk(await self._queue(ids), last)

    async def _queue(self, ids: Sequence[str]) -> int:
        """Queues those of `ids` that can be, but for what a transaction holds and changes; says how many."""

        async def work(session: Session, piece: Sequence[str]) -> int:
            wanted = {"_id": {"$in": list(piece)}, **_AGAIN}
            return (await self._collection.update_many(wanted, _QUEUED, session=session, hint=BY_ID)).modified_count

        return sum(await self._mongo.transact_in_pieces(ids, work))

    async def _barred(self, found: Sequence[Document]) -> dict[str, Bar]:
        """Those whose endpoint gets nothing, and why."""
        standing = {document["_id"]: document["endpoint_id"] for document in found if document.get("endpoint_id")}
        endpoints = await self._endpoints.of(set(standing.values())) if standing else {}
        bars = {webhook_id: bar_of(endpoints.get(endpoint_id)) for webhook_id, endpoint_id in standing.items()}
        return {webhook_id: bar for webhook_id, bar in bars.items() if bar}

    async def _found(
        self,
        wanted: DeliveryFilter,
        limit: int,
        behind: Place | None,
        projection: Mapping[str, Any],
        states: Sequence[str] = _STATES,
    ) -> list[Document]:
        if wanted.failed_since:
            states = [state for state in states if state == _FAILED]
        if wanted.state:
            states = [state for state in states if state == wanted.state]
        if not states:
            return []
        moment = _moment(wanted)
        return await self._collection.find(
            {**_query(wanted, states), **_behind(behind, wanted, moment)},
            projection,
            sort=[(moment, -1), ("_id", -1)],
            limit=limit,
            batch_size=limit,
        ).to_list(None)


def _listing(name: str, *fields: str, **options: Any) -> IndexModel:
    return IndexModel([(field, 1) for field in (*fields, "_id")], name=name, **options)


def _moment(wanted: DeliveryFilter) -> str:
    return "ended_at" if wanted.failed_since else "created_at"


def _query(wanted: DeliveryFilter, states: Sequence[str]) -> Document:
    query: Document = {}
    if wanted.request_id:
        query["request_id"] = wanted.request_id
    if wanted.endpoint:
        query["endpoint_id" if wanted.endpoint.startswith("ep_") else "endpoint"] = wanted.endpoint
    if not query or len(states) < len(_STATES):
        # Of all there are the states are named too: the server merges their parts of the index.
        query["state"] = {"$in": list(states)} if len(states) > 1 else states[0]
    return query


def _behind(behind: Place | None, wanted: DeliveryFilter, moment: str) -> Document:
    created, ended = dict[str, datetime](), dict[str, datetime]()
    if wanted.since:
        created["$gte"] = wanted.since
    if wanted.until:
        created["$lt"] = wanted.until
    if wanted.failed_since:
        ended["$gte"] = wanted.failed_since
    times = {"created_at": created, "ended_at": ended}
    if behind is None:
        return {field: range_ for field, range_ in times.items() if range_}
    times[moment]["$lte"] = behind.moment
    beside = [{moment: {"$lt": behind.moment}}, {"_id": {"$lt": behind.webhook_id}}]
    return {**{field: range_ for field, range_ in times.items() if range_}, "$or": beside}


def _last(found: Sequence[Document], wanted: DeliveryFilter, limit: int) -> Place | None:
    if len(found) < limit:
        return None
    return Place(found[-1][_moment(wanted)], found[-1]["_id"])
