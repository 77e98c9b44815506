"""A process that was killed inside a transaction: MongoDB keeps it open for a while, and nothing else waits for it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from libs.documents import Documents, NewDelivery, NewImage, NewRequest
from libs.mongo import Mongo
from tests.consumers import Recorder, consuming
from tests.notifier_parts import announcer_of
from tests.notifiers import TRACE, close_request, delivery_in, notifier_settings, notifying
from tests.waiting import until
from tests.watchers import Downloads, draining
from tests.webhook_server import receiving


@asynccontextmanager
async def locked(mongo: Mongo, collection: str, wanted: Mapping[str, Any]) -> AsyncIterator[None]:
    """Keeps a transaction open that has written to what is wanted; at the end it must be open still."""
    async with await mongo.client.start_session() as session:
        session.start_transaction()
        result = await mongo.collection(collection).update_many(wanted, {"$set": {"touched": 1}}, session=session)
        assert result.matched_count
        try:
            yield
            await mongo.collection(collection).update_many(wanted, {"$set": {"touched": 2}}, session=session)
        finally:
            await session.abort_transaction()


async def pending(documents: Documents, total: int, *, first: int = 0) -> str:
    """A request whose images are at http://h/N, from `first` on."""
    request_id = uuid4()
    images = [NewImage(n, n, n, "SKU", f"http://h/{first + n}", "h") for n in range(total)]
    await documents.requests.accept(NewRequest(None, "a.csv", 10, "0" * 64, total, TRACE), [images], request_id)
    return str(request_id)


async def closed(documents: Documents, request_id: str) -> str:
    """The status of a request, once it is closed."""

    async def probe() -> str | None:
        request = await documents.requests.get(request_id)
        return request.status if request is not None and request.closed else None

    return await until(probe, "the request is closed")


async def test_a_request_that_is_locked_keeps_no_other_from_being_announced(
    mongo: Mongo, documents: Documents, mongo_uri: str
) -> None:
    """A notifier was killed while it announced it; the others are announced and delivered, and it when it is free."""
    async with receiving() as receiver:
        first, second = [await close_request(documents, receiver.url) for _ in range(2)]
        settings = notifier_settings(documents, mongo_uri)
        async with locked(mongo, "requests", {"_id": first}), notifying(settings):
            await delivery_in(documents, second, "delivered")
            assert await documents.deliveries.of_request(first) == []
        async with notifying(settings):
            await delivery_in(documents, first, "delivered")


async def test_a_whole_page_that_is_locked_keeps_none_behind_it_from_being_announced(documents: Documents) -> None:
    """A notifier was killed while it announced a hundred requests; those that were closed behind them go on."""
    requests = documents.mongo.collection("requests")
    for _ in range(3):
        await close_request(documents, "http://127.0.0.1:9/hook")
    [first, second, last] = await requests.find({}, {"completed_at": 1}, sort=[("completed_at", 1)]).to_list(None)
    template = await requests.find_one({"_id": first["_id"]})
    assert template is not None
    await requests.insert_many({**template, "_id": str(uuid4())} for _ in range(100))
    announcer = announcer_of(documents)
    async with locked(documents.mongo, "requests", {"completed_at": first["completed_at"]}):
        assert await announcer.announce() == 2
    announced = requests.find({"announced": True}, {"_id": 1})
    assert {request["_id"] async for request in announced} == {second["_id"], last["_id"]}


async def test_what_is_announced_in_pieces_is_left_to_all(documents: Documents) -> None:
    """What an early piece held could not begin before the last one is done."""
    requests = [await close_request(documents, None) for _ in range(5)]
    new = {id_: [NewDelivery(id_, "request.completed", "http://a/", "{}", TRACE, 1.0)] for id_ in requests}
    every = {one.webhook_id for some in new.values() for one in some}
    async with locked(documents.mongo, "requests", {"_id": requests[3]}):
        announced = await documents.deliveries.announce(new, beginning=every)
    assert announced == ({*requests} - {requests[3]}, [])
    assert len(await documents.deliveries.claim(9)) == 4
    assert await documents.deliveries.doubts.settle() == 0


async def test_an_image_that_is_locked_in_a_cancelled_request_keeps_nothing_else_waiting(
    mongo: Mongo, documents: Documents, tmp_path: Path
) -> None:
    """A watcher was killed while it finished it; others go on claiming, and the cancellation ends when it is free."""
    cancelled = await pending(documents, 1)
    _, [image] = await documents.images.claim(1)
    await mongo.collection("requests").update_one({"_id": cancelled}, {"$set": {"status": "cancelled"}})
    other = await pending(documents, 1, first=1)
    async with (
        locked(mongo, "images", {"_id": image.document_id}),
        draining(documents, tmp_path, Downloads("http://h/1")),
    ):
        assert await closed(documents, other) == "completed"
    await documents.requests.sweep()
    assert await closed(documents, cancelled) == "cancelled"


async def test_an_image_that_is_locked_does_not_keep_others_from_being_renewed(
    mongo: Mongo, documents: Documents
) -> None:
    """A holder's own broken transaction may stay open beside it; what else it holds keeps its lease."""
    await pending(documents, 3)
    _, images = await documents.images.claim(3)
    tokens, ids = {image.token for image in images}, [image.document_id for image in images]
    async with locked(mongo, "images", {"_id": ids[1]}):
        assert await documents.images.leases.renew(tokens, ids) == 2
    assert await documents.images.leases.renew(tokens, ids) == 3


async def test_a_thousand_that_are_locked_are_soon_passed_over(mongo: Mongo, documents: Documents) -> None:
    """A sweep was killed with all of its documents in hand: others try a few times, not once for each of them."""
    await mongo.collection("images").insert_many(
        {"_id": {"r": "x", "n": n}, "state": "processing", "lease": {"until": n}, "lost_leases": 0, "attempts": 0}
        for n in range(1000)
    )
    past = {"$set": {"lease": {"until": "$$NOW", "token": "x", "alone": False}}}
    await mongo.collection("images").update_many({}, [past])
    before = (await mongo.client.admin.command("serverStatus"))["transactions"]["totalStarted"]
    async with locked(mongo, "images", {"state": "processing"}):
        assert await documents.images.leases.reap() == 0
        after = (await mongo.client.admin.command("serverStatus"))["transactions"]["totalStarted"]
    assert after - before < 100
    assert await documents.images.leases.reap() == 1000


async def test_what_stays_due_does_not_keep_a_consumer_busy(mongo: Mongo) -> None:
    """Delayed work that is due and locked is asked for again and again, but events are read between."""
    recorder = Recorder(mongo)

    async def always_due() -> float:
        return 0.0

    async with consuming(mongo, recorder, next_due_seconds=always_due):
        await recorder.woken_by("due")
        await mongo.collection("work").insert_one({"_id": 1})
        await recorder.woken_by("event")
        await recorder.woken_by("due")
