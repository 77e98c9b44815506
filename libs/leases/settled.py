"""What came of many held documents, written in one update although each has values of its own.

A write for each, in a bulk, takes mongod twice the CPU (220 us a delivery, and 110 in one): every one of them is
parsed, planned and, as the driver may repeat it, noted in its session by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from libs.mongo import Document


@dataclass(frozen=True, slots=True)
class Settled:
    """The `values` of a held document from now on, its `state` among them; when delayed, it is for `delay_seconds`.

    `entries` are added to its history.
    """

    document_id: Any
    token: str
    values: Mapping[str, Any]
    entries: Sequence[Any] = ()
    delay_seconds: float = 0.0


class Update(NamedTuple):
    """An update of `documents` documents that are `wanted`, or of fewer where some are not any more."""

    wanted: Document
    change: Sequence[Document]
    documents: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The fields that `settled` documents have beside their values.

    `due`: the date one in the state `delayed` is due; `ended`: the date any other has come to its end, both by the
    server's clock; `history`: a list, of which the last `kept` entries stay.
    """

    delayed: str
    due: str
    ended: str
    history: str
    kept: int

    def update(self, settled: Sequence[Settled]) -> Update:
        """Finds those that are still held, each under its own token, and changes them."""
        keys = {"$literal": [[one.document_id, one.token] for one in settled]}
        index = {"$indexOfArray": [keys, ["$_id", "$lease.token"]]}
        wanted = {"_id": {"$in": [one.document_id for one in settled]}, "$expr": {"$gte": [index, 0]}}
        # What is not a value is carried where the lease was, and goes with it.
        own = {
            "$literal": [
                {**one.values, "lease": {"pause": round(one.delay_seconds * 1000), "entries": one.entries}}
                for one in settled
            ]
        }
        is_delayed = {"$eq": ["$state", self.delayed]}
        history = {"$concatArrays": [f"${self.history}", "$lease.entries"]}
        change = {
            self.history: {"$slice": [history, -self.kept]},
            self.due: {"$cond": [is_delayed, {"$add": ["$$NOW", "$lease.pause"]}, "$$REMOVE"]},
            self.ended: {"$cond": [is_delayed, "$$REMOVE", "$$NOW"]},
        }
        merged = {"$mergeObjects": ["$$ROOT", {"$arrayElemAt": [own, index]}]}
        return Update(wanted, [{"$replaceWith": merged}, {"$set": change}, {"$unset": "lease"}], len(settled))
