"""What a process holds: renewed in one call, ended when lost, finished or given back at the stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from libs.leases import Fields, Holdings, Leases, Settle
from libs.mongo import Mongo
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop
from tests.query_plans import Recorder
from tests.waiting import until

HOUR_SECONDS = 3600.0


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


class Renewing(Leases):
    """Leases of an hour whose first renewal is due at once; `renewed` is told of each try."""

    def __init__(self, mongo: Mongo, clock: Clock | None = None) -> None:
        super().__init__(mongo, "work", Fields("rank", "ready_at"), seconds=HOUR_SECONDS, holder="one")
        self.tries: asyncio.Queue[None] = asyncio.Queue()
        self._tried = False
        self._clock = clock

    @property
    def renewal_seconds(self) -> float:
        """A third of the hour, once there was a first renewal."""
        return super().renewal_seconds if self._tried else 0.0

    async def renew(self, tokens: AbstractSet[str], ids: Iterable[Any]) -> int:
        """Renews; with a clock, MongoDB takes as long as there is between two renewals."""
        self.tries.put_nowait(None)
        self._tried = True
        if self._clock is not None:
            self._clock.now += self.renewal_seconds
        return await super().renew(tokens, ids)


@dataclass(frozen=True, slots=True)
class Item:
    """A claimed document."""

    document_id: int
    token: str


class Work:
    """Says when it has begun and how it ended; ends when `gate` is open."""

    def __init__(self, *, settles: bool = False) -> None:
        self.gate, self.begun, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.interrupted = False
        self._settles = settles

    async def __call__(self, _: Item, settle: Settle) -> None:
        """Works."""
        try:
            if self._settles:
                settle()
            self.begun.set()
            await self.gate.wait()
        except asyncio.CancelledError:
            self.interrupted = True
            raise
        finally:
            self.ended.set()


@asynccontextmanager
async def holding(
    leases: Leases, stop: Stop, *, shutdown_seconds: float = 30.0, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Holdings[Item]]:
    """Holdings of eight slots, stopped at the end of the context."""
    holdings: Holdings[Item] = Holdings(
        leases, 8, stop=stop, health=Health(), shutdown_seconds=shutdown_seconds, clock=clock
    )
    async with asyncio.timeout(60), holdings.running():
        yield holdings
        stop.set()


async def stopping(stop: Stop) -> None:
    """Asks for the stop."""
    stop.set()


def plain(mongo: Mongo) -> Leases:
    """Leases of an hour over the collection `work`."""
    return Leases(mongo, "work", Fields("rank", "ready_at"), seconds=HOUR_SECONDS, holder="one")


async def claimed(mongo: Mongo, leases: Leases, count: int) -> list[Item]:
    """As many documents, each claimed by itself."""
    await mongo.collection("work").insert_many(
        [{"_id": n, "rank": n, "state": "pending", "attempts": 0, "lost_leases": 0} for n in range(count)]
    )
    claims = [await leases.claim(1) for _ in range(count)]
    return [Item(claim.documents[0]["_id"], claim.token) for claim in claims]


async def states(mongo: Mongo) -> list[str]:
    """The state of each document."""
    return [document["state"] async for document in mongo.collection("work").find(sort=[("rank", 1)])]


async def fail_next_update(mongo: Mongo, times: int = 1, **fault: Any) -> None:
    """Makes the next updates of this test's connection fail without having been done."""
    data = {"failCommands": ["update"], "appName": "darkroom", **fault}
    await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data})


async def test_one_call_renews_every_claim(mongo: Mongo, mongo_uri: str) -> None:
    """Eight claims take one command, however slow the server answers each."""
    recorder = Recorder()
    recorded = Mongo.connect(mongo_uri, mongo.database.name, listeners=[recorder])
    stop, works = Stop(), [Work() for _ in range(8)]
    items = await claimed(mongo, plain(mongo), 8)
    before = [document["lease"]["until"] async for document in mongo.collection("work").find(sort=[("rank", 1)])]
    async with holding(plain(recorded), stop) as holdings:
        for item, work in zip(items, works, strict=True):
            holdings.start(item, work, name=str(item.document_id))
        assert await holdings.renew()
        after = [document["lease"]["until"] async for document in mongo.collection("work").find(sort=[("rank", 1)])]
        assert [command["name"] for command in recorder.commands] == ["update"]
        assert all(one < other for one, other in zip(before, after, strict=True))
        for work in works:
            work.gate.set()
    recorded.close()


async def test_work_whose_lease_is_lost_ends_unless_it_is_settled(mongo: Mongo) -> None:
    """One claim has passed to another, one has kept its lease, and the outcome of a third is being written."""
    leases, stop = plain(mongo), Stop()
    lost, kept, settled = Work(), Work(), Work(settles=True)
    items = await claimed(mongo, leases, 3)
    async with holding(leases, stop) as holdings:
        for item, work in zip(items, (lost, kept, settled), strict=True):
            holdings.start(item, work, name=str(item.document_id))
            await work.begun.wait()
        await mongo.collection("work").update_many({"_id": {"$in": [0, 2]}}, {"$set": {"lease.token": "another's"}})
        assert await holdings.renew()
        await lost.ended.wait()
        kept.gate.set()
        settled.gate.set()
    assert [work.interrupted for work in (lost, kept, settled)] == [True, False, False]


async def test_what_was_lost_and_claimed_again_goes_on_under_the_new_claim(mongo: Mongo) -> None:
    """The same document held twice: only the work of the lost claim ends."""
    leases, stop = plain(mongo), Stop()
    first, second = Work(), Work()
    [item] = await claimed(mongo, leases, 1)
    async with holding(leases, stop) as holdings:
        holdings.start(item, first, name="first")
        await first.begun.wait()
        await leases.release({item.token}, [item.document_id])
        again = await leases.claim(1)
        holdings.start(Item(item.document_id, again.token), second, name="second")
        await second.begun.wait()
        assert await holdings.renew()
        await first.ended.wait()
        second.gate.set()
    assert (first.interrupted, second.interrupted) == (True, False)


async def test_a_renewal_that_failed_is_tried_again_soon(mongo: Mongo) -> None:
    """Not a third of the lease later, which here is twenty minutes."""
    leases, stop, work = Renewing(mongo), Stop(), Work()
    [item] = await claimed(mongo, leases, 1)
    await fail_next_update(mongo, closeConnection=True)
    async with holding(leases, stop) as holdings:
        holdings.start(item, work, name="renewed")
        for _ in range(2):
            await leases.tries.get()
        work.gate.set()


async def test_a_slow_renewal_does_not_put_off_the_next(mongo: Mongo) -> None:
    """The rate is counted from where a renewal begins: one that took twenty minutes is followed by the next at once."""
    clock = Clock()
    leases, stop, work = Renewing(mongo, clock), Stop(), Work()
    [item] = await claimed(mongo, leases, 1)
    async with holding(leases, stop, clock=clock) as holdings:
        holdings.start(item, work, name="renewed")
        for _ in range(2):
            await leases.tries.get()
        work.gate.set()


async def test_nothing_waits_for_a_change_after_the_stop(mongo: Mongo) -> None:
    """The stop cannot be missed, whoever has taken note of it before."""
    stop, work = Stop(), Work()
    leases = plain(mongo)
    [item] = await claimed(mongo, leases, 1)
    async with holding(leases, stop) as holdings:
        holdings.start(item, work, name="held")
        await asyncio.gather(holdings.wait(), stopping(stop))
        await holdings.wait()
        work.gate.set()
    assert not work.interrupted


async def test_a_wait_ends_when_something_has_left_or_the_time_is_up(mongo: Mongo) -> None:
    """Also when it left before the wait began."""
    leases, stop, work = plain(mongo), Stop(), Work()
    [item] = await claimed(mongo, leases, 1)
    async with holding(leases, stop) as holdings:
        holdings.start(item, work, name="held")
        await holdings.wait(0.01)
        assert holdings.free == 7
        work.gate.set()
        await work.ended.wait()
        await holdings.wait()
        assert holdings.free == 8


async def test_what_is_settled_gives_its_slot_back_until_128_are_being_written(mongo: Mongo) -> None:
    """The work goes on while outcomes are written, but not without bound."""
    leases, stop, written = plain(mongo), Stop(), Work(settles=True)
    items = await claimed(mongo, leases, 134)
    async with holding(leases, stop) as holdings:
        for first in range(0, 128, 8):
            for item in items[first : first + 8]:
                holdings.start(item, written, name="written")
            assert holdings.free == 0
            await holdings.wait()
            assert holdings.free == 8
        for item in items[128:]:
            holdings.start(item, written, name="written too")
        await holdings.wait()
        assert holdings.free == 2
        written.gate.set()


async def test_the_time_to_shut_down_runs_from_the_stop(mongo: Mongo) -> None:
    """What the stop found running has no more time when that has passed before the work is looked at."""
    clock, stop, work = Clock(), Stop(), Work()
    leases = plain(mongo)
    [item] = await claimed(mongo, leases, 1)
    async with holding(leases, stop, shutdown_seconds=HOUR_SECONDS, clock=clock) as holdings:
        holdings.start(item, work, name="hanging")
        await work.begun.wait()
        await asyncio.gather(holdings.wait(), stopping(stop))
        clock.now += 2 * HOUR_SECONDS
    assert work.interrupted
    assert await states(mongo) == ["pending"]


async def test_at_the_stop_an_outcome_is_written_and_the_rest_given_back(mongo: Mongo) -> None:
    """With no time left, what is settled goes on, what is not is interrupted and pending again at no charge."""
    stop, running, settled = Stop(), Work(), Work(settles=True)
    leases = plain(mongo)
    items = await claimed(mongo, leases, 2)

    async def open_the_gate() -> None:
        async def given_back() -> bool:
            return await states(mongo) == ["pending", "processing"]

        await until(given_back, "what was not settled is given back")
        settled.gate.set()

    async with asyncio.TaskGroup() as tasks, holding(leases, stop, shutdown_seconds=0) as holdings:
        for item, work in zip(items, (running, settled), strict=True):
            holdings.start(item, work, name=str(item.document_id))
            await work.begun.wait()
        tasks.create_task(open_the_gate())
    assert (running.interrupted, settled.interrupted) == (True, False)
    assert await mongo.collection("work").count_documents({"attempts": 0, "lost_leases": 0}) == 2


@pytest.mark.parametrize("errors", [1, 2])
async def test_giving_back_goes_on_after_an_error(mongo: Mongo, errors: int) -> None:
    """Every claim is given back, though MongoDB refused at first."""
    stop, works = Stop(), [Work(), Work()]
    leases = plain(mongo)
    items = await claimed(mongo, leases, 2)
    async with holding(leases, stop, shutdown_seconds=0) as holdings:
        for item, work in zip(items, works, strict=True):
            holdings.start(item, work, name=str(item.document_id))
            await work.begun.wait()
        await fail_next_update(mongo, errors, errorCode=50)
    assert await states(mongo) == ["pending", "pending"]
