"""Who may read a change stream: permits on a real MongoDB, and consumers with and without one."""

import asyncio
from contextlib import AsyncExitStack

from libs.changestream import Permits
from libs.mongo import Mongo
from libs.runtime import metrics
from tests.consumers import Recorder, consuming
from tests.waiting import until


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


async def expire(mongo: Mongo, consumer: str) -> None:
    """Lets every permit of the consumer end, as time would."""
    ended = {"$map": {"input": {"$objectToArray": "$holders"}, "in": {"k": "$$this.k", "v": "$$NOW"}}}
    past = {"$arrayToObject": ended}
    await mongo.collection("permits").update_one({"_id": consumer}, [{"$set": {"holders": past}}])


async def test_no_more_permits_are_given_than_there_are(mongo: Mongo) -> None:
    """However many ask at once, the first ones get them, and another consumer's are its own."""
    asking = [Permits(mongo, "a", limit=3) for _ in range(12)]
    async with AsyncExitStack() as stack:
        given = await asyncio.gather(*(stack.enter_async_context(permits.one()) for permits in asking))
        assert sum(permit is not None for permit in given) == 3
        async with Permits(mongo, "a", limit=3).one() as late, Permits(mongo, "b", limit=3).one() as other:
            assert late is None
            assert other is not None


async def test_a_permit_is_free_again_when_its_holder_leaves(mongo: Mongo) -> None:
    """The next one to ask gets it at once."""
    permits = Permits(mongo, "a", limit=1)
    async with permits.one() as first:
        assert first is not None
        async with permits.one() as second:
            assert second is None
    async with permits.one() as third:
        assert third is not None


async def test_with_a_limit_of_nought_nobody_reads(mongo: Mongo) -> None:
    """Then every replica looks for work by itself."""
    async with Permits(mongo, "a", limit=0).one() as permit:
        assert permit is None


async def test_a_permit_lasts_as_long_as_it_is_asked_for(mongo: Mongo) -> None:
    """It is renewed when a third of its time is over, and no earlier."""
    clock = Clock()
    async with Permits(mongo, "a", limit=1, seconds=60, clock=clock).one() as permit:
        assert permit is not None
        [before] = (await mongo.collection("permits").find_one({"_id": "a"}) or {})["holders"].values()
        assert await permit.lasts()
        [same] = (await mongo.collection("permits").find_one({"_id": "a"}) or {})["holders"].values()
        clock.now = 20.0
        assert await permit.lasts()
        [after] = (await mongo.collection("permits").find_one({"_id": "a"}) or {})["holders"].values()
    assert before == same < after


async def test_a_permit_that_has_lapsed_is_another_s(mongo: Mongo) -> None:
    """Who did not ask in time is told so, for good, and another may have it; leaving takes nothing from that one."""
    clock = Clock()
    permits = Permits(mongo, "a", limit=1, seconds=60, clock=clock)
    async with AsyncExitStack() as stack:
        async with permits.one() as slept:
            assert slept is not None
            await expire(mongo, "a")
            new = await stack.enter_async_context(permits.one())
            assert new is not None
            clock.now = 20.0
            assert not await slept.lasts()
            assert not await slept.lasts()
            assert await new.lasts()
        clock.now = 40.0
        assert await new.lasts()


async def test_a_consumer_without_a_permit_looks_for_work_itself(mongo: Mongo) -> None:
    """It is ready, opens no stream, and finds what is inserted although no sweep is near."""
    recorder, ready = Recorder(mongo), asyncio.Event()
    events = metrics.STREAM_EVENTS.labels("test")
    before = events._value.get()
    async with consuming(mongo, recorder, readers=0, on_ready=ready.set):
        async with asyncio.timeout(30):
            await ready.wait()
        await mongo.collection("work").insert_one({"_id": 1})
        assert await recorder.next_taken() == 1
        await recorder.woken_by("poll")
    assert events._value.get() == before


async def test_a_consumer_without_a_permit_still_sweeps(mongo: Mongo) -> None:
    """Polls cost little and find little; what only a sweep finds does not wait for a stream."""
    recorder = Recorder(mongo)
    async with consuming(mongo, recorder, readers=0, sweep_seconds=0.01):
        await recorder.woken_by("sweep")


async def test_a_permit_passes_on_when_a_consumer_stops(mongo: Mongo) -> None:
    """Of two consumers one listens; when it stops, the other does."""
    first, second = Recorder(mongo), Recorder(mongo)
    async with consuming(mongo, first) as (stop, _):
        await first.woken_by("listen")
        async with consuming(mongo, second):
            await second.woken_by("poll")
            stop.set()
            await second.woken_by("listen")


async def test_a_busy_consumer_leaves_its_permit_to_another(mongo: Mongo) -> None:
    """While one drains for longer than its permit lasts, another listens; behind the drain it goes on without."""
    busy, idle = Recorder(mongo), Recorder(mongo)
    busy.gate.clear()
    async with consuming(mongo, busy):
        await busy.entered.wait()
        busy.gate.set()
        await busy.woken_by("listen")
        busy.gate.clear()
        busy.entered.clear()
        await mongo.collection("work").insert_one({"_id": 1})
        await busy.entered.wait()
        await expire(mongo, "test")
        async with consuming(mongo, idle):
            await idle.woken_by("listen")
            busy.gate.set()

            async def polls() -> bool:
                return (await busy.wakes.get()).cause == "poll"

            await until(polls, "the busy one looks for work itself")
