"""Endpoints as the notifiers see them: what an attempt needs to know, whose turn it is, and how long to wait."""

from collections.abc import Collection as Ids
from dataclasses import dataclass, field
from typing import Any

from pymongo import ReturnDocument

from libs.documents.endpoint import Endpoint
from libs.mongo import Collection, Mongo

_TOLERANCE_SECONDS = 0.25
_NOW: dict[str, Any] = {"$toDouble": {"$toLong": "$$NOW"}}


@dataclass(frozen=True, slots=True)
class Addressee:
    """An endpoint, the secrets that sign now, by the server's clock, and how long its receiver asked to be left alone.

    Secrets are the newest first.
    """

    endpoint: Endpoint
    secrets: list[str] = field(repr=False)
    paused_seconds: float


class Addressees:
    """The collection of endpoints, of which notifiers change two fields of their own: `paused_until` and `turn_at`."""

    def __init__(self, mongo: Mongo) -> None:
        self._collection: Collection = mongo.collection("endpoints")

    async def of(self, endpoint_ids: Ids[str]) -> dict[str, Addressee]:
        """Those of `endpoint_ids` that there are, by id."""
        cursor = self._collection.aggregate(
            [
                {"$match": {"_id": {"$in": list(endpoint_ids)}}},
                {"$set": {"now": "$$NOW", "paused": {"$subtract": ["$paused_until", "$$NOW"]}}},
            ]
        )
        return {document["_id"]: _addressee(document) for document in await cursor.to_list(None)}

    async def pause(self, endpoint_id: str, seconds: float) -> None:
        """Leaves the endpoint alone for so long from now on, or for longer if that is agreed already."""
        until = {"$max": ["$paused_until", {"$add": ["$$NOW", round(seconds * 1000)]}]}
        await self._collection.update_one({"_id": endpoint_id}, [{"$set": {"paused_until": until}}])

    async def wait_seconds(self, endpoint_id: str, per_second: float) -> float:
        """Takes a turn at `per_second` deliveries a second, of all notifiers together: 0; or else how long to wait.

        The generic cell rate algorithm (ITU-T I.371) in one update, on the server's clock. Turns may be taken a quarter
        of a second early, so that a high rate need not be kept to the millisecond: in any t seconds there are no more
        than (t + 0.25) x `per_second` + 1.
        """
        early = {"$subtract": ["$turn_at", {"$add": [_NOW, _TOLERANCE_SECONDS * 1000]}]}
        next_turn = {"$add": ["$turn_at", 1000 / per_second]}
        document = await self._collection.find_one_and_update(
            {"_id": endpoint_id},
            [
                {"$set": {"turn_at": {"$max": ["$turn_at", _NOW]}}},
                {"$set": {"early": early}},
                {"$set": {"turn_at": {"$cond": [{"$lte": ["$early", 0]}, next_turn, "$turn_at"]}}},
            ],
            projection={"early": 1},
            return_document=ReturnDocument.AFTER,
        )
        return max(0.0, document["early"] / 1000) if document else 0.0


def _addressee(document: dict[str, Any]) -> Addressee:
    endpoint = Endpoint.of(document)
    return Addressee(endpoint, endpoint.keys_at(document["now"]), max(0.0, (document["paused"] or 0) / 1000))
