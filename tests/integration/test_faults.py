"""Writes that err although they were done, or that were not done: nothing is counted twice, and nothing is lost."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pymongo.errors import PyMongoError

from libs.changestream import Wake
from libs.documents import Counts, Delivery, Documents, HeldImage, NewDelivery, NewImage, NewRequest, Output
from libs.documents.delivery import document_of
from libs.documents.doubts import Doubts
from libs.mongo import Mongo
from tests.notifier_parts import notifier_parts
from tests.notifiers import close_request, delivery_in, ended, subscribe
from tests.waiting import until
from tests.webhook_server import receiving

APP = "darkroom-faulty"
OPERATION_SECONDS = 1.0
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
OUTPUT = Output(name="a" * 64 + ".jpg", bytes=40, source_bytes=100, width=4, height=3, format="jpeg")

DONE_BUT_UNSURE = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
DONE_BUT_CUT_OFF = {"writeConcernError": {"code": 89, "errmsg": "network timeout"}}  # one that the driver retries
NOT_DONE = {"closeConnection": True}
CONFLICT = {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}
SLOW = {"blockConnection": True, "blockTimeMS": round(OPERATION_SECONDS * 700)}
TOO_LATE = {"blockConnection": True, "blockTimeMS": round(OPERATION_SECONDS * 1500)}


@dataclass(frozen=True, slots=True)
class Fault:
    """How the server answers, and how often: "alwaysOn" outlasts the driver's own retries."""

    answer: dict[str, Any]
    mode: str | dict[str, int]


COMMIT_FAULTS = [
    pytest.param(Fault(DONE_BUT_UNSURE, {"times": 1}), id="done, one error"),
    pytest.param(Fault(DONE_BUT_UNSURE, "alwaysOn"), id="done, only errors"),
    pytest.param(Fault(DONE_BUT_CUT_OFF, {"times": 1}), id="done, cut off"),
    pytest.param(Fault(NOT_DONE, {"times": 1}), id="not done at first"),
    pytest.param(Fault(NOT_DONE, {"times": 2}), id="not done, twice"),
    pytest.param(Fault(CONFLICT, {"times": 1}), id="a write conflict"),
    pytest.param(Fault(TOO_LATE, {"times": 1}), id="after the time limit"),
]
WRITE_FAULTS = [
    pytest.param(Fault(DONE_BUT_UNSURE, {"times": 1}), id="done, one error"),
    pytest.param(Fault(DONE_BUT_CUT_OFF, {"times": 1}), id="done, cut off"),
    pytest.param(Fault(NOT_DONE, {"times": 1}), id="not done at first"),
    pytest.param(Fault(NOT_DONE, {"times": 2}), id="not done, twice"),
]


@pytest.fixture
async def faulty(mongo_uri: str, documents: Documents) -> AsyncIterator[Documents]:
    """The same documents over a connection that faults can be aimed at, with a short time limit."""
    name = documents.mongo.database.name
    connection = Mongo.connect(mongo_uri, name, operation_seconds=OPERATION_SECONDS, app_name=APP)
    await connection.check_server()
    yield Documents(connection)
    connection.close()


@asynccontextmanager
async def failing(mongo: Mongo, command: str, fault: Fault) -> AsyncIterator[None]:
    """Makes `command` of the faulty connection fail meanwhile, and proves that it did.

    Afterwards the server gives up transactions that nobody has ended, as it does by itself after a minute.
    """
    admin = mongo.client.admin
    data = {"failCommands": [command], "appName": APP, **fault.answer}
    before = await admin.command({"configureFailPoint": "failCommand", "mode": fault.mode, "data": data})
    try:
        yield
    finally:
        after = await admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        await admin.command({"killAllSessions": []})
    assert after["count"] > before["count"]


async def done_or_not(work: Awaitable[object]) -> bool:
    """Whether `work` returned; false when MongoDB's error came through to its caller."""
    try:
        await work
    except PyMongoError:
        return False
    return True


async def settled(work: Callable[[], Awaitable[object]]) -> None:
    """Repeats `work` until it returns, as services do."""

    async def once() -> bool:
        return await done_or_not(work())

    await until(once, "the write goes through")


def new_request(total: int) -> NewRequest:
    """A request of `total` images."""
    return NewRequest(None, filename="a.csv", bytes=10, sha256="0" * 64, total=total, trace=TRACE)


def new_images(first: int, end: int) -> list[NewImage]:
    """The images at these positions."""
    return [NewImage(n, n, n, "SKU", f"http://h/{n}", "h") for n in range(first, end)]


async def held_of_new_request(documents: Documents, total: int) -> tuple[str, list[HeldImage]]:
    """A new request, and its images, all claimed."""
    request_id = uuid4()
    await documents.requests.accept(new_request(total), [new_images(0, total)], request_id)
    _, held = await documents.images.claim(total)
    return str(request_id), held


async def states(mongo: Mongo, request_id: str) -> dict[str, int]:
    """How many images of the request are in each state."""
    found = await mongo.collection("images").find({"_id.r": request_id}).to_list(None)
    counts: dict[str, int] = {}
    for image in found:
        counts[image["state"]] = counts.get(image["state"], 0) + 1
    return counts


@pytest.mark.parametrize("fault", COMMIT_FAULTS)
async def test_a_batch_whose_commit_errs_is_counted_once(
    mongo: Mongo, documents: Documents, faulty: Documents, fault: Fault
) -> None:
    """Written again until it goes through, the batch is there and counted once, and the request closes."""
    request_id, held = await held_of_new_request(documents, 4)
    outcomes = [(image, OUTPUT) for image in held]
    async with failing(mongo, "commitTransaction", fault):
        await done_or_not(faulty.outcomes.write(outcomes))
    await settled(lambda: faulty.outcomes.write(outcomes))
    assert (await documents.outcomes.write(outcomes)).images == []
    assert await states(mongo, request_id) == {"completed": 4}
    assert await documents.progress.total(request_id) == Counts(completed=4, bytes_in=400, bytes_out=160)
    assert await documents.requests.close_if_done(request_id, 4) == "completed"


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("fault", COMMIT_FAULTS)
async def test_an_upload_whose_commit_errs_is_accepted_whole_or_not_at_all(
    mongo: Mongo, documents: Documents, faulty: Documents, fault: Fault, batches: int
) -> None:
    """When `accept` returns, everything is there; when it raises, everything or, after a sweep, nothing is."""
    request_id = uuid4()
    images = [new_images(first * 4, first * 4 + 4) for first in range(batches)]
    async with failing(mongo, "commitTransaction", fault):
        accepted = await done_or_not(faulty.requests.accept(new_request(batches * 4), images, request_id))
    await assert_whole_or_nothing(mongo, documents, request_id, batches * 4, accepted=accepted)


@pytest.mark.parametrize("fault", WRITE_FAULTS)
async def test_an_upload_whose_writes_err_is_accepted_whole_or_not_at_all(
    mongo: Mongo, documents: Documents, faulty: Documents, fault: Fault
) -> None:
    """The same for the writes that open and that end the loading of a large upload."""
    request_id = uuid4()
    images = [new_images(0, 4), new_images(4, 8)]
    async with failing(mongo, "update", fault):
        accepted = await done_or_not(faulty.requests.accept(new_request(8), images, request_id))
    await assert_whole_or_nothing(mongo, documents, request_id, 8, accepted=accepted)


async def test_a_batch_that_is_stored_in_a_second_try_takes_no_other_with_it(
    mongo: Mongo, documents: Documents, faulty: Documents
) -> None:
    """The transaction of a batch meets a conflict after the next batch was asked for: all are there, each once."""
    request_id = uuid4()
    images = [new_images(first, first + 4) for first in range(0, 16, 4)]
    async with failing(mongo, "insert", Fault(CONFLICT, {"times": 2})):
        await faulty.requests.accept(new_request(16), iter(images), request_id)
    await assert_whole_or_nothing(mongo, documents, request_id, 16, accepted=True)


async def test_an_upload_whose_next_batch_breaks_off_is_not_accepted_by_a_second_try(
    mongo: Mongo, documents: Documents, faulty: Documents
) -> None:
    """The batches end in an error while one of them meets a conflict: the error comes out, and nothing is accepted."""
    request_id = uuid4()

    def batches() -> Iterator[list[NewImage]]:
        yield new_images(0, 4)
        yield new_images(4, 8)
        raise ConnectionResetError

    async with failing(mongo, "insert", Fault(CONFLICT, {"skip": 1})):
        with pytest.raises(ConnectionResetError):
            await faulty.requests.accept(new_request(12), batches(), request_id)
    await assert_whole_or_nothing(mongo, documents, request_id, 12, accepted=False)


async def assert_whole_or_nothing(
    mongo: Mongo, documents: Documents, request_id: UUID, total: int, *, accepted: bool
) -> None:
    """The request is loaded with all its images, or else it was not accepted and a sweep removes what there is."""
    past = [{"$set": {"loader.until": {"$subtract": ["$$NOW", 1]}}}]

    async def swept() -> bool:
        await mongo.collection("requests").update_one({"_id": str(request_id), "loaded": False}, past)
        await documents.requests.sweep()
        return await documents.requests.get(str(request_id)) is not None or not accepted

    await until(swept, "what was accepted is there")
    request = await documents.requests.get(str(request_id))
    if request is not None and request.loaded:
        assert await states(mongo, str(request_id)) == {"pending": total}
        assert request.status == "pending"
        return
    assert not accepted
    assert await states(mongo, str(request_id)) == {}
    assert request is None or (request.status, request.error) == ("failed", "ingest_interrupted")


@pytest.mark.parametrize("command", ["findAndModify", "update"])
@pytest.mark.parametrize("fault", WRITE_FAULTS)
async def test_a_cancellation_that_errs_is_finished_or_never_begun(
    mongo: Mongo, documents: Documents, faulty: Documents, fault: Fault, command: str
) -> None:
    """After a sweep the request is cancelled and counts each image once, or it runs on as if nothing had been."""
    request_id, held = await held_of_new_request(documents, 6)
    await documents.outcomes.write([(image, OUTPUT) for image in held[:2]])
    async with failing(mongo, command, fault):
        cancelled = await done_or_not(faulty.requests.cancel(request_id))
    await documents.requests.sweep()
    request = await documents.requests.get(request_id)
    assert request is not None
    if request.status != "cancelled":
        assert not cancelled
        assert len((await documents.outcomes.write([(image, OUTPUT) for image in held[2:]])).images) == 4
        assert await documents.requests.close_if_done(request_id, 6) == "completed"
        return
    assert (await documents.outcomes.write([(image, OUTPUT) for image in held])).images == []
    assert await states(mongo, request_id) == {"completed": 2, "cancelled": 4}
    assert request.counts == Counts(completed=2, cancelled=4, bytes_in=200, bytes_out=80)


@pytest.mark.parametrize("fault", COMMIT_FAULTS)
async def test_an_announcement_whose_commit_errs_is_made_once(
    mongo: Mongo, documents: Documents, faulty: Documents, fault: Fault
) -> None:
    """Announced again until it goes through, a request has each delivery once, and is not announced any more."""
    request_id, held = await held_of_new_request(documents, 1)
    await documents.outcomes.write([(held[0], OUTPUT)])
    await documents.requests.close_if_done(request_id, 1)
    urls: Sequence[str] = ["http://a/", "http://b/"]
    new = [NewDelivery(request_id, "request.completed", url, "{}", TRACE, 1.0) for url in urls]
    async with failing(mongo, "commitTransaction", fault):
        await done_or_not(faulty.deliveries.announce({request_id: new}))
    await settled(lambda: faulty.deliveries.announce({request_id: new}))
    assert await documents.deliveries.announce({request_id: new}) == (set(), [])
    assert sorted(delivery.url for delivery in await documents.deliveries.of_request(request_id)) == urls
    assert await documents.requests.unannounced(10) == []


@pytest.mark.parametrize("fault", COMMIT_FAULTS)
async def test_what_was_to_begin_with_an_announcement_that_errs_is_not_lost(
    mongo: Mongo, documents: Documents, faulty: Documents, fault: Fault
) -> None:
    """Whoever announces it in the end holds it; where nobody knows that he does, it is given back as soon as it can."""
    request_id, held = await held_of_new_request(documents, 1)
    await documents.outcomes.write([(held[0], OUTPUT)])
    await documents.requests.close_if_done(request_id, 1)
    new = NewDelivery(request_id, "request.completed", "http://a/", "{}", TRACE, 1.0)
    begun = list[Delivery]()

    async def announce() -> None:
        begun.extend((await faulty.deliveries.announce({request_id: [new]}, beginning={new.webhook_id})).held)

    async with failing(mongo, "commitTransaction", fault):
        await done_or_not(announce())
    await settled(announce)
    assert await documents.deliveries.claim(1) == []
    tokens, ids = {delivery.token for delivery in begun}, [delivery.webhook_id for delivery in begun]
    await settled(faulty.deliveries.doubts.settle)
    assert await faulty.deliveries.leases.renew(tokens, ids) == len(ids)
    others = [delivery.webhook_id for delivery in await documents.deliveries.claim(2)]
    assert [*ids, *others] == [new.webhook_id]
    assert await faulty.deliveries.doubts.settle() == 0


async def test_a_notifier_whose_announcement_errs_attempts_it_once_mongodb_answers(
    mongo: Mongo, documents: Documents, faulty: Documents
) -> None:
    """The commit was done and nobody was told: it waits for no lease."""
    parts = notifier_parts(faulty)
    async with receiving() as receiver, parts.running():
        assert not await parts.courier.fill()
        request_id = await close_request(documents, receiver.url)
        async with failing(mongo, "commitTransaction", Fault(DONE_BUT_UNSURE, "alwaysOn")):
            assert not await done_or_not(parts.rounds.drain(Wake("event")))
        [held] = await documents.deliveries.of_request(request_id)
        assert held.state == "processing"
        assert await parts.rounds.drain(Wake("start"))
        delivery = await delivery_in(documents, request_id, "delivered")
    assert (len(receiver.received), delivery.attempts_made) == (1, 1)


async def test_failed_images_of_an_announcement_that_errs_are_told_once_mongodb_answers(
    mongo: Mongo, documents: Documents, faulty: Documents
) -> None:
    """Whoever announced it does not know that there are any, so it looks around."""
    parts = notifier_parts(faulty)
    async with receiving() as receiver, parts.running():
        endpoint = await subscribe(documents, receiver.url, events=["image.failed"])
        assert not await parts.rounds.drain(Wake("start"))
        request_id = await close_request(documents, receiver.url, good=1, bad=2)
        async with failing(mongo, "commitTransaction", Fault(DONE_BUT_UNSURE, "alwaysOn")):
            assert not await done_or_not(parts.rounds.drain(Wake("event")))
        [telling] = await documents.deliveries.failures.untold(2)
        assert (telling.request_id, telling.endpoint_ids) == (request_id, [endpoint.id])
        assert await parts.rounds.drain(Wake("start"))
        await ended(documents, endpoint, 2)
    assert len({received.webhook_id for received in receiver.received}) == len(receiver.received) == 3


async def test_what_is_not_seen_of_an_announcement_within_a_lease_is_forgotten(documents: Documents) -> None:
    """So there is no end of neither looking nor memory; what is made even later has no lease any more."""
    now = 1000.0
    new = NewDelivery("r", "request.completed", "http://a/", "{}", TRACE, 1.0)
    deliveries, collection = documents.deliveries, documents.mongo.collection("deliveries")
    doubts = Doubts(collection, deliveries.leases, lease_seconds=15, clock=lambda: now)
    for seconds, seen in ((14, 1), (15, 0)):
        doubts.note({str(seconds)}, [new.webhook_id])
        now += seconds
        assert await doubts.settle() == 0
        await collection.insert_many(deliveries.leases.leased([document_of(new)], str(seconds), datetime.now(UTC)))
        assert await doubts.settle() == seen
        await collection.delete_many({})


async def test_what_half_of_its_lease_has_gone_by_of_when_it_is_announced_is_given_back(
    mongo: Mongo, documents: Documents, mongo_uri: str
) -> None:
    """It might be another's before its first renewal."""
    name, seconds = documents.mongo.database.name, OPERATION_SECONDS * 10
    with closing(Mongo.connect(mongo_uri, name, operation_seconds=seconds, app_name=APP)) as slow:
        holder = Documents(slow, lease_seconds=60)
        hasty = Documents(slow, lease_seconds=OPERATION_SECONDS)
        for late, owner in ((False, holder), (True, hasty)):
            request_id = await close_request(documents, None)
            new = NewDelivery(request_id, "request.completed", "http://a/", "{}", TRACE, 1.0)
            async with failing(mongo, "commitTransaction", Fault(SLOW, {"times": 1})):
                announced = await owner.deliveries.announce({request_id: [new]}, beginning={new.webhook_id})
            [stored] = await mongo.collection("deliveries").find({"_id": new.webhook_id}).to_list(None)
            marked_at = owner.deliveries.leases.claimed_at(stored)
            assert announced.request_ids == {request_id}
            assert bool(announced.held) is not late
            for held in announced.held:  # its attempt begins when it can, not when its lease does
                assert held.claimed_at is not None
                assert held.claimed_at >= marked_at + timedelta(milliseconds=SLOW["blockTimeMS"])
            assert await owner.deliveries.doubts.settle() == late
            assert [one.webhook_id for one in await documents.deliveries.claim(2)] == ([new.webhook_id] if late else [])
