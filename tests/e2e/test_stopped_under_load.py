"""SIGTERM under load: exit 0 in time, no attempt charged, and a replica goes on at once, whatever a lease has left."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from libs.mongo import Document
from tests.notifiers import close_request, delivery_in
from tests.processes import SECRET, started
from tests.scenes import Scene, scene
from tests.sources import photograph, served
from tests.waiting import until
from tests.webhook_server import receiving, waits_for

IMAGES = {f"{n}.jpg": photograph(64, 48, shade=n) for n in range(24)}
NO_LEASE_ENDS = {"DARKROOM_LEASE_SECONDS": "3600"}
LITTLE_TIME = {"DARKROOM_SHUTDOWN_SECONDS": "0.5"}


async def charged(place: Scene, collection: str, attempts: str) -> list[Document]:
    """What is held, or was charged an attempt or a lost lease."""
    marks = [{"state": "processing"}, {"lease": {"$exists": True}}, {attempts: {"$gt": 0}}, {"lost_leases": {"$gt": 0}}]
    return await place.documents.mongo.collection(collection).find({"$or": marks}).to_list(None)


async def announced(place: Scene, count: int) -> bool:
    """Whether so many deliveries have been made."""
    return await place.documents.mongo.collection("deliveries").count_documents({}) == count


async def test_watchers_stopped_under_load_finish_or_give_back(mongo_uri: str, tmp_path: Path) -> None:
    """With time, what is held is completed and each image fetched once; without, it is given back and fetched again."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **NO_LEASE_ENDS))
        sources = await stack.enter_async_context(served(IMAGES))
        patient, hasty = await asyncio.gather(
            stack.enter_async_context(started("watcher", place.env, tmp_path, number=1)),
            stack.enter_async_context(started("watcher", place.env | LITTLE_TIME, tmp_path, number=2)),
        )
        sources.close()
        request_id = await place.submit([sources.link(path) for path in IMAGES])
        await sources.waiting_for(16)
        patient.process.send_signal(signal.SIGTERM)
        assert await hasty.stop() == 0
        assert (await place.states()) == {"processing": 8, "pending": 16}
        sources.open()
        assert await patient.stop() == 0
        assert (await place.states()) == {"completed": 8, "pending": 16}
        assert await charged(place, "images", "attempts") == []
        async with started("watcher", place.env, tmp_path, number=3) as other:
            assert (await place.closed(request_id)).status == "completed"
            assert await other.stop() == 0
        await place.assert_counted_once(request_id)
        assert await charged(place, "images", "attempts") == []
    assert sources.fetched.total() == len(IMAGES) + 8


async def test_notifiers_stopped_under_load_finish_or_give_back(mongo_uri: str, tmp_path: Path) -> None:
    """With time, a POST under way is answered and recorded; without, it is given back and made again, under its id."""
    gate = asyncio.Event()
    async with AsyncExitStack() as stack:
        slots = {"DARKROOM_WEBHOOK_IN_FLIGHT": "64"}
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **NO_LEASE_ENDS, **slots))
        receiver = await stack.enter_async_context(receiving(waits_for(gate)))
        patient, hasty = await asyncio.gather(
            stack.enter_async_context(started("notifier", place.env, tmp_path, number=1)),
            stack.enter_async_context(started("notifier", place.env | LITTLE_TIME, tmp_path, number=2)),
        )
        # A host that has not answered yet gets a sixteenth of the slots: each of the two takes four of these ten.
        requests = [await close_request(place.documents, receiver.url) for _ in range(10)]
        await receiver.first(8)
        await until(lambda: announced(place, len(requests)), "every delivery is there")
        patient.process.send_signal(signal.SIGTERM)
        assert await hasty.stop() == 0
        assert len(await charged(place, "deliveries", "attempts_made")) == 4
        gate.set()
        assert await patient.stop() == 0
        delivered = [await place.documents.deliveries.of_request(request_id) for request_id in requests]
        assert sorted((one.state, one.attempts_made) for [one] in delivered) == (
            [("delivered", 1)] * 4 + [("pending", 0)] * 6
        )
        async with started("notifier", place.env, tmp_path, number=3) as other:
            done = [await delivery_in(place.documents, request_id, "delivered") for request_id in requests]
            assert await other.stop() == 0
    assert {one.attempts_made for one in done} == {1}
    ids = {(one.verified(SECRET)["request_id"], one.webhook_id) for one in receiver.received}
    assert ids == {(one.request_id, one.webhook_id) for one in done}
    assert len(receiver.received) == 10 + 4
