"""Leases over a plain collection on a real MongoDB."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import PyMongoError

from libs.leases import Fields, Leases, Shares, Spread
from libs.leases.front import Seen
from libs.mongo import Mongo
from tests.query_plans import Recorder, statements


class Slow(Leases):
    """A holder to which `meanwhile` happens once, between the find and the update of what it does next."""

    def __init__(self, mongo: Mongo, meanwhile: Callable[[], Awaitable[None]], content: Sequence[str] = ()) -> None:
        super().__init__(mongo, "work", Fields("rank", "ready_at"), seconds=15.0, holder="slow", content=content)
        self._meanwhile = meanwhile

    async def _look(self, limit: int, start: float | None, shares: Shares | None) -> Seen:
        seen = await super()._look(limit, start, shares)
        await self._meanwhile()
        return seen

    async def _ids(self, wanted: Mapping[str, Any], order: str, limit: int) -> list[Any]:
        found = await super()._ids(wanted, order, limit)
        await self._meanwhile()
        return found


def leases(mongo: Mongo, *, seconds: float = 15.0, holder: str = "one") -> Leases:
    """Leases over the collection `work`."""
    return Leases(mongo, "work", Fields("rank", "ready_at"), seconds=seconds, holder=holder)


async def add(mongo: Mongo, *ranks: float, lost_leases: int = 0) -> None:
    """Adds pending documents whose `_id` is their rank."""
    await mongo.collection("work").insert_many(
        [{"_id": rank, "rank": rank, "state": "pending", "attempts": 0, "lost_leases": lost_leases} for rank in ranks]
    )


async def expire(mongo: Mongo) -> None:
    """Lets every lease have ended by the server's clock."""
    await mongo.collection("work").update_many(
        {"state": "processing"}, [{"$set": {"lease.until": {"$subtract": ["$$NOW", 1]}}}]
    )


async def test_claims_follow_the_rank(mongo: Mongo) -> None:
    """The lowest ranks are claimed first, and a start leaves out those before it."""
    await add(mongo, 3, 1, 2, 5, 4)
    first = await leases(mongo).claim(2)
    later = await leases(mongo).claim(9, start=4)
    assert [document["_id"] for document in first.documents] == [1, 2]
    assert [document["_id"] for document in later.documents] == [4, 5]


async def test_a_claim_of_what_was_never_touched_gives_it_as_a_look_at_it_does(mongo: Mongo) -> None:
    """In two commands; its lease ends when the server says."""
    await add(mongo, 1, 2, 3)
    recorder = Recorder()
    listened = Mongo.connect(mongo.uri, mongo.database.name, listeners=[recorder])
    fields = Fields("rank", "ready_at")
    holder = Leases(listened, "work", fields, seconds=15.0, holder="one", content=("state",))
    try:
        claim = await holder.claim(3)
    finally:
        listened.close()
    assert [command["name"] for command in recorder.commands] == ["find", "update"]
    for document, stored in zip(claim.documents, await leases(mongo).held({claim.token}, [1, 2, 3]), strict=True):
        assert {name: document[name] for name in stored if name != "lease"} == {
            name: value for name, value in stored.items() if name != "lease"
        }
        assert document["lease"]["token"] == stored["lease"]["token"]
        assert abs(document["lease"]["until"] - stored["lease"]["until"]) < timedelta(seconds=5)


async def test_what_was_touched_since_it_was_found_is_not_claimed_as_it_was(mongo: Mongo) -> None:
    """Another has tried it meanwhile: the claim gets the rest, and the next one what has become of it."""
    await add(mongo, 1, 2)
    work = mongo.collection("work")

    async def try_the_first() -> None:
        await work.update_one({"_id": 1}, {"$set": {"attempts": 1}})

    holder = Slow(mongo, try_the_first, ("state",))
    assert [document["_id"] for document in (await holder.claim(2)).documents] == [2]
    await add(mongo, 3)
    assert [(document["_id"], document["attempts"]) for document in (await holder.claim(2)).documents] == [
        (1, 1),
        (3, 0),
    ]


async def test_what_is_inserted_as_leased_is_held_as_if_it_had_been_claimed(mongo: Mongo) -> None:
    """Nobody else claims it, its holder renews it, and when its lease has ended it is taken back."""
    holder, work = leases(mongo), mongo.collection("work")
    now = (await work.database.command("hello"))["localTime"]
    fresh = [{"_id": rank, "rank": rank, "state": "pending", "attempts": 0, "lost_leases": 0} for rank in (1, 2)]
    token = secrets.token_hex(16)
    documents = holder.leased(fresh, token, now)
    assert [holder.claimed_at(document) for document in documents] == [now, now]
    await work.insert_many(documents)
    assert (await leases(mongo, holder="two").claim(2)).documents == []
    assert await holder.renew({token}, [1, 2]) == 2
    await expire(mongo)
    assert await leases(mongo, holder="two").reap() == 2
    assert await holder.renew({token}, [1, 2]) == 0


async def test_two_claimers_never_hold_the_same_document(mongo: Mongo) -> None:
    """Claims at the same time share the work without overlap, and leave nothing."""
    await add(mongo, *range(200))
    claimers = [leases(mongo, holder=str(n)) for n in range(8)]

    async def take(claimer: Leases) -> list[int]:
        taken: list[int] = []
        while documents := (await claimer.claim(7)).documents:
            taken.extend(document["_id"] for document in documents)
        return taken

    taken = [one for some in await asyncio.gather(*map(take, claimers)) for one in some]
    left = (await leases(mongo).claim(200)).documents
    assert sorted([*taken, *(document["_id"] for document in left)]) == list(range(200))


async def test_an_expired_lease_is_taken_back_and_fences_its_holder(mongo: Mongo) -> None:
    """After its end a lease can be reaped; the old holder can then neither renew, release nor delay."""
    await add(mongo, 1)
    sleeper = leases(mongo)
    slept = await sleeper.claim(1)
    assert await sleeper.reap() == 0
    await expire(mongo)
    assert await sleeper.reap() == 1
    other = await leases(mongo, holder="two").claim(1)
    assert [document["lost_leases"] for document in other.documents] == [1]
    assert await sleeper.renew({slept.token}, [1]) == 0
    assert await sleeper.release({slept.token}, [1]) == 0
    assert await sleeper.delay(slept.token, 1, 1, {}) is False
    assert await sleeper.renew({other.token}, [1]) == 1


async def test_renewal_moves_the_end(mongo: Mongo) -> None:
    """A renewed lease is not reaped, though its first end has passed."""
    await add(mongo, 1)
    holder = leases(mongo)
    claim = await holder.claim(1)
    await expire(mongo)
    assert await holder.renew({claim.token}, [1]) == 1
    assert await holder.reap() == 0


async def test_what_lost_two_leases_is_claimed_alone_and_only_then_charged(mongo: Mongo) -> None:
    """A suspect runs by itself; only losing that lease counts as an attempt."""
    await add(mongo, 1, 2, 3, lost_leases=1)
    holder = leases(mongo)
    await holder.claim(1)
    await expire(mongo)
    await holder.reap()
    suspect = await holder.claim(10)
    assert (suspect.alone, [document["_id"] for document in suspect.documents]) == (True, [1])
    others = await holder.claim(10)
    assert (others.alone, len(others.documents)) == (False, 2)
    await expire(mongo)
    assert await holder.reap() == 3
    found = {document["_id"]: document async for document in mongo.collection("work").find()}
    assert {key: value["attempts"] for key, value in found.items()} == {1: 1, 2: 0, 3: 0}


async def test_a_suspect_is_not_passed_by_while_several_claim(mongo: Mongo) -> None:
    """Once it was seen in a wide front, nothing behind it is claimed until it runs; till then little is."""
    await add(mongo, *range(1, 400))
    await mongo.collection("work").update_one({"_id": 1}, {"$set": {"lost_leases": 2}})
    spread = Spread()
    for _ in range(2):
        spread.learn(8, 0)
    holder = Leases(mongo, "work", Fields("rank", "ready_at"), seconds=15.0, holder="one", spread=spread)
    while not (claim := await holder.claim(2, beside=1)).alone:
        spread.learn(8, 0)
    assert claim.documents == []
    for _ in range(20):
        spread.learn(8, 0)
        claim = await holder.claim(2, beside=1)
        assert (claim.alone, claim.documents) == (True, [])
    assert [document["_id"] for document in (await holder.claim(2)).documents] == [1]
    assert len((await holder.claim(2, beside=1)).documents) == 2


async def test_a_claim_that_looked_behind_the_front_does_not_call_the_queue_exhausted(mongo: Mongo) -> None:
    """Little may be behind it, while the rest is still in front."""
    await add(mongo, *range(1, 31))
    spread = Spread()
    holder = Leases(mongo, "work", Fields("rank", "ready_at"), seconds=15.0, holder="one", spread=spread)
    for _ in range(20):
        spread.learn(8, 0)
        claim = await holder.claim(8)
        assert not claim.exhausted
        await holder.release({claim.token}, [document["_id"] for document in claim.documents])
    while not (claim := await holder.claim(8)).exhausted:
        pass
    assert await mongo.collection("work").count_documents({"state": "pending"}) == 0


async def test_a_wide_front_reads_no_document_that_it_passes_over(mongo: Mongo) -> None:
    """What stands before a window is passed over in the index."""
    recorder, spread = Recorder(), Spread()
    for _ in range(4):
        spread.learn(8, 0)
    await add(mongo, *range(300))
    listened = Mongo.connect(mongo.uri, mongo.database.name, listeners=[recorder])
    holder = Leases(listened, "work", Fields("rank", "ready_at"), seconds=15.0, holder="one", spread=spread)
    await mongo.collection("work").create_indexes(holder.indexes())
    try:
        for _ in range(6):
            await holder.claim(4)
    finally:
        listened.close()
    looks = [
        command["body"] for command in recorder.commands if command["name"] == "find" and "skip" in command["body"]
    ]
    assert looks
    for look in looks:
        [find] = statements({"name": "find", "body": look})
        done = (await mongo.database.command("explain", find, verbosity="executionStats"))["executionStats"]
        assert (done["totalDocsExamined"], done["totalKeysExamined"]) == (4, 4 + find["skip"])


async def test_at_an_empty_queue_a_wide_front_is_soon_narrow(mongo: Mongo) -> None:
    """So that one that has competed and is idle now looks once and not twice."""
    recorder, spread = Recorder(), Spread()
    for _ in range(8):
        spread.learn(8, 0)
    listened = Mongo.connect(mongo.uri, mongo.database.name, listeners=[recorder])
    holder = Leases(listened, "work", Fields("rank", "ready_at"), seconds=15.0, holder="one", spread=spread)
    try:
        for _ in range(64):
            await holder.claim(8)
        recorder.commands.clear()
        assert all([(await holder.claim(8)).exhausted for _ in range(16)])
    finally:
        listened.close()
    assert len(recorder.commands) == 16


async def test_a_suspect_waits_until_nothing_is_held(mongo: Mongo) -> None:
    """Beside other work neither it nor what is behind it is claimed, so its turn comes and nobody else is charged."""
    await add(mongo, 1, lost_leases=2)
    await add(mongo, 2)
    holder = leases(mongo)
    beside = await holder.claim(2, beside=1)
    assert (beside.alone, beside.documents) == (True, [])
    assert await mongo.collection("work").count_documents({"state": "pending"}) == 2
    idle = await holder.claim(2)
    assert (idle.alone, [document["_id"] for document in idle.documents]) == (True, [1])


async def test_without_suspicion_lost_leases_change_nothing(mongo: Mongo) -> None:
    """Where a document cannot be what ended its holder, it is claimed like the others and never charged."""
    await add(mongo, 1, 2, lost_leases=7)
    fields = Fields("rank", "ready_at")
    holder = Leases(mongo, "work", fields, seconds=15.0, holder="one", suspect_after=None)
    claim = await holder.claim(9, beside=3)
    assert (claim.alone, len(claim.documents)) == (False, 2)
    await expire(mongo)
    assert await holder.tend() == 2
    assert await mongo.collection("work").count_documents({"attempts": 0, "lost_leases": 8}) == 2


async def test_shares_bound_what_is_held_of_one_kind(mongo: Mongo) -> None:
    """What is held counts, what is full is passed over, and the others get the slots."""
    await add(mongo, *range(8))
    await mongo.collection("work").update_many({"_id": {"$lt": 5}}, {"$set": {"kind": "slow"}})
    await mongo.collection("work").update_many({"_id": {"$gte": 5}}, {"$set": {"kind": "quick"}})
    holder = leases(mongo)
    first = await holder.claim(4, shares=Shares("kind", 3, {"slow": 1}))
    assert [document["_id"] for document in first.documents] == [0, 1]
    second = await holder.claim(2, shares=Shares("kind", 3, {"slow": 3}))
    assert [document["_id"] for document in second.documents] == [5, 6]


async def test_tending_takes_back_and_promotes(mongo: Mongo) -> None:
    """Both count, and what is still held or not yet due is left."""
    await add(mongo, 1, 2, 3, 4)
    holder = leases(mongo)
    await holder.claim(1)
    await expire(mongo)
    claim = await holder.claim(9)
    await holder.delay(claim.token, 2, 0, {})
    await holder.delay(claim.token, 3, 3600, {})
    assert await holder.tend() == 2
    found = {document["_id"]: document["state"] async for document in mongo.collection("work").find()}
    assert found == {1: "pending", 2: "pending", 3: "delayed", 4: "processing"}


async def test_only_its_holder_discards_a_document(mongo: Mongo) -> None:
    """With the token it is gone; with another it stays."""
    await add(mongo, 1)
    claim = await leases(mongo).claim(1)
    assert await leases(mongo).discard("another", 1) is False
    assert await leases(mongo).discard(claim.token, 1) is True
    assert await mongo.collection("work").count_documents({}) == 0


async def test_a_delayed_document_waits_until_it_is_due(mongo: Mongo) -> None:
    """What is put off is not claimed before its time, carries the values it was given, and is promoted when due."""
    await add(mongo, 1, 2)
    holder = leases(mongo)
    claim = await holder.claim(2)
    assert await holder.delay(claim.token, 1, 3600, {"attempts": 1, "note": "$not an expression"})
    assert await holder.delay(claim.token, 2, 0, {"attempts": 1})
    due = await holder.next_due_seconds()
    assert due == 0
    assert await holder.promote() == 1
    assert [document["_id"] for document in (await holder.claim(9)).documents] == [2]
    waiting = await mongo.collection("work").find_one({"_id": 1})
    assert waiting is not None
    assert (waiting["state"], waiting["note"], "lease" in waiting) == ("delayed", "$not an expression", False)
    assert 3500 < (await holder.next_due_seconds() or 0) <= 3600


async def test_what_was_put_off_again_is_not_promoted_by_a_slow_sweep(mongo: Mongo) -> None:
    """A sweep that found a due document leaves it when it was tried and put off for an hour meanwhile."""
    await add(mongo, 1)
    holder = leases(mongo)
    await holder.delay((await holder.claim(1)).token, 1, 0, {})

    async def tried_again() -> None:
        await holder.promote()
        await holder.delay((await holder.claim(1)).token, 1, 3600, {})

    assert await Slow(mongo, tried_again).promote() == 0
    assert (await holder.claim(1)).documents == []


async def test_what_lost_its_second_lease_meanwhile_is_not_claimed_beside_others(mongo: Mongo) -> None:
    """A slow claim leaves what has become a suspect since it looked; the next claim takes it alone."""
    await add(mongo, 1, 2, lost_leases=1)
    holder = leases(mongo)

    async def lose_a_lease() -> None:
        await holder.claim(1)
        await expire(mongo)
        await holder.reap()

    slow = await Slow(mongo, lose_a_lease).claim(2)
    assert (slow.alone, [document["_id"] for document in slow.documents]) == (False, [2])
    suspect = await holder.claim(2)
    assert (suspect.alone, [document["_id"] for document in suspect.documents]) == (True, [1])


async def test_nothing_delayed_is_never_due(mongo: Mongo) -> None:
    """Without delayed documents there is no time to wait for."""
    assert await leases(mongo).next_due_seconds() is None


async def fail_next(mongo: Mongo, command: str, **fault: Any) -> None:
    """Makes the next `command` of this test's connection fail."""
    data = {"failCommands": [command], "appName": "darkroom", **fault}
    await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})


async def test_a_claim_whose_write_erred_but_was_done_is_kept(mongo: Mongo) -> None:
    """What carries the token is claimed, whatever the reply said."""
    await add(mongo, 1, 2)
    await fail_next(mongo, "update", writeConcernError={"code": 64, "errmsg": "waiting for replication timed out"})
    assert len((await leases(mongo).claim(2)).documents) == 2


async def test_a_claim_whose_write_was_not_done_holds_nothing(mongo: Mongo) -> None:
    """The error is raised, and the documents can be claimed again."""
    await add(mongo, 1, 2)
    await fail_next(mongo, "update", closeConnection=True)
    with pytest.raises(PyMongoError):
        await leases(mongo).claim(2)
    assert len((await leases(mongo).claim(2)).documents) == 2


async def test_a_claim_that_nobody_answered_for_is_kept_by_the_next(mongo: Mongo) -> None:
    """MongoDB did the write and then went away: the same documents come back, and are not lost until their end."""
    await add(mongo, 1, 2, 3)
    holder = leases(mongo)
    data = {"failCommands": ["find"], "appName": "darkroom", "errorCode": 50}
    await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": {"skip": 1}, "data": data})
    try:
        with pytest.raises(PyMongoError):
            await holder.claim(2)
    finally:
        await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    await expire(mongo)
    again, new = await holder.claim(2), await holder.claim(2)
    assert [document["_id"] for document in again.documents] == [1, 2]
    assert [document["_id"] for document in new.documents] == [3]
    assert again.token != new.token
    assert await holder.reap() == 0


@pytest.mark.parametrize("state", ["processing", "delayed"])
async def test_what_an_open_transaction_holds_keeps_nobody_waiting(mongo: Mongo, state: str) -> None:
    """A process killed inside a transaction leaves it open: what it wrote to is passed over, and taken when it ends."""
    await add(mongo, *range(1, 8))
    holder = leases(mongo)
    claim = await holder.claim(7)
    if state == "delayed":
        for number in range(1, 8):
            assert await holder.delay(claim.token, number, 0, {})
    await expire(mongo)
    take = holder.reap if state == "processing" else holder.promote
    async with await mongo.client.start_session() as session:
        session.start_transaction()
        await mongo.collection("work").update_many({"_id": {"$in": [2, 5]}}, {"$set": {"touched": 1}}, session=session)
        assert await take() == 5
        assert await mongo.collection("work").count_documents({"state": "pending"}) == 5
        await session.abort_transaction()
    assert await take() == 2
