"""How far a request has got: sixteen counters, so that no document is hot.

Eight workers that counted on the request itself lost three of four transactions to write conflicts, and one of five on
counters taken at random. So each keeps to a counter of its own until it meets another there.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import UpdateOne
from pymongo.errors import OperationFailure

from libs.mongo import Collection, Mongo, Session

_SLOTS = 16


@dataclass(frozen=True, slots=True)
class Counts:
    """Images in final states, and the bytes of the sources and of the outputs of the completed ones."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.completed + other.completed,
            self.failed + other.failed,
            self.cancelled + other.cancelled,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
        )

    @property
    def finished(self) -> int:
        """Images that will not change any more."""
        return self.completed + self.failed + self.cancelled

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Counts":
        """The counts in a document or subdocument."""
        return cls(*(int(document.get(name, 0)) for name in cls.__slots__))

    def document(self) -> dict[str, int]:
        """The counts as a subdocument."""
        return {name: getattr(self, name) for name in self.__slots__}


class Progress:
    """The `progress` collection: `_id` {r: request, slot}, and the counts."""

    def __init__(self, mongo: Mongo) -> None:
        self._collection: Collection = mongo.collection("progress")
        self._slot = _any_slot()

    async def add(self, counts: Mapping[str, Counts], session: Session) -> None:
        """Counts in one document of each request, by its id; a repetition after a write conflict takes other ones."""
        if not counts:
            return
        writes = [
            UpdateOne(
                {"_id": {"r": request_id, "slot": self._slot}},
                {"$inc": {name: value for name, value in counted.document().items() if value}},
                upsert=True,
            )
            for request_id, counted in counts.items()
        ]
        try:
            await self._collection.bulk_write(writes, ordered=False, session=session)
        except OperationFailure:
            self._slot = _any_slot()
            raise

    async def total(self, request_id: str) -> Counts:
        """The sum over the request's documents."""
        return (await self.totals([request_id]))[request_id]

    async def totals(self, request_ids: Sequence[str]) -> dict[str, Counts]:
        """The sums over the documents of each of these requests, of which there is at least one."""
        totals = dict.fromkeys(request_ids, Counts())
        async for document in self._collection.find({"$or": [_of(request_id) for request_id in totals]}):
            totals[document["_id"]["r"]] += Counts.of(document)
        return totals

    async def remove(self, request_id: str) -> None:
        """Forgets a request's counts."""
        await self._collection.delete_many(_of(request_id))


def _any_slot() -> int:
    return random.randrange(_SLOTS)  # noqa: S311 (spreads writes)


def _of(request_id: str) -> dict[str, Any]:
    return {"_id": {"$gte": {"r": request_id, "slot": 0}, "$lt": {"r": request_id, "slot": _SLOTS}}}
