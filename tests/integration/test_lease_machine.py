"""Leases on a real MongoDB against a model: holders that claim, sleep, crash and meet half way through a claim."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from libs.leases import Claim
from libs.mongo import Document, Session
from tests.lease_model import HOUR_SECONDS, Halfway, Held, Holder, Model, World, seen, world_of

ResultT = TypeVar("ResultT")
HOLDERS = st.sampled_from(["one", "two", "three"])
LIMITS = st.integers(1, 4)
WORK = st.dictionaries(st.integers(0, 7), st.integers(0, 2), min_size=1, max_size=3)
"""Ranks, and how many leases each has lost before."""
PAST = {"$subtract": ["$$NOW", 1]}


class LeaseMachine(RuleBasedStateMachine):
    """Three holders of one collection. Nothing sleeps: leases end and delays pass by moving their dates."""

    world: ClassVar[World]
    claims: Bundle[Held] = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.run = self.world.run
        name = f"work_{next(self.world.numbers)}"
        self.collection = self.world.mongo.collection(name)
        self.holders = {holder: Holder(self.world.mongo, name, holder) for holder in ("one", "two", "three")}
        self.model: dict[int, Model] = {}
        self.claimed: list[Held] = []
        self.halfway: dict[str, Halfway] = {}

    @initialize(work=WORK)
    def begin(self, work: dict[int, int]) -> None:
        """A collection with its indexes and some work."""
        self.run(self.collection.create_indexes(self.holders["one"].indexes()))
        self.add(work)

    @rule(work=WORK)
    def add(self, work: dict[int, int]) -> None:
        """More work arrives, before and behind what is there."""
        new = {rank: Model(rank, lost_leases=lost) for rank, lost in work.items() if rank not in self.model}
        if new:
            fresh = [
                {"_id": rank, "rank": rank, "state": "pending", "attempts": 0, "lost_leases": one.lost_leases}
                for rank, one in new.items()
            ]
            self.run(self.collection.insert_many(fresh))
            self.model |= new

    @rule(target=claims, name=HOLDERS, ranks=st.sets(st.integers(0, 7), min_size=1, max_size=3))
    def add_held(self, name: str, ranks: set[int]) -> Any:
        """New work arrives in the hands of its holder."""
        new = [Model(rank) for rank in ranks if rank not in self.model]
        if not new:
            return multiple()
        fresh = [{"_id": one.rank, "rank": one.rank, "attempts": 0, "lost_leases": 0} for one in new]
        token = secrets.token_hex(16)
        self.run(self.collection.insert_many(self.holders[name].leased(fresh, token, datetime.now(UTC))))
        for one in new:
            one.state, one.token, one.holder = "processing", token, name
            self.model[one.rank] = one
        held = Held(name, token, tuple(one.rank for one in new))
        self.claimed.append(held)
        return held

    # What holders do.

    @rule(
        target=claims, name=HOLDERS, limit=LIMITS, start=st.none() | st.integers(0, 7), beside=st.sampled_from([0, 2])
    )
    def claim(self, name: str, limit: int, start: int | None, beside: int) -> Any:
        """Claims the first there are from `start` on; a suspect comes alone, and not `beside` others."""
        if name in self.halfway:
            return multiple()
        adopt = self.will_claim(name, limit, start, beside)
        return adopt(self.run(self.holders[name].claim(limit, start=start, beside=beside)))

    @rule(claim=claims, data=st.data())
    def renew(self, claim: Held, data: st.DataObject) -> None:
        """Only what is still held gets a later end."""
        held = self.still_held(claim, ids := some_of(claim, data))
        assert self.run(self.holders[claim.holder].renew({claim.token}, ids)) == len(held)
        for document in held:
            document.expired = False

    @rule(claim=claims, data=st.data())
    def release(self, claim: Held, data: st.DataObject) -> None:
        """Only what is still held is given back, at no charge."""
        held = self.still_held(claim, ids := some_of(claim, data))
        assert self.run(self.holders[claim.holder].release({claim.token}, ids)) == len(held)
        for document in held:
            document.leave("pending")

    @rule(claim=claims, data=st.data(), seconds=st.sampled_from([0.0, HOUR_SECONDS]))
    def delay(self, claim: Held, data: st.DataObject, seconds: float) -> None:
        """A failed try is charged and put off, if the document is still held."""
        rank = data.draw(st.sampled_from(claim.ids))
        held = self.still_held(claim, [rank])
        attempts = self.model[rank].attempts + 1
        put_off = self.holders[claim.holder].delay(claim.token, rank, seconds, {"attempts": attempts})
        assert self.run(put_off) is bool(held)
        for document in held:
            document.leave("delayed")
            document.attempts, document.due = attempts, seconds == 0

    @rule(claim=claims, data=st.data())
    def complete(self, claim: Held, data: st.DataObject) -> None:
        """A result is written by whoever holds the token, and by nobody else."""
        held = self.still_held(claim, ids := some_of(claim, data))
        assert self.run(self.write_results(claim, ids)) == len(held)
        for document in held:
            document.leave("completed")

    async def write_results(self, claim: Held, ids: Iterable[int]) -> int:
        """Completes in a transaction what is still held, and says how many that was."""

        async def work(session: Session) -> int:
            held = await self.holders[claim.holder].held({claim.token}, ids, session=session)
            await self.collection.update_many(
                {"_id": {"$in": [document["_id"] for document in held]}},
                {"$set": {"state": "completed"}, "$unset": {"lease": ""}},
                session=session,
            )
            return len(held)

        return await self.world.mongo.transaction(work)

    @rule(claim=consumes(claims))
    def crash(self, claim: Held) -> None:
        """A holder dies: what it held comes back only when its lease has ended."""

    # What the clock does.

    @rule(claim=claims)
    def sleep_past_the_lease(self, claim: Held) -> None:
        """The lease has ended; its holder still believes in it."""
        self.expire(self.still_held(claim, claim.ids))

    @precondition(lambda self: self.in_state("processing"))
    @rule()
    def every_lease_ends(self) -> None:
        """All leases end, those of the dead too."""
        self.expire(self.in_state("processing"))

    @precondition(lambda self: self.in_state("delayed"))
    @rule()
    def an_hour_passes(self) -> None:
        """Everything that was put off is due."""
        self.run(self.collection.update_many(among(self.in_state("delayed")), [{"$set": {"ready_at": PAST}}]))
        for document in self.in_state("delayed"):
            document.due = True

    # What sweeps do.

    @precondition(lambda self: self.expired())
    @rule(name=HOLDERS)
    def reap(self, name: str) -> None:
        """Ended leases are taken back and counted; only what ran alone is charged."""
        if name not in self.halfway:
            self.will_reap()(self.run(self.holders[name].reap()))

    @precondition(lambda self: self.in_state("delayed"))
    @rule(name=HOLDERS)
    def promote(self, name: str) -> None:
        """What is due becomes pending, and nothing else."""
        self.look_ahead()
        if name not in self.halfway:
            self.will_promote()(self.run(self.holders[name].promote()))

    def look_ahead(self) -> None:
        """The next due time is now, in an hour, or never."""
        seconds = self.run(self.holders["one"].next_due_seconds())
        dues = [document.due for document in self.in_state("delayed")]
        assert (seconds is None) is (not dues)
        assert (seconds == 0) is any(dues)
        assert seconds is None or seconds <= HOUR_SECONDS

    # What one does between the find and the update of another.

    @precondition(lambda self: self.in_state("pending"))
    @rule(name=HOLDERS, limit=LIMITS)
    def begin_to_claim(self, name: str, limit: int) -> None:
        """A holder has found candidates, and is slow to take them."""
        if name not in self.halfway:
            self.begin_to(name, self.holders[name].claim(limit), self.will_claim(name, limit, None, 0))

    @precondition(lambda self: self.expired())
    @rule(name=HOLDERS)
    def begin_to_reap(self, name: str) -> None:
        """A sweep has found ended leases, and is slow to take them back."""
        if name not in self.halfway:
            self.begin_to(name, self.holders[name].reap(), self.will_reap())

    @precondition(lambda self: any(one.due for one in self.model.values()))
    @rule(name=HOLDERS)
    def begin_to_promote(self, name: str) -> None:
        """A sweep has found what is due, and is slow to promote it."""
        if name not in self.halfway:
            self.begin_to(name, self.holders[name].promote(), self.will_promote())

    def begin_to(self, name: str, work: Coroutine[Any, Any, Any], adopt: Callable[[Any], Any]) -> None:
        """Lets `work` go as far as its find."""
        holder = self.holders[name]
        holder.found.clear()
        holder.go_on.clear()
        self.halfway[name] = Halfway(self.world.loop.create_task(work), adopt)
        self.run(holder.found.wait())

    @precondition(lambda self: self.halfway)
    @rule(target=claims, data=st.data())
    def go_on(self, data: st.DataObject) -> Any:
        """The slow one gets what is still as it found it, and of the rest nothing."""
        return self.end(data.draw(st.sampled_from(sorted(self.halfway))))

    def end(self, name: str) -> Any:
        """Lets the work of a slow one end, and tells the model."""
        halfway = self.halfway.pop(name)
        self.holders[name].go_on.set()
        return halfway.adopt(self.run(waited(halfway.task)))

    # The model.

    def in_state(self, state: str) -> list[Model]:
        """The documents in `state`, in the order of their ranks."""
        return sorted((one for one in self.model.values() if one.state == state), key=lambda one: one.rank)

    def expired(self) -> list[Model]:
        """The documents whose lease has ended."""
        return [one for one in self.in_state("processing") if one.expired]

    def still_held(self, claim: Held, ids: Iterable[int]) -> list[Model]:
        """Those of `ids` whose holder has the right to write."""
        return [self.model[rank] for rank in ids if self.model[rank].token == claim.token]

    def expire(self, documents: Sequence[Model]) -> None:
        """Moves the end of these leases into the past."""
        self.run(self.collection.update_many(among(documents), [{"$set": {"lease.until": PAST}}]))
        for document in documents:
            document.expired = True

    def will_claim(self, name: str, limit: int, start: int | None, beside: int) -> Callable[[Claim], Any]:
        """What a claim does that finds its candidates now."""
        found = [one for one in self.in_state("pending") if start is None or one.rank >= start][:limit]
        alone = bool(found) and found[0].suspect
        wanted = found[: 0 if beside else 1] if alone else [one for one in found if not one.suspect]

        def adopt(claim: Claim) -> Any:
            taken = [one for one in wanted if one.state == "pending" and one.suspect is alone]
            assert [document["_id"] for document in claim.documents] == [one.rank for one in taken]
            assert claim.alone is alone
            for one in taken:
                one.state, one.token, one.holder, one.alone = "processing", claim.token, name, alone
            held = Held(name, claim.token, tuple(one.rank for one in taken))
            self.claimed.append(held)
            return held if taken else multiple()

        return adopt

    def will_reap(self) -> Callable[[int], Any]:
        """What a reaping does that finds the ended leases now."""
        found = self.expired()

        def adopt(reaped: int) -> Any:
            taken = [one for one in found if one.expired]
            assert reaped == len(taken)
            for one in taken:
                one.attempts += one.alone
                one.lost_leases += 1
                one.leave("pending")
            return multiple()

        return adopt

    def will_promote(self) -> Callable[[int], Any]:
        """What a promotion does that finds what is due now."""
        found = [one for one in self.in_state("delayed") if one.due]

        def adopt(promoted: int) -> Any:
            taken = [one for one in found if one.due]
            assert promoted == len(taken)
            for one in taken:
                one.state, one.due = "pending", None
            return multiple()

        return adopt

    # What must always hold.

    @invariant()
    def the_collection_is_as_the_model(self) -> None:
        """Nothing is lost, nothing but what a right holder did has changed anything, and the counts are right."""
        found = self.run(self.collection.find(sort=[("rank", 1)]).to_list(None))
        assert [seen(document) for document in found] == [self.model[rank].seen() for rank in sorted(self.model)]

    def at_most_one_may_write(self) -> None:
        """Of all who ever claimed a document at most one is its holder."""
        holders = [
            (document["_id"], claim.holder)
            for claim in self.claimed
            for document in self.run(self.holders[claim.holder].held({claim.token}, claim.ids))
        ]
        assert sorted(holders) == [(one.rank, one.holder) for one in self.in_state("processing")]

    def teardown(self) -> None:
        """In the end, with every lease ended and every delay passed, each document left can be claimed, and once."""
        for name in sorted(self.halfway):
            self.end(name)
        self.look_ahead()
        self.at_most_one_may_write()
        self.expire(self.in_state("processing"))
        self.reap("one")
        if self.in_state("delayed"):
            self.an_hour_passes()
        self.promote("two")
        left = {one.rank for one in self.model.values() if one.state != "completed"}
        while self.in_state("pending"):
            self.claim("three", 4, None, 0)
        self.at_most_one_may_write()
        assert {one.rank for one in self.in_state("processing")} == left
        self.the_collection_is_as_the_model()
        self.run(self.collection.drop())


def among(documents: Iterable[Model]) -> Document:
    """The filter that finds these documents."""
    return {"_id": {"$in": [document.rank for document in documents]}}


def some_of(claim: Held, data: st.DataObject) -> list[int]:
    """Some of what was claimed."""
    return data.draw(st.lists(st.sampled_from(claim.ids), min_size=1, unique=True))


async def waited(task: asyncio.Task[ResultT]) -> ResultT:
    """The task's result."""
    return await task


def test_leases_do_what_their_model_does(mongo_uri: str) -> None:
    """Whatever holders, clocks and sweeps do and in whatever order, the collection is what the model says."""
    bounds = settings(
        max_examples=40,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=set(Phase) - {Phase.shrink},  # which takes minutes; put it back to narrow a failure down
    )
    with world_of(mongo_uri) as LeaseMachine.world:
        run_state_machine_as_test(LeaseMachine, settings=bounds)
