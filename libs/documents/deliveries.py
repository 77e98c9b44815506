"""Deliveries: one per request, event and endpoint, from its announcement to its last attempt."""

import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from pymongo import UpdateOne

from libs.documents.announcement import Announcement
from libs.documents.clearing import Clearing
from libs.documents.delivery import (
    DUE_AT_ONCE,
    Attempt,
    Delivery,
    Ending,
    NewDelivery,
    delivery_of,
    document_of,
    endpoint_of,
)
from libs.documents.doubts import Doubts
from libs.documents.failures import Failures
from libs.documents.requests import Requests
from libs.leases import DELAYED, Fields, Finish, Leases, Settled, Shares, Spread, Update
from libs.mongo import Collection, Document, Mongo, Session

__all__ = ["Attempt", "Deliveries", "Delivery", "Ending", "NewDelivery", "endpoint_of"]
_ATTEMPTS_KEPT = 20
_AHEAD = 16
_FIELDS = Fields("rank", "next_attempt_at", "attempts_made")
# A URL may move while a delivery waits: who has an old one finds that out before the attempt.
_CONTENT = ("request_id", "event", "url", "endpoint", "endpoint_id", "body", "trace", "created_at")
_FINISH = Finish(DELAYED, due=_FIELDS.due, ended="ended_at", history="attempts", kept=_ATTEMPTS_KEPT)


class Announced(NamedTuple):
    """The requests that were announced, and those of their deliveries that are held by that."""

    request_ids: set[str]
    held: list[Delivery]


class Exchanged(NamedTuple):
    """The deliveries that were claimed, and whether all endings were recorded; else `record` tells of each."""

    claimed: list[Delivery]
    recorded: bool


class Deliveries:
    """The `deliveries` collection; `_id` is the webhook-id, made from what makes a delivery unique."""

    def __init__(self, mongo: Mongo, requests: Requests, *, lease_seconds: float, holder: str) -> None:
        self._mongo = mongo
        self._requests = requests
        self._lease_seconds = lease_seconds
        self._collection: Collection = mongo.collection("deliveries")
        self.failures = Failures(mongo)
        self.clearing = Clearing(mongo)
        # Nothing of a delivery is decoded by its holder, so it is not what ended one that died.
        self.leases = Leases(
            mongo,
            "deliveries",
            _FIELDS,
            seconds=lease_seconds,
            holder=holder,
            suspect_after=None,
            spread=Spread(ahead=_AHEAD),
            content=_CONTENT,
        )
        self.doubts = Doubts(self._collection, self.leases, lease_seconds=lease_seconds)

    async def ensure_indexes(self) -> None:
        """Makes one partial index per state that is searched for; those of `DeliveryLog` are for lists."""
        await self._collection.create_indexes(self.leases.indexes())

    async def announce(
        self,
        deliveries: Mapping[str, Sequence[NewDelivery]],
        failures: Mapping[str, Sequence[str]] | None = None,
        *,
        beginning: AbstractSet[str] = frozenset(),
    ) -> Announced:
        """Makes the deliveries of closed requests, by request, each exactly once, in one transaction if it can be.

        `failures` has the endpoints that are to be told of each failed image of a request; see `Failures`. Gives the
        requests that were announced here, and not by another before. What another is announcing now, or was when it was
        killed, is passed over.

        Those whose webhook-id is in `beginning` are claimed by that where all is done in one transaction. Their
        attempts are to begin when this returns, which is what their `claimed_at` says. What an error leaves in doubt,
        or is there after half of its lease only, the next `doubts.settle` gives back; the leases of one who was killed
        end. What is left to others is said to those who watch requests, as `shared`.
        """
        announcement = Announcement(
            deliveries,
            failures or {},
            beginning,
            requests=self._requests,
            collection=self._collection,
            failures=self.failures,
            leases=self.leases,
        )
        began, held = time.monotonic(), list[Delivery]()
        try:
            made = await self._mongo.transact_in_pieces(list(deliveries), announcement.make)
            pieces = [piece for piece in made if piece]
            now = time.monotonic()
            if now < began + self._lease_seconds / 2:
                held = [delivery for piece in pieces for delivery in piece.begun(now)]
        finally:
            if not held:
                self.doubts.note({announcement.token}, list(announcement.sent))
        return Announced({request_id for piece in pieces for request_id in piece.request_ids}, held)

    async def queue(self, deliveries: Sequence[NewDelivery], session: Session | None = None) -> None:
        """Makes deliveries that no closed request brings about; notifiers find them within about a second.

        Fails where one of them is there already.
        """
        if deliveries:
            new = [
                UpdateOne({"_id": one.webhook_id, "state": {"$exists": False}}, _queueing(one), upsert=True)
                for one in deliveries
            ]
            await self._collection.bulk_write(new, ordered=False, session=session)

    async def claim(
        self, limit: int, *, each: int | None = None, running: Mapping[str, int] | None = None
    ) -> list[Delivery]:
        """Claims up to `limit` deliveries that may be attempted now, about the oldest requests' first.

        No host gets more than `each` at once (None: any number), those counted in `running`.
        """
        return (await self.exchange((), limit, each=each, running=running)).claimed

    async def exchange(
        self,
        endings: Sequence[Ending],
        limit: int,
        *,
        each: int | None = None,
        running: Mapping[str, int] | None = None,
    ) -> Exchanged:
        """Records endings as `record` does and claims as `claim` does, in one call where there is something to claim.

        Where slots come free one by one, that takes four fifths of the CPU of two calls.
        """
        shares = Shares("endpoint", each, running or {}) if each is not None else None
        along = _update(endings) if endings else None
        claim = await self.leases.claim(limit, shares=shares, along=along)
        recorded = claim.along
        while claim.outrun:  # others took them all, and there may be more
            claim = await self.leases.claim(limit, shares=shares, along=None if recorded else along)
            recorded |= claim.along
        return Exchanged(
            [delivery_of(document, self.leases.claimed_at(document)) for document in claim.documents], recorded
        )

    async def record(self, endings: Sequence[Ending]) -> list[bool]:
        """Records what became of deliveries in one call, and says of each whether it was still held, so that it counts.

        Their URLs too, since an endpoint may have moved. It can be repeated after an error: what was recorded before
        counts.
        """
        update = _update(endings)
        if (await self._collection.update_many(update.wanted, update.change)).matched_count == update.documents:
            return [True] * len(endings)
        ids = [ending.delivery.webhook_id for ending in endings]
        found = await self._collection.find({"_id": {"$in": ids}}, {"recorded": 1}).to_list(None)
        recorded = {document["_id"]: document.get("recorded") for document in found}
        return [recorded.get(ending.delivery.webhook_id) == ending.delivery.token for ending in endings]

    async def of_request(self, request_id: str) -> list[Delivery]:
        """Every delivery of a request."""
        found = await self._collection.find({"request_id": request_id}).to_list(None)
        return [delivery_of(document) for document in found]


def _update(endings: Sequence[Ending]) -> Update:
    return _FINISH.update([_settled(ending) for ending in endings])


def _settled(ending: Ending) -> Settled:
    delivery = ending.delivery
    values: Document = {
        "state": ending.state,
        "url": delivery.url,
        "endpoint": delivery.endpoint,
        "attempts_made": delivery.attempts_made + (ending.attempt is not None),
        "recorded": delivery.token,
    }
    if ending.state != "delayed":
        values["reason"] = ending.reason
    made = [ending.attempt.document()] if ending.attempt else []
    return Settled(delivery.webhook_id, delivery.token, values, made, ending.seconds)


def _queueing(new: NewDelivery) -> list[Document]:
    values = {name: {"$literal": value} for name, value in document_of(new).items()}
    return [{"$set": {**values, **DUE_AT_ONCE}}]
