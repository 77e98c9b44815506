"""Requests, images and counts on a real MongoDB."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from pymongo.errors import BulkWriteError

from libs.documents import (
    AlreadyFinalError,
    Documents,
    Failed,
    HeldImage,
    ImageFailure,
    NewImage,
    NewRequest,
    Output,
    Row,
    UploadInterruptedError,
)
from libs.mongo import Mongo
from tests.commits import BehindCommit
from tests.fail_points import held_command

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
OUTPUT = Output(name="a" * 64 + ".jpg", bytes=40, source_bytes=100, width=4, height=3, format="jpeg")
FAILURE = Failed(ImageFailure("http_404", "the server answered 404"))


def new_request(total: int) -> NewRequest:
    """A request of `total` images."""
    return NewRequest(webhook_url=None, filename="a.csv", bytes=10, sha256="0" * 64, total=total, trace=TRACE)


def new_images(count: int, *, per_row: int = 1, first: int = 0) -> list[NewImage]:
    """`count` different images, from position `first` on."""
    return [
        NewImage(
            position=n,
            row=n // per_row,
            serial_number=n // per_row + 1,
            product_name=f"SKU{n // per_row}",
            url=f"http://h/{n}",
            host="h",
        )
        for n in range(first, first + count)
    ]


async def accept(documents: Documents, batches: Sequence[Sequence[NewImage]]) -> str:
    """Accepts an upload of these batches and gives its id."""
    request_id = uuid4()
    await documents.requests.accept(new_request(sum(map(len, batches))), batches, request_id)
    return str(request_id)


async def claim_all(documents: Documents, limit: int = 1000) -> list[HeldImage]:
    """Claims what there is."""
    _, held = await documents.images.claim(limit)
    return held


async def rows(documents: Documents, request_id: str, **window: int) -> list[Row]:
    """The rows of a request."""
    request = await documents.requests.get(request_id)
    assert request is not None
    return [row async for row in documents.images.rows(request_id, request.total, **window)]


async def test_a_small_upload_is_there_whole(documents: Documents) -> None:
    """A request of one batch is loaded, pending, and its images can be claimed in order."""
    request_id = await accept(documents, [new_images(3)])
    request = await documents.requests.get(request_id)
    assert request is not None
    assert (request.status, request.loaded, request.total, request.counts) == ("pending", True, 3, None)
    assert [image.position for image in await claim_all(documents)] == [0, 1, 2]


async def test_a_batch_of_more_than_goes_into_a_message_is_stored_whole(documents: Documents) -> None:
    """Two thousand URLs of the longest kind take 64 MB, and MongoDB's drivers send 16 at once."""
    images = [image._replace(url=f"http://h/{image.position}{'🖼' * 7_900}") for image in new_images(1_000)]
    request_id = await accept(documents, [images])
    found = await rows(documents, request_id)
    assert [image.url for row in found for image in row.images] == [image.url for image in images]


async def test_a_large_upload_is_loaded_batch_by_batch(documents: Documents) -> None:
    """Several batches arrive as one request with ascending ranks."""
    request_id = await accept(documents, [new_images(4), new_images(4, first=4), new_images(2, first=8)])
    request = await documents.requests.get(request_id)
    assert request is not None
    assert (request.loaded, request.total) == (True, 10)
    held = await claim_all(documents)
    assert [image.position for image in held] == list(range(10))
    assert [image.rank for image in held] == [float(n) for n in range(10)]


async def test_a_loader_that_lost_its_token_stores_nothing_more(mongo_uri: str, documents: Documents) -> None:
    """A loader fenced off half way gets an error, and its next batch is not stored."""
    request_id = uuid4()
    name = documents.mongo.database.name

    def fence_off() -> None:
        documents.mongo.client.delegate.get_database(name)["requests"].update_one(
            {"_id": str(request_id)}, {"$set": {"loader.token": "another"}}
        )

    loading = Mongo.connect(mongo_uri, name, listeners=[BehindCommit(2, fence_off)])
    batches = [new_images(2, first=first) for first in (0, 2, 4)]
    with pytest.raises(UploadInterruptedError):
        await Documents(loading).requests.accept(new_request(6), batches, request_id)
    loading.close()
    assert len(await claim_all(documents)) == 4


async def test_the_next_batch_is_made_while_one_is_being_stored(documents: Documents) -> None:
    """From the third on, a batch is asked for when the one before it is not there yet, but all others are."""
    stored = documents.mongo.client.delegate.get_database(documents.mongo.database.name)["images"]
    there = []

    def batches() -> Iterator[list[NewImage]]:
        for first in range(0, 10, 2):
            there.append(stored.count_documents({}))
            yield new_images(2, first=first)

    await documents.requests.accept(new_request(10), batches(), uuid4())
    assert there == [0, 0, 2, 4, 6]
    assert len(await claim_all(documents)) == 10


async def test_an_upload_of_an_image_that_is_there_is_not_accepted(documents: Documents, mongo: Mongo) -> None:
    """The server's error for one document of a batch comes out, and the batch is not stored."""
    with pytest.raises(BulkWriteError):
        await documents.requests.accept(new_request(4), [[*new_images(3), *new_images(1)]], uuid4())
    assert await mongo.collection("images").count_documents({}) == 0


async def interrupted(documents: Documents) -> UUID:
    """An upload that broke off behind its second batch."""
    request_id = uuid4()

    def batches() -> Iterator[list[NewImage]]:
        yield new_images(2)
        yield new_images(2, first=2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await documents.requests.accept(new_request(6), batches(), request_id)
    return request_id


async def lapse(documents: Documents, request_id: UUID) -> None:
    """Lets the loader's time have ended by the server's clock."""
    past = [{"$set": {"loader.until": {"$subtract": ["$$NOW", 1]}}}]
    await documents.requests.collection.update_one({"_id": str(request_id)}, past)


async def test_an_interrupted_upload_fails_and_leaves_no_image(documents: Documents) -> None:
    """The sweep fails an upload whose loader is gone, removes its images and leaves nothing to announce."""
    request_id = await interrupted(documents)
    assert await documents.requests.sweep() == []
    await lapse(documents, request_id)
    assert await documents.requests.sweep() == [(str(request_id), "failed")]
    request = await documents.requests.get(str(request_id))
    assert request is not None
    assert (request.status, request.error, request.closed) == ("failed", "ingest_interrupted", True)
    assert await claim_all(documents) == []
    assert await documents.requests.unannounced(10) == []


@pytest.mark.parametrize(("failures", "status"), [(0, "completed"), (1, "completed_with_errors"), (3, "failed")])
async def test_a_request_closes_when_its_last_image_is_final(documents: Documents, failures: int, status: str) -> None:
    """The final status follows from how many images failed."""
    request_id = await accept(documents, [new_images(3)])
    held = await claim_all(documents)
    await documents.outcomes.write([(held[2], FAILURE if failures == 3 else OUTPUT)])
    assert await documents.requests.close_if_done(request_id, 3) is None
    await documents.outcomes.write(
        [(held[0], FAILURE if failures else OUTPUT), (held[1], FAILURE if failures == 3 else OUTPUT)]
    )
    assert await documents.requests.close_if_done(request_id, 3) == status
    assert await documents.requests.close_if_done(request_id, 3) is None
    request = await documents.requests.get(request_id)
    assert request is not None
    assert request.counts is not None
    assert (request.counts.completed, request.counts.failed) == (3 - failures, failures)
    assert request.counts.bytes_in == 100 * (3 - failures)
    assert [closed.id for closed in await documents.requests.unannounced(10)] == [request_id]


@pytest.mark.parametrize(("outcome", "status"), [(OUTPUT, "completed"), (FAILURE, "failed")])
async def test_a_request_whose_images_are_final_together_closes_with_them(
    documents: Documents, outcome: Output | Failed, status: str
) -> None:
    """One transaction writes its images, aliases counted, its counts and its final status; another is only counted."""
    first = new_images(1)[0]
    alias = NewImage(1, 1, 2, "b", first.url, "h", alias_of=0)
    whole = await accept(documents, [[NewImage(0, 0, 1, "a", first.url, "h", copies=1), alias]])
    larger = await accept(documents, [new_images(2)])
    held = await claim_all(documents)
    written = [(image, outcome) for image in held if image.request_id == whole or image.position == 0]
    finished = await documents.outcomes.write(written, {whole: 2, larger: 2})
    assert finished.closed == {whole: status}
    assert len(finished.images) == 2
    assert await documents.requests.close_if_done(whole, 2) is None
    request = await documents.requests.get(whole)
    assert request is not None
    assert request.counts is not None
    assert (request.status, request.counts.finished) == (status, 2)
    assert (await documents.progress.total(larger)).finished == 1
    assert [closed.id for closed in await documents.requests.unannounced(10)] == [whole]


async def test_a_result_whose_lease_has_passed_on_changes_nothing(documents: Documents) -> None:
    """A holder that was reaped writes and counts nothing; the next holder does."""
    request_id = await accept(documents, [new_images(1)])
    [slept] = await claim_all(documents)
    await documents.images.leases.release({slept.token}, [slept.document_id])
    [other] = await claim_all(documents)
    assert (await documents.outcomes.write([(slept, FAILURE)])).images == []
    assert await documents.images.retry(slept, FAILURE.error, 1) is False
    assert (await documents.outcomes.write([(other, OUTPUT)])).images == [other]
    assert (await documents.progress.total(request_id)).completed == 1


async def test_an_alias_is_counted_and_shown_with_its_original(documents: Documents) -> None:
    """A URL that stands three times is claimed once and fills three places of the status."""
    first = new_images(1)[0]
    images = [
        NewImage(0, 0, 1, "a", first.url, "h", copies=2),
        NewImage(1, 0, 1, "a", first.url, "h", alias_of=0),
        NewImage(2, 1, 2, "b", first.url, "h", alias_of=0),
    ]
    request_id = await accept(documents, [images])
    held = await claim_all(documents)
    assert [image.position for image in held] == [0]
    assert [[image.output for image in row.images] for row in await rows(documents, request_id)] == [
        [None, None],
        [None],
    ]
    await documents.outcomes.write([(held[0], OUTPUT)])
    assert await documents.requests.close_if_done(request_id, 3) == "completed"
    assert [[image.output for image in row.images] for row in await rows(documents, request_id)] == [
        [OUTPUT, OUTPUT],
        [OUTPUT],
    ]


@pytest.mark.parametrize(("offset", "limit"), [(0, 0), (0, 2), (3, 2), (0, 700), (699, 5), (700, 5), (1, None)])
async def test_rows_can_be_read_in_windows(documents: Documents, offset: int, limit: int | None) -> None:
    """Offset and limit count rows, whatever the number of images in them."""
    images = new_images(2100, per_row=3)
    request_id = await accept(documents, [images[:1000], images[1000:2000], images[2000:]])
    window = {"offset": offset} if limit is None else {"offset": offset, "limit": limit}
    expected = list(range(700))[offset : None if limit is None else offset + limit]
    found = await rows(documents, request_id, **window)
    assert [row.serial_number - 1 for row in found] == expected
    assert all(len(row.images) == 3 for row in found)


async def test_cancelling_keeps_what_is_done_and_stops_the_rest(documents: Documents) -> None:
    """A cancelled request counts what was finished before, and a running image can no longer finish."""
    request_id = await accept(documents, [new_images(5)])
    _, held = await documents.images.claim(3)
    await documents.outcomes.write([(held[0], OUTPUT), (held[1], FAILURE)])
    request = await documents.requests.cancel(request_id)
    assert request is not None
    assert request.counts is not None
    assert (request.status, request.closed) == ("cancelled", True)
    assert (request.counts.completed, request.counts.failed, request.counts.cancelled) == (1, 1, 3)
    assert (await documents.outcomes.write([(held[2], OUTPUT)])).images == []
    assert await claim_all(documents) == []
    with pytest.raises(AlreadyFinalError):
        await documents.requests.cancel(request_id)
    assert [announced.id for announced in await documents.requests.unannounced(10)] == [request_id]


async def test_a_cancellation_that_was_cut_short_is_finished_by_the_sweep(documents: Documents) -> None:
    """When the canceller dies half way, the sweep cancels the images and writes the counts."""
    request_id = await accept(documents, [new_images(2)])
    await documents.requests.collection.update_one({"_id": request_id}, {"$set": {"status": "cancelled"}})
    assert await documents.requests.sweep() == [(request_id, "cancelled")]
    request = await documents.requests.get(request_id)
    assert request is not None
    assert request.counts is not None
    assert request.counts.cancelled == 2


async def test_an_unknown_request_cannot_be_cancelled(documents: Documents) -> None:
    """Cancelling what does not exist gives None."""
    assert await documents.requests.cancel(str(UUID(int=1))) is None


async def test_a_new_request_starts_beside_what_is_running(documents: Documents) -> None:
    """A later, smaller request ranks behind what runs now and before the older request's rest."""
    await accept(documents, [new_images(50)])
    _, running = await documents.images.claim(8)
    small = await accept(documents, [new_images(1)])
    next_claim = await claim_all(documents, 3)
    assert small in {image.request_id for image in next_claim}
    assert max(image.rank for image in running) <= min(image.rank for image in next_claim)


async def test_an_accepted_upload_stays_accepted_when_the_closing_check_errs(documents: Documents) -> None:
    """The client is not told to upload again what is stored; the sweep repeats the check."""
    data = {"failCommands": ["find"], "namespace": f"{documents.mongo.database.name}.progress", "errorCode": 50}
    fault = {"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data | {"appName": "darkroom"}}
    await documents.mongo.client.admin.command(fault)
    try:
        request_id = await accept(documents, [new_images(2)])
    finally:
        await documents.mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    request = await documents.requests.get(request_id)
    assert request is not None
    assert (request.status, request.loaded) == ("pending", True)


async def test_sweeps_get_round_to_every_open_request(documents: Documents) -> None:
    """Behind more open requests than one sweep looks at, a cancellation cut short is finished by a later one."""
    await documents.requests.collection.insert_many(
        [
            {
                "_id": f"old{n}",
                "status": "processing",
                "loaded": True,
                "closed": False,
                "total": 1,
                "created_at": datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=n),
            }
            for n in range(250)
        ]
    )
    request_id = await accept(documents, [new_images(2)])
    await documents.requests.collection.update_one({"_id": request_id}, {"$set": {"status": "cancelled"}})
    closed = [await documents.requests.sweep() for _ in range(4)]
    assert [one for some in closed for one in some] == [(request_id, "cancelled")]


async def test_a_sweep_has_its_time_for_images_whatever_the_requests_before_them_take(documents: Documents) -> None:
    """A look at an older request takes longer than it may spend on images, and a cancellation is finished still."""
    await accept(documents, [new_images(2)])
    request_id = await accept(documents, [new_images(2)])
    await documents.requests.collection.update_one({"_id": request_id}, {"$set": {"status": "cancelled"}})
    async with held_command(documents.mongo, "find", app="darkroom", collection="progress"):
        assert await documents.requests.sweep() == [(request_id, "cancelled")]


async def test_a_sweep_leaves_out_no_request_made_in_the_same_millisecond(documents: Documents) -> None:
    """The first page ends between two requests of one moment; the second page begins with that moment."""
    moments = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=min(n, 99)) for n in range(101)]
    await documents.requests.collection.insert_many(
        [
            {
                "_id": f"{n:03}",
                "status": "processing",
                "loaded": True,
                "closed": False,
                "total": 1,
                "created_at": moment,
            }
            for n, moment in enumerate(moments)
        ]
    )
    await documents.requests.collection.update_one({"_id": "100"}, {"$set": {"status": "cancelled"}})
    closed = [*await documents.requests.sweep(), *await documents.requests.sweep()]
    assert closed == [("100", "cancelled")]


async def test_a_dead_loader_s_open_transaction_keeps_nobody_waiting(mongo: Mongo, documents: Documents) -> None:
    """Neither the sweep nor the work on the images that were loaded; the request is failed when it has ended."""
    upload = await interrupted(documents)
    await lapse(documents, upload)
    request_id = str(upload)
    async with await mongo.client.start_session() as session:
        session.start_transaction()
        await mongo.collection("requests").update_one({"_id": request_id}, {"$set": {"inserted": 8}}, session=session)
        assert await documents.requests.sweep() == []
        assert not await documents.requests.start(request_id)
        await session.abort_transaction()
    assert await documents.requests.start(request_id)
    assert await documents.requests.sweep() == [(request_id, "failed")]


async def test_an_interrupted_upload_cannot_be_cancelled_and_says_that_it_failed(documents: Documents) -> None:
    """Its status is final."""
    request_id = await accept(documents, [new_images(1)])
    await documents.requests.collection.update_one(
        {"_id": request_id}, {"$set": {"status": "failed", "error": "ingest_interrupted", "loaded": False}}
    )
    with pytest.raises(AlreadyFinalError, match="already failed"):
        await documents.requests.cancel(request_id)
