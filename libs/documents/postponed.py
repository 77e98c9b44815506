"""Images that are put off untried, since their host has its share, and those that are wanted back before their time."""

from collections.abc import Iterable, Sequence

from libs.mongo import BY_ID, Collection, Document, Mongo, Session


class Postponed:
    """Pending images become delayed and pending again, at no charge, where that brings others to the front.

    What a transaction holds is passed over.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._collection: Collection = mongo.collection("images")

    async def is_before_others(self, hosts: Iterable[str], rank: float, *, among: int) -> bool:
        """Whether what stands at `rank` stands before other hosts' images, among so many pending ones from there on."""
        found = self._collection.aggregate(
            [
                {"$match": {"state": "pending", "rank": {"$gte": rank}}},
                {"$sort": {"rank": 1}},
                {"$limit": among},
                {"$match": {"host": {"$nin": list(hosts)}}},
                {"$limit": 1},
                {"$project": {"_id": 1}},
            ]
        )
        return bool(await found.to_list(1))

    async def put_off(self, ids: Sequence[Document], seconds: float) -> int:
        """Puts off those of `ids` that are pending for `seconds`, and says how many."""
        due = {"$add": ["$$NOW", round(seconds * 1000)]}
        return await self._change(ids, {"state": "pending"}, [{"$set": {"state": "delayed", "ready_at": due}}])

    async def bring_back(self, ids: Sequence[Document]) -> int:
        """Makes those of `ids` pending again that are delayed still, and says how many.

        One that has failed may be waiting for its next try by now, and is left alone.
        """
        untried = {"state": "delayed", "error": {"$exists": False}}
        return await self._change(ids, untried, [{"$set": {"state": "pending"}}, {"$unset": "ready_at"}])

    async def _change(self, ids: Sequence[Document], found: Document, change: Sequence[Document]) -> int:
        async def work(session: Session, piece: Sequence[Document]) -> int:
            wanted = {**found, "_id": {"$in": list(piece)}}
            return (await self._collection.update_many(wanted, change, session=session, hint=BY_ID)).matched_count

        return sum(await self._mongo.transact_in_pieces(ids, work))
