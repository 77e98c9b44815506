"""How far a request has got: sixteen counters, so that no document is hot.

Eight workers that counted on the request itself lost three of four transactions to write conflicts, and one of five on
counters taken at random. So each keeps to a counter of its own until it meets another there.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

    async def add(self, request_id: str, counts: Counts, session: Session) -> None:
        """Counts in one of the request's documents; a repetition after a write conflict takes another one."""
        increments = {name: value for name, value in counts.document().items() if value}
        try:
            await self._collection.update_one(
                {"_id": {"r": request_id, "slot": self._slot}}, {"$inc": increments}, upsert=True, session=session
            )
        except OperationFailure:
            self._slot = _any_slot()
            raise

    async def total(self, request_id: str) -> Counts:
        """The sum over the request's documents."""
        total = Counts()
        async for document in self._collection.find(_of(request_id)):
            total += Counts.of(document)
        return total

    async def remove(self, request_id: str) -> None:
        """Forgets a request's counts."""
        await self._collection.delete_many(_of(request_id))


def _any_slot() -> int:
    return random.randrange(_SLOTS)  # noqa: S311 (spreads writes)


def _of(request_id: str) -> dict[str, Any]:
    return {"_id": {"$gte": {"r": request_id, "slot": 0}, "$lt": {"r": request_id, "slot": _SLOTS}}}
