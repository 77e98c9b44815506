"""Which of a consumer's idle replicas may read a change stream: a few, by lease.

mongod filters the oplog once for every stream. At 300 unrelated writes/s 4, 16 and 64 of them took 42, 83 and 150 % of
a core, as many clients that look for work every second 36, 35 and 39 %.
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pymongo
import structlog
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from libs.mongo import Collection, Document, Mongo

_log = structlog.get_logger()
_SECONDS = 6.0
_GIVE_BACK_SECONDS = 1.0


class Permit:
    """Leave to read a stream. It lapses when nobody asks for it: a replica that is busy, or dead, has given it back."""

    def __init__(
        self, permits: Collection, consumer: str, token: str, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._permits = permits
        self._consumer = consumer
        self._field = f"holders.{token}"
        self._seconds = seconds
        self._clock = clock
        self._renew_at = clock() + seconds / 3

    async def lasts(self) -> bool:
        """Whether it may still be used, renewing it at a third of its length; false: another may have it by now."""
        if self._clock() < self._renew_at:
            return True
        now = self._clock()
        held = {"_id": self._consumer, "$expr": {"$gt": [f"${self._field}", "$$NOW"]}}
        result = await self._permits.update_one(held, [{"$set": {self._field: _until(self._seconds)}}])
        if result.matched_count:
            self._renew_at = now + self._seconds / 3
        return result.matched_count == 1

    async def give_back(self) -> None:
        """Lets another replica have it at once; what MongoDB does not take back in a second lapses."""
        try:
            with pymongo.timeout(_GIVE_BACK_SECONDS):
                await self._permits.update_one({"_id": self._consumer}, {"$unset": {self._field: ""}})
        except PyMongoError as error:
            _log.info("permit.lapses", consumer=self._consumer, error=repr(error)[:300])


class Permits:
    """Leave for at most `limit` replicas of `consumer` at once to read a stream, each for `seconds` unless renewed.

    One document for each consumer: `_id` its name, `holders` {token: end of the permit by the server's clock}.
    """

    def __init__(
        self,
        mongo: Mongo,
        consumer: str,
        *,
        limit: int,
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collection: Collection = mongo.collection("permits")
        self._consumer = consumer
        self._limit = limit
        self._seconds = seconds
        self._clock = clock

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Permit | None]:
        """A permit, given back at the end of the context; None: all are taken."""
        permit = await self._take()
        try:
            yield permit
        finally:
            if permit is not None:
                await permit.give_back()

    async def _take(self) -> Permit | None:
        if not await self._is_one_free():
            return None
        token = secrets.token_hex(16)
        permit = Permit(self._collection, self._consumer, token, self._seconds, self._clock)
        with_ours = {"$mergeObjects": ["$$live", {token: _until(self._seconds)}]}
        document = await self._collection.find_one_and_update(
            {"_id": self._consumer},
            [{"$set": {"holders": {"$let": {"vars": {"live": _live()}, "in": self._if_free(with_ours)}}}}],
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return permit if token in document["holders"] else None

    async def _is_one_free(self) -> bool:
        # Most of many replicas ask in vain, once a second: a read costs less than a write that changes nothing.
        found = await self._collection.find_one(
            {"_id": self._consumer}, {"free": {"$lt": [{"$size": {"$objectToArray": _live()}}, self._limit]}}
        )
        return self._limit > 0 if found is None else bool(found["free"])

    def _if_free(self, changed: Document) -> Document:
        return {"$cond": [{"$lt": [{"$size": {"$objectToArray": "$$live"}}, self._limit]}, changed, "$$live"]}


def _live() -> Document:
    holders = {"$objectToArray": {"$ifNull": ["$holders", {}]}}
    return {"$arrayToObject": {"$filter": {"input": holders, "cond": {"$gt": ["$$this.v", "$$NOW"]}}}}


def _until(seconds: float) -> Document:
    return {"$add": ["$$NOW", round(seconds * 1000)]}
