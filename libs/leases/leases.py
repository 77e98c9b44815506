"""Claim many, renew, release, delay, promote and reap documents of any collection.

A claimed document carries `lease: {token, holder, until}`. The token is random and belongs to one claim; every later
write is conditional on it (a fencing token: M. Kleppmann, "How to do distributed locking", 2016), so a holder that
slept past its lease changes nothing. `until` is by the server's clock (`$$NOW`): no two machines' clocks are compared.
"""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pymongo
import structlog
from pymongo import IndexModel, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from libs.leases.claim import Claim, Unsure
from libs.leases.fields import DELAYED, IN_ORDER, PENDING, PROCESSING, Fields
from libs.leases.front import Front, Seen
from libs.leases.settled import Update
from libs.leases.shares import Shares
from libs.leases.spread import Spread
from libs.mongo import BY_ID, Collection, Document, Mongo, Session
from libs.runtime import metrics

_log = structlog.get_logger()


class Leases:
    """Leases over the collection `name`.

    Its documents have `state` (pending, delayed, processing or one of the caller's final states), the fields of
    `fields` and `lost_leases`. Three partial indexes carry the work; see `indexes`. One that has lost `suspect_after`
    leases may be what kills its holders, so it is claimed alone (None: they never are). `spread` says how far out of
    order documents are claimed where several claim at once.

    A claim waits for a majority of the members where `durable_claims`, so that whoever holds a document was the first
    to begin. Else an election may undo it, and another holds the document beside the first holder, whose outcome is
    fenced then as that of one that slept.

    `content` names the fields that the caller wants of a claimed document and that never change. With them a claim
    mostly takes a round trip less: of what no try was charged to and no lease lost, all is known when it is found.
    """

    def __init__(
        self,
        mongo: Mongo,
        name: str,
        fields: Fields,
        *,
        seconds: float,
        holder: str,
        suspect_after: int | None = 2,
        spread: Spread | None = None,
        durable_claims: bool = True,
        content: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._mongo = mongo
        self._collection: Collection = mongo.collection(name)
        self._claiming: Collection = mongo.collection(name, durable=durable_claims)
        self._fields = fields
        self._seconds = seconds
        self._holder = holder
        self._suspect_after = suspect_after
        self._spread = spread or Spread()
        self._front = Front(self._collection, fields, self._spread, suspect_after=suspect_after, content=content)
        self._untouched: Document = {fields.attempts: 0, "lost_leases": 0}
        self._unsure: Unsure | None = None

    @property
    def renewal_seconds(self) -> float:
        """How often a running claim is to be renewed."""
        return self._seconds / 3

    def indexes(self) -> list[IndexModel]:
        """One partial index per state that is searched for, named after the state; see also `IN_ORDER`.

        That one has the state too: so what stands before a window is passed over in the index, where MongoDB would read
        each document for its state (eight claimers at one front: 10 documents read for each claimed, then 4).
        """
        covered = {
            IN_ORDER: (PENDING, [self._fields.order, "state"]),
            DELAYED: (DELAYED, [self._fields.due]),
            PROCESSING: (PROCESSING, ["lease.until"]),
        }
        return [
            IndexModel([(field, 1) for field in fields], name=name, partialFilterExpression={"state": state})
            for name, (state, fields) in covered.items()
        ]

    async def claim(
        self,
        limit: int,
        *,
        start: float | None = None,
        beside: int = 0,
        shares: Shares | None = None,
        along: Update | None = None,
    ) -> Claim:
        """Claims up to `limit` of the first pending documents from `start` on; an empty claim when there is none.

        `beside` is how many the caller holds already: only with none is a suspect claimed, by itself. When a suspect is
        next, nothing else is claimed either, or it would wait for as long as there is other work. What has its share
        of `shares` is passed over. `along` is another update of the collection, to be done before the claim's and sent
        with it, where there is something to claim: under load they cost little more than one. It must bear repetition.

        Three round trips for any number: find, update those still pending, find what carries the token. The last one is
        not needed for one document where nothing goes along, nor where all have been got and their content is known.
        When MongoDB errs on the way, the next call begins with what may have been claimed all the same.
        """
        if self._unsure is not None:
            return await self._recovered(self._unsure)
        limit = self._spread.limit(limit)
        seen = await self._look(limit, start, shares)
        token = secrets.token_hex(16)
        if not seen.front or (seen.alone and beside):
            return Claim(token, [], seen.alone, seen.first, withheld=seen.withheld, exhausted=seen.exhausted)
        candidates = seen.front[:1] if seen.alone else self._spread.pick(self._front.innocent(seen.front), limit)
        if shares is not None:
            picked, candidates = len(candidates), shares.admit(candidates)
            self._spread.let_in(picked, len(candidates))
        ids = [document["_id"] for document in candidates]
        lease = {"token": token, "holder": self._holder, "until": self._until(), "alone": seen.alone}
        wanted: Document = {"_id": {"$in": ids}, "state": PENDING}
        if self._suspect_after is not None:
            # Looked at again, since one of them may have lost a lease since it was found.
            wanted["lost_leases"] = {"$gte" if seen.alone else "$lt": self._suspect_after}
        unsure = self._unsure = Unsure(token, ids, seen.alone, seen.first)
        try:
            held, done = await self._mark(wanted, candidates, lease, along)
        except PyMongoError:
            # The driver does not retry update_many, and the server may have done it: what carries the token is ours.
            held = await self.held({token}, ids)
            if not held:
                raise
            # What the server may do yet under the token is looked for by the next claim.
            claim = self._claim_of(unsure, held)
            known = [document["_id"] for document in held]
            rest = [document_id for document_id in ids if document_id not in known]
            self._unsure = replace(unsure, ids=rest) if rest else None
            return claim
        return replace(self._claim_of(unsure, held), withheld=seen.withheld, exhausted=seen.exhausted, along=done)

    async def _look(self, limit: int, start: float | None, shares: Shares | None) -> Seen:
        return await self._front.look(limit, start, shares)

    async def _mark(
        self, wanted: Document, candidates: Sequence[Document], lease: Document, along: Update | None
    ) -> tuple[Sequence[Document], bool]:
        """Puts the lease on those of the candidates that are wanted, and gives what has it; see `Claim.along`."""
        change = [{"$set": {"state": PROCESSING, "lease": lease}}]
        if along is None and len(candidates) == 1:
            only = await self._claiming.find_one_and_update(
                wanted, change, return_document=ReturnDocument.AFTER, hint=BY_ID
            )
            return [only] if only else [], False
        zero = self._front.zero if all(map(self._is_untouched, candidates)) else None
        if zero is not None:
            wanted = {**wanted, **self._untouched}
        beside = along.documents if along else 0
        if along is None:
            written = (await self._claiming.update_many(wanted, change, hint=BY_ID)).matched_count
        else:
            updates = [UpdateMany(along.wanted, along.change), UpdateMany(wanted, change, hint=BY_ID)]
            written = (await self._collection.bulk_write(updates)).matched_count
        if zero is not None and written == beside + len(candidates):
            until = zero + timedelta(seconds=time.monotonic() + self._seconds)
            leased = {"state": PROCESSING, "lease": {**lease, "until": until}}
            return [{**document, **leased} for document in candidates], along is not None
        # What was got a moment ago is still held, by the time limit of an operation, so that the rest is the other's.
        held = await self.held({lease["token"]}, [document["_id"] for document in candidates])
        return held, along is not None and written - len(held) == beside

    def _is_untouched(self, document: Document) -> bool:
        return all(document.get(name) == value for name, value in self._untouched.items())

    async def _recovered(self, unsure: Unsure) -> Claim:
        """What of a claim that erred was done after all, its lease begun anew."""
        await self.renew({unsure.token}, unsure.ids)
        return self._claim_of(unsure, await self.held({unsure.token}, unsure.ids))

    def _claim_of(self, unsure: Unsure, held: Sequence[Document]) -> Claim:
        self._unsure = None
        self._spread.learn(len(unsure.ids), len(held))
        documents = sorted(held, key=lambda document: document[self._fields.order])
        return Claim(unsure.token, documents, unsure.alone, unsure.first, outrun=not held)

    async def held(
        self, tokens: AbstractSet[str], ids: Iterable[Any], *, session: Session | None = None
    ) -> list[Document]:
        """Those of `ids` that are still held under one of `tokens`."""
        return await self._collection.find(_held(tokens, ids), session=session).to_list(None)

    def claimed_at(self, document: Document) -> datetime:
        """When a document was claimed, by the server's clock, as the claim gives it: its lease is not renewed yet."""
        until: datetime = document["lease"]["until"]
        return until - timedelta(seconds=self._seconds)

    def leased(self, documents: Iterable[Document], token: str, now: datetime) -> list[Document]:
        """New documents as they are to be inserted by their holder, claimed at `now` by the server's clock.

        `token` is to be random, and of this alone; only what can be begun at once, as with a claim.
        """
        until = now + timedelta(seconds=self._seconds)
        lease = {"token": token, "holder": self._holder, "until": until, "alone": False}
        return [{**document, "state": PROCESSING, "lease": lease} for document in documents]

    async def renew(self, tokens: AbstractSet[str], ids: Iterable[Any]) -> int:
        """Extends the leases on `ids`, in one call for any number of claims, and says on how many."""
        held = list(ids)
        longer = [{"$set": {"lease.until": self._until()}}]
        try:
            with pymongo.timeout(self._seconds / 15):
                return (await self._collection.update_many(_held(tokens, held), longer)).matched_count
        except PyMongoError as error:
            if isinstance(error, ServerSelectionTimeoutError) or not error.timeout:
                raise
        return await self._change(_held(tokens, held), held, longer)  # one of them is locked

    async def release(self, tokens: AbstractSet[str], ids: Iterable[Any]) -> int:
        """Gives `ids` back unfinished, at no charge, and says how many were still held."""
        held = list(ids)
        return await self._change(_held(tokens, held), held, [{"$set": {"state": PENDING}}, {"$unset": "lease"}])

    async def discard(self, token: str, document_id: Any) -> bool:
        """Removes a held document that belongs to nothing any more. False: it was no longer held."""
        result = await self._collection.delete_one({"_id": document_id, "lease.token": token})
        return result.deleted_count == 1

    async def delay(self, token: str, document_id: Any, seconds: float, values: Mapping[str, Any]) -> bool:
        """Puts a held document off for `seconds` and sets `values` on it. False: it was no longer held."""
        result = await self._collection.bulk_write([self.delaying(token, document_id, seconds, values)])
        return result.matched_count == 1

    def delaying(self, token: str, document_id: Any, seconds: float, values: Mapping[str, Any]) -> UpdateOne:
        """The write that `delay` makes, for a bulk."""
        put_off = {
            "state": DELAYED,
            self._fields.due: {"$add": ["$$NOW", round(seconds * 1000)]},
            **{name: {"$literal": value} for name, value in values.items()},
        }
        return UpdateOne({"_id": document_id, "lease.token": token}, [{"$set": put_off}, {"$unset": "lease"}])

    async def tend(self) -> int:
        """Takes back what was lost and promotes what is due, and says how many became pending by it."""
        reaped = await self.reap()
        if reaped:
            metrics.LEASES_EXPIRED.labels(self.name).inc(reaped)
            _log.warning("lease.expired", collection=self.name, expired=reaped)
        return reaped + await self.promote()

    async def promote(self, limit: int = 1000) -> int:
        """Makes up to `limit` delayed documents that are due pending again, and says how many."""
        due = {"state": DELAYED, "$expr": {"$lte": [f"${self._fields.due}", "$$NOW"]}}
        return await self._take(
            due, self._fields.due, limit, [{"$set": {"state": PENDING}}, {"$unset": self._fields.due}]
        )

    async def reap(self, limit: int = 1000) -> int:
        """Takes back up to `limit` documents whose lease has ended, and says how many.

        Losing a lease is counted apart from failing, since the holder's death is rarely the document's fault; only one
        that ran alone is charged an attempt.
        """
        expired = {"state": PROCESSING, "$expr": {"$lt": ["$lease.until", "$$NOW"]}}
        charge = {"$cond": ["$lease.alone", 1, 0]}
        freed = {
            "state": PENDING,
            "lost_leases": {"$add": ["$lost_leases", 1]},
            self._fields.attempts: {"$add": [f"${self._fields.attempts}", charge]},
        }
        return await self._take(expired, "lease.until", limit, [{"$set": freed}, {"$unset": "lease"}])

    async def next_due_seconds(self) -> float | None:
        """Seconds until the next delayed document is due (0 when one is), or None when none is delayed."""
        cursor = self._collection.aggregate(
            [
                {"$match": {"state": DELAYED}},
                {"$sort": {self._fields.due: 1}},
                {"$limit": 1},
                {"$project": {"milliseconds": {"$subtract": [f"${self._fields.due}", "$$NOW"]}}},
            ]
        )
        found = await cursor.to_list(1)
        return max(0.0, found[0]["milliseconds"] / 1000) if found else None

    async def _take(self, wanted: Document, order: str, limit: int, change: Sequence[Document]) -> int:
        """Changes the first `limit` of what is wanted, and says how many."""
        ids = await self._ids(wanted, order, limit)
        return await self._change(wanted, ids, change) if ids else 0

    async def _ids(self, wanted: Mapping[str, Any], order: str, limit: int) -> list[Any]:
        found = await self._collection.find(
            wanted, {"_id": 1}, sort=[(order, 1)], limit=limit, batch_size=limit
        ).to_list(None)
        return [document["_id"] for document in found]

    async def _change(self, wanted: Document, ids: Sequence[Any], change: Sequence[Document]) -> int:
        """Changes those of `ids` that are still wanted and that no transaction holds, and says how many.

        One that was killed in the middle is kept open for up to a minute; nearly all else need not wait for it.
        """

        async def work(session: Session, piece: Sequence[Any]) -> int:
            found = {**wanted, "_id": {"$in": list(piece)}}
            return (await self._collection.update_many(found, change, session=session, hint=BY_ID)).matched_count

        return sum(await self._mongo.transact_in_pieces(ids, work))

    def _until(self) -> dict[str, list[Any]]:
        return {"$add": ["$$NOW", round(self._seconds * 1000)]}


def _held(tokens: AbstractSet[str], ids: Iterable[Any]) -> Document:
    return {"_id": {"$in": list(ids)}, "lease.token": {"$in": list(tokens)}}
