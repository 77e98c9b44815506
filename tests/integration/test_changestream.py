"""Change streams and the consumer's loop on a real MongoDB."""

import asyncio

import pytest

from libs.changestream import ChangeStream, Consumer, Event, HistoryLostError, Permits
from libs.mongo import Mongo
from libs.runtime import metrics
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop
from tests.consumers import Recorder, consuming, stream
from tests.waiting import until


async def events_of(reader: ChangeStream, count: int) -> list[Event]:
    """The next `count` events."""
    events: list[Event] = []
    async with asyncio.timeout(30):
        while len(events) < count:
            events.extend((await reader.read()).events)
    return events


async def test_a_stream_gives_what_happens_after_it_was_opened(mongo: Mongo) -> None:
    """Matching events arrive in order, whole batches at a time, filtered by the server."""
    work = mongo.collection("work")
    await work.insert_one({"_id": 0})
    async with stream(mongo) as reader:
        await work.insert_many([{"_id": n} for n in range(1, 6)])
        await work.delete_one({"_id": 1})
        await work.insert_one({"_id": 6})
        assert [event["documentKey"]["_id"] for event in await events_of(reader, 6)] == [1, 2, 3, 4, 5, 6]


async def test_a_stream_resumes_where_it_broke_off(mongo: Mongo) -> None:
    """A cursor killed on the server is taken up again behind the last event, without gap or repetition."""
    work = mongo.collection("work")
    async with stream(mongo) as reader:
        await work.insert_one({"_id": 1})
        await events_of(reader, 1)
        await mongo.database.command({"killCursors": "work", "cursors": [reader._cursor]})
        await work.insert_many([{"_id": 2}, {"_id": 3}])
        assert [event["documentKey"]["_id"] for event in await events_of(reader, 2)] == [2, 3]
        assert reader.resumes == 1


async def test_a_dropped_collection_is_lost_history(mongo: Mongo) -> None:
    """When the watched collection goes, the stream says that it has to be opened anew."""
    await mongo.collection("work").insert_one({"_id": 1})
    async with stream(mongo) as reader:
        await mongo.collection("work").drop()
        with pytest.raises(HistoryLostError):
            await events_of(reader, 1)


async def test_a_consumer_drains_what_was_there_and_what_comes(mongo: Mongo) -> None:
    """Old documents are taken at the start, new ones when the stream wakes it; no sweep is near."""
    await mongo.collection("work").insert_one({"_id": "old"})
    recorder = Recorder(mongo)
    async with consuming(mongo, recorder) as (_, health):
        assert await recorder.next_taken() == "old"
        await recorder.woken_by("listen")
        await mongo.collection("work").insert_one({"_id": "new"})
        assert await recorder.next_taken() == "new"
        assert health.ready


async def test_a_sweep_finds_what_no_event_announced(mongo: Mongo) -> None:
    """Work that the stream's filter does not show is found by the sweep."""
    await mongo.collection("elsewhere").insert_one({"_id": "moved"})
    recorder = Recorder(mongo)
    async with consuming(mongo, recorder, sweep_seconds=0.2):
        await recorder.woken_by("listen")
        await mongo.collection("elsewhere").aggregate([{"$out": "work"}]).to_list(None)
        assert await recorder.next_taken() == "moved"


async def test_what_is_put_off_while_a_consumer_waits_does_not_wait_for_the_sweep(mongo: Mongo) -> None:
    """When work is due next is asked again and again, as it changes with what runs here and elsewhere."""
    recorder = Recorder(mongo)
    due: list[float | None] = []

    async def next_due() -> float | None:
        return due.pop() if due else None

    async with consuming(mongo, recorder, next_due_seconds=next_due):
        await recorder.woken_by("listen")
        due.append(0.0)
        await recorder.woken_by("due")


async def test_a_consumer_outlives_the_loss_of_its_collection(mongo: Mongo) -> None:
    """After a drop the stream is opened anew and wakes again."""
    work = mongo.collection("work")
    await work.insert_one({"_id": 1})
    recorder = Recorder(mongo)
    async with consuming(mongo, recorder):
        await recorder.woken_by("listen")
        await work.insert_one({"_id": 2})
        await work.drop()
        await recorder.woken_by("listen")
        await work.insert_one({"_id": 3})
        while await recorder.next_taken() != 3:
            pass


async def test_a_consumer_waits_out_a_database_that_errs(mongo: Mongo) -> None:
    """While drains fail the replica says it is not ready; then it goes on by itself."""
    recorder = Recorder(mongo)
    data = {"failCommands": ["findAndModify"], "errorCode": 50, "appName": "darkroom"}
    await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
    try:
        async with consuming(mongo, recorder) as (_, health):

            async def away() -> bool:
                return health.reason == "MongoDB does not answer"

            await until(away, "the consumer says that it is not ready")
            await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
            await recorder.woken_by("start")
            assert health.ready
    finally:
        await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


async def test_a_stream_that_keeps_breaking_is_taken_up_with_pauses(mongo: Mongo) -> None:
    """Each getMore fails with a resumable error: a few resumes, not thousands, and the events come once it ends."""
    recorder = Recorder(mongo)
    resumes = metrics.STREAM_RESUMES.labels("test")
    before = resumes._value.get()
    data = {"failCommands": ["getMore"], "errorCode": 43, "appName": "darkroom"}

    async def several() -> bool:
        return bool(resumes._value.get() - before >= 4)

    async with consuming(mongo, recorder):
        await recorder.woken_by("listen")
        await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
        await until(several, "the stream is taken up again")
        await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        await mongo.collection("work").insert_one({"_id": 1})
        assert await recorder.next_taken() == 1
    assert resumes._value.get() - before < 20


async def test_a_consumer_stays_alive_while_the_database_is_away(mongo: Mongo) -> None:
    """Each failed try is a turn of the loop: an orchestrator must not restart the fleet because of MongoDB."""
    recorder = Recorder(mongo)
    data = {"failCommands": ["findAndModify"], "errorCode": 50, "appName": "darkroom"}
    await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
    try:
        async with consuming(mongo, recorder) as (_, health):
            started = health._beaten

            async def beats_on() -> bool:
                return health.reason == "MongoDB does not answer" and health._beaten > started

            await until(beats_on, "the loop beats although every drain fails")
    finally:
        await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


async def test_a_consumer_says_when_it_is_ready(mongo: Mongo) -> None:
    """The callback comes once, when an event can wake the consumer."""
    recorder = Recorder(mongo)
    listening = asyncio.Event()
    async with consuming(mongo, recorder, on_ready=listening.set):
        async with asyncio.timeout(30):
            await listening.wait()
        await mongo.collection("work").insert_one({"_id": 1})
        assert await recorder.next_taken() == 1


async def test_a_consumer_that_was_stopped_before_it_ran_does_nothing(mongo: Mongo) -> None:
    """Stop before start is fine, and so is a second stop."""
    stop = Stop()
    stop.set()
    stop.set()
    recorder = Recorder(mongo)

    async def nothing_due() -> None:
        return None

    consumer = Consumer(
        "test",
        lambda: stream(mongo),
        Permits(mongo, "test", limit=1),
        sweep_seconds=1,
        next_due_seconds=nothing_due,
        stop=stop,
        health=Health(),
    )
    await consumer.run(recorder.drain)
    assert recorder.wakes.empty()
