"""Counts and final states while eight finish the images of one request at the same time."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.changestream import ChangeStream
from libs.documents import (
    AlreadyFinalError,
    Counts,
    Documents,
    Failed,
    HeldImage,
    ImageFailure,
    NewImage,
    NewRequest,
    Outcome,
    Output,
)
from libs.mongo import Mongo, patiently
from tests.commits import BehindCommit
from tests.fail_points import held_command, write_under_way

FINISHERS = 8
BATCH = 3
ROUNDS = 8
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def new_request(total: int) -> NewRequest:
    """A request of `total` images."""
    return NewRequest(None, filename="a.csv", bytes=10, sha256="0" * 64, total=total, trace=TRACE)


def new_images(first: int, end: int) -> list[NewImage]:
    """The images at these positions; every fifth is the same as the one before it."""
    return [
        NewImage(n, n, n, "SKU", f"http://h/{n}", "h", alias_of=n - 1 if n % 5 == 4 else None, copies=int(n % 5 == 3))
        for n in range(first, end)
    ]


def outcome_of(image: HeldImage) -> Outcome:
    """Some fail; the others have sizes by which a wrong sum shows."""
    if image.position % 7 == 0:
        return Failed(ImageFailure("http_404", "the server answered 404"))
    size = 1000 + image.position
    return Output(name="a" * 64 + ".jpg", bytes=size, source_bytes=size * 3, width=4, height=3, format="jpeg")


@pytest.fixture
async def finishers(mongo_uri: str, documents: Documents) -> AsyncIterator[list[Documents]]:
    """Eight replicas, each with a connection of its own."""
    connections = [Mongo.connect(mongo_uri, documents.mongo.database.name) for _ in range(FINISHERS)]
    yield [Documents(connection, holder=str(number)) for number, connection in enumerate(connections)]
    for connection in connections:
        connection.close()


async def claim_all(documents: Documents) -> list[HeldImage]:
    """Claims what there is."""
    _, held = await documents.images.claim(1000)
    return held


async def finish_together(finishers: Sequence[Documents], request_id: str, held: list[HeldImage], total: int) -> int:
    """Shares the images out, in small batches; says how many closings of the request were reported.

    Every batch is written again by another finisher, as after an error whose write had been done.
    """
    random.shuffle(held)
    batches = [held[first : first + BATCH] for first in range(0, len(held), BATCH)]
    closings: list[str] = []

    async def work(number: int) -> None:
        for index, batch in enumerate(batches):
            if index % FINISHERS not in {number, (number + 1) % FINISHERS}:
                continue
            await patiently(partial(finishers[number].outcomes.write, [(image, outcome_of(image)) for image in batch]))
            if status := await finishers[number].requests.close_if_done(request_id, total):
                closings.append(status)

    async with asyncio.TaskGroup() as group:
        for number in range(len(finishers)):
            group.create_task(work(number))
    return len(closings)


async def recount(mongo: Mongo, request_id: str) -> Counts:
    """The counts by the images themselves."""
    counts = Counts()
    found = mongo.collection("images").find({"_id.r": request_id, "state": {"$exists": True}})
    async for image in found:
        copies = 1 + image["copies"]
        assert image["state"] in {"completed", "failed", "cancelled"}
        assert "lease" not in image
        counts += Counts(**{image["state"]: copies})
        if image["state"] == "completed":
            counts += Counts(bytes_in=image["output"]["source_bytes"], bytes_out=image["output"]["bytes"])
    return counts


async def assert_closed_rightly(mongo: Mongo, documents: Documents, request_id: str, *statuses: str) -> None:
    """The request is closed with one of `statuses`, and its counts are those of its images."""
    request = await documents.requests.get(request_id)
    assert request is not None
    assert request.closed
    assert request.status in statuses
    counted = await recount(mongo, request_id)
    assert (request.counts, counted.finished) == (counted, request.total)
    progress = await documents.progress.total(request_id)
    assert progress == Counts(counted.completed, counted.failed, 0, counted.bytes_in, counted.bytes_out)


@asynccontextmanager
async def closings_of(mongo: Mongo) -> AsyncIterator[list[str]]:
    """Collects the ids of requests as often as they are closed, from a change stream; complete at the end."""
    pipeline: list[dict[str, Any]] = [
        {
            "$match": {
                "$or": [{"updateDescription.updatedFields.completed_at": {"$exists": True}}, {"documentKey._id": "end"}]
            }
        },
        {"$project": {"documentKey": 1, "operationType": 1}},
    ]
    closed: list[str] = []
    async with ChangeStream(mongo, mongo.collection("requests"), pipeline) as stream:
        yield closed
        await mongo.collection("requests").insert_one({"_id": "end"})
        async with asyncio.timeout(30):
            while "end" not in closed:
                closed.extend(event["documentKey"]["_id"] for event in (await stream.read()).events)
    closed.remove("end")


async def test_whoever_finishes_last_closes_the_request_once(
    mongo: Mongo, documents: Documents, finishers: list[Documents]
) -> None:
    """Eight finishers of one request, each batch written twice: closed once, and counted as the images stand."""
    total = 60
    async with closings_of(mongo) as closed:
        ids = [uuid4() for _ in range(ROUNDS)]
        for request_id in ids:
            await documents.requests.accept(new_request(total), [new_images(0, total)], request_id)
            held = await claim_all(documents)
            assert await finish_together(finishers, str(request_id), held, total) == 1
            await assert_closed_rightly(mongo, documents, str(request_id), "completed_with_errors")
    assert sorted(closed) == sorted(map(str, ids))


async def test_an_upload_that_ends_after_its_last_image_closes_its_request(
    mongo_uri: str, mongo: Mongo, documents: Documents, finishers: list[Documents]
) -> None:
    """While the loader still holds the request open nobody closes it; the loader does, once it has loaded."""
    total = 60
    request_id = uuid4()
    stored, finished = threading.Event(), threading.Event()

    def hold() -> None:
        stored.set()
        assert finished.wait(60)

    connection = Mongo.connect(mongo_uri, mongo.database.name, listeners=[BehindCommit(3, hold)])
    batches = [new_images(first, first + 20) for first in range(0, total, 20)]
    async with closings_of(mongo) as closed:
        accepting = Documents(connection).requests.accept(new_request(total), batches, request_id)
        loading = asyncio.create_task(accepting, name="loading")
        assert await asyncio.to_thread(stored.wait, 60)
        assert await finish_together(finishers, str(request_id), await claim_all(documents), total) == 0
        assert await documents.requests.sweep() == []
        finished.set()
        await loading
        await assert_closed_rightly(mongo, documents, str(request_id), "completed_with_errors")
    connection.close()
    assert closed == [str(request_id)]


async def test_a_request_is_closed_once_by_loader_finishers_and_sweeps(
    mongo: Mongo, documents: Documents, finishers: list[Documents]
) -> None:
    """Finishers take the images as they are loaded, and others sweep: whoever comes last, there is one closing."""
    total = 60
    async with closings_of(mongo) as closed:
        ids = [uuid4() for _ in range(ROUNDS)]
        for request_id in ids:
            done = asyncio.Event()

            async def take(replica: Documents, request_id: str, done: asyncio.Event) -> None:
                while not done.is_set():
                    _, held = await replica.images.claim(BATCH)
                    await patiently(partial(replica.outcomes.write, [(image, outcome_of(image)) for image in held]))
                    await replica.requests.close_if_done(request_id, total)
                    await replica.requests.sweep()
                    request = await replica.requests.get(request_id)
                    if request is not None and request.closed:
                        done.set()

            batches = [new_images(first, first + 10) for first in range(0, total, 10)]
            async with asyncio.timeout(60):
                await asyncio.gather(
                    documents.requests.accept(new_request(total), batches, request_id),
                    *(take(replica, str(request_id), done) for replica in finishers),
                )
            await assert_closed_rightly(mongo, documents, str(request_id), "completed_with_errors")
    assert sorted(closed) == sorted(map(str, ids))


async def test_a_request_cancelled_under_load_counts_every_image_once(
    mongo: Mongo, documents: Documents, finishers: list[Documents]
) -> None:
    """Cancelled by two at once after about half of its images, while sweeps run: closed once, every image counted.

    In every other round some images are kept back, so that the request cannot be completed before it is cancelled.
    """
    total = 60
    async with closings_of(mongo) as closed:
        ids = [uuid4() for _ in range(ROUNDS)]
        for number, request_id in enumerate(map(str, ids)):
            await documents.requests.accept(new_request(total), [new_images(0, total)], UUID(request_id))
            held = await claim_all(documents)
            kept_back = BATCH * (number % 2)
            await asyncio.gather(
                finish_together(finishers, request_id, held[kept_back:], total),
                cancel_half_way(documents, request_id, total),
                cancel_half_way(finishers[0], request_id, total),
            )
            assert (await documents.outcomes.write([(image, outcome_of(image)) for image in held])).images == []
            statuses = ["cancelled"] if kept_back else ["cancelled", "completed_with_errors"]
            await assert_closed_rightly(mongo, documents, request_id, *statuses)
    assert sorted(closed) == sorted(map(str, ids))


async def cancel_half_way(documents: Documents, request_id: str, total: int) -> None:
    """Cancels when about half of the images are final, beside a sweep that may do the rest of it."""
    async with asyncio.timeout(60):
        while (await documents.progress.total(request_id)).finished < total // 2:
            pass
    async with asyncio.TaskGroup() as group:
        group.create_task(documents.requests.sweep())
        with suppress(AlreadyFinalError):  # the other was first, or the last image was
            await documents.requests.cancel(request_id)


async def test_a_request_finished_whole_and_cancelled_at_the_same_time_is_closed_once(
    mongo: Mongo, documents: Documents, finishers: list[Documents]
) -> None:
    """Either it is closed in the transaction that writes its images, or they are counted and cancelling closes it."""
    total, statuses = 3, []
    async with closings_of(mongo) as closed:
        ids = [uuid4() for _ in range(4 * ROUNDS)]
        for request_id in map(str, ids):
            await documents.requests.accept(new_request(total), [new_images(0, total)], UUID(request_id))
            written = [(image, outcome_of(image)) for image in await claim_all(documents)]

            async def finish(replica: Documents, written: list[tuple[HeldImage, Outcome]], request_id: str) -> None:
                await replica.outcomes.write(written, {request_id: total})
                await replica.requests.close_if_done(request_id, total)

            async def cancel(request_id: str) -> None:
                with suppress(AlreadyFinalError):
                    await documents.requests.cancel(request_id)

            twice = [finish(replica, written, request_id) for replica in finishers[:2]]
            await asyncio.gather(*twice, cancel(request_id))
            request = await documents.requests.get(request_id)
            assert request is not None
            counted = await recount(mongo, request_id)
            assert (request.closed, request.counts, counted.finished) == (True, counted, total)
            statuses.append(request.status)
    assert set(statuses) <= {"cancelled", "completed_with_errors"}
    assert sorted(closed) == sorted(map(str, ids))


async def test_an_outcome_counts_although_a_write_from_before_its_claim_is_under_way(
    mongo: Mongo, documents: Documents
) -> None:
    """The claim waits for no majority, and no majority can have it yet; its holder has it."""
    request_id = uuid4()
    await documents.requests.accept(new_request(1), [new_images(0, 1)], request_id)
    async with write_under_way(mongo) as end_it, asyncio.TaskGroup() as tasks:
        [image] = await claim_all(documents)
        async with held_command(mongo, "commitTransaction", app="darkroom", seconds=0.1) as reached:
            writing = tasks.create_task(documents.outcomes.write([(image, outcome_of(image))]), name="finisher")
            await reached()
        await end_it()
    assert writing.result().images == [image]
    assert await documents.requests.close_if_done(str(request_id), 1) == "failed"
