"""Getting deliveries to silent hosts out of the way of all others."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from libs.documents.delivery import endpoint_of
from libs.leases import IN_ORDER
from libs.mongo import BY_ID, Collection, Document, Mongo, Session
from libs.webhooks import JITTER


@dataclass(frozen=True, slots=True)
class PutOff:
    """What became of deliveries to silent hosts: how many went elsewhere, how many wait, how many failed by host."""

    moved: int
    delayed: int
    failed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Silent:
    """Deliveries to silent hosts: those that are to go to another URL, by that, and the others by host and age."""

    moved: dict[str, list[str]]
    young: dict[str, list[str]]
    old: dict[str, list[str]]


class Clearing:
    """Puts off what is pending in the `deliveries` collection, which claims would have to read past each time."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._deliveries: Collection = mongo.collection("deliveries")
        self._endpoints: Collection = mongo.collection("endpoints")

    async def put_off(self, hosts: Mapping[str, tuple[float, str]], *, give_up_seconds: float, most: int) -> PutOff:
        """Gets those of the first `most` pending deliveries out of the way that go to one of `hosts`, at no charge.

        `hosts` has for each how long they are delayed, to which up to a fifth is added at random, and the code of what
        is wrong with it. It is the reason of those that fail by this: those whose event was `give_up_seconds` ago or
        more. Those of an endpoint that has moved to another host stay pending, and go there.
        """
        silent = await self._silent(list(hosts), give_up_seconds, most)
        moved = sum([await self._change(ids, _moved(url)) for url, ids in silent.moved.items()])
        delayed = sum([await self._change(ids, _delayed(hosts[host][0])) for host, ids in silent.young.items()])
        failed = {host: await self._change(ids, _failed(hosts[host][1])) for host, ids in silent.old.items()}
        return PutOff(moved, delayed, {host: count for host, count in failed.items() if count})

    async def _silent(self, hosts: Sequence[str], give_up_seconds: float, most: int) -> "_Silent":
        seconds_now = {"$divide": [{"$toLong": "$$NOW"}, 1000]}
        front = self._deliveries.aggregate(
            [
                {"$match": {"state": "pending"}},
                {"$sort": {"rank": 1}},
                {"$limit": most},
                {"$match": {"endpoint": {"$in": hosts}}},
                {
                    "$project": {
                        "endpoint": 1,
                        "endpoint_id": 1,
                        "old": {"$lte": ["$rank", {"$subtract": [seconds_now, give_up_seconds]}]},
                    }
                },
            ],
            hint=IN_ORDER,
        )
        found = await front.to_list(None)
        urls = await self._urls({document["endpoint_id"] for document in found if document.get("endpoint_id")})
        silent = _Silent({}, {}, {})
        for document in found:
            host, url = document["endpoint"], urls.get(document.get("endpoint_id"))
            if url is not None and endpoint_of(url) != host:
                silent.moved.setdefault(url, []).append(document["_id"])
            else:
                (silent.old if document["old"] else silent.young).setdefault(host, []).append(document["_id"])
        return silent

    async def _urls(self, endpoint_ids: AbstractSet[str]) -> dict[str | None, str]:
        """Where standing endpoints are now."""
        if not endpoint_ids:
            return {}
        found = self._endpoints.find({"_id": {"$in": list(endpoint_ids)}}, {"url": 1})
        return {document["_id"]: document["url"] async for document in found}

    async def _change(self, ids: Sequence[str], change: Document) -> int:
        """Changes those of `ids` that are pending still and that no transaction holds, and says how many."""

        async def work(session: Session, piece: Sequence[str]) -> int:
            wanted = {"_id": {"$in": list(piece)}, "state": "pending"}
            result = await self._deliveries.update_many(wanted, [{"$set": change}], session=session, hint=BY_ID)
            return result.matched_count

        return sum(await self._mongo.transact_in_pieces(ids, work))


def _moved(url: str) -> Document:
    return {"url": {"$literal": url}, "endpoint": {"$literal": endpoint_of(url)}}


def _delayed(seconds: float) -> Document:
    pause = {"$multiply": [seconds * 1000, {"$add": [1, {"$multiply": [JITTER, {"$rand": {}}]}]}]}
    return {"state": "delayed", "next_attempt_at": {"$add": ["$$NOW", pause]}}


def _failed(code: str) -> Document:
    return {"state": "failed", "reason": {"$literal": code}, "ended_at": "$$NOW"}
