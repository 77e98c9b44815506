"""Kill -9 of ingest during an upload: what was committed whole is worked on, the rest leaves nothing behind."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from libs.mongo import Mongo
from tests.fail_points import held_command, short_transactions
from tests.ingests import HEADER
from tests.processes import Service, started
from tests.receivers import receiving
from tests.scenes import SHORT_LEASES, scene
from tests.sources import photograph, served
from tests.waiting import until

APP = "darkroom-ingest"
SEVERAL_BATCHES = 2_500
IN_FLIGHT = 4


async def upload_without_answer(service: Service, csv: str, webhook_url: str) -> None:
    """Uploads to a service that dies over it."""
    form = aiohttp.FormData()
    form.add_field("file", csv.encode(), filename="test.csv", content_type="text/csv")
    form.add_field("webhook_url", webhook_url)
    async with aiohttp.ClientSession() as client:
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await client.post(f"{service.url}/api/upload", data=form)


async def test_an_upload_whose_ingest_is_killed_is_there_whole_or_fails(
    mongo: Mongo, mongo_uri: str, tmp_path: Path
) -> None:
    """One dies inside the second of three batches, one while MongoDB has its commit; the first request is taken back.

    Nobody was told of either, but the second one is whole: it is compressed and announced, and the first is not, though
    a watcher had begun to work on it.
    """
    images = {f"{n}.jpg": photograph(64, 48, shade=n) for n in range(2)}
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **SHORT_LEASES))
        sources = await stack.enter_async_context(served(images))
        receiver = await stack.enter_async_context(receiving())
        await stack.enter_async_context(short_transactions(mongo, 2))
        env = place.env | {"DARKROOM_IN_FLIGHT": str(IN_FLIGHT)}
        services = [("ingest", 1), ("ingest", 2), ("watcher", 1), ("notifier", 1)]
        first, second, *_ = await asyncio.gather(
            *[stack.enter_async_context(started(name, env, tmp_path, number=number)) for name, number in services]
        )
        sources.close()
        batches = "".join(f"{n},SKU{n},{sources.link(f'interrupted/{n}.jpg')}\n" for n in range(SEVERAL_BATCHES))
        batch = "".join(f"{n},SKU{n},{sources.link(path)}\n" for n, path in enumerate(images))
        for service, rows, holding in (
            (first, batches, held_command(place.documents.mongo, "update", app=APP, collection="requests", passed=2)),
            (second, batch, held_command(place.documents.mongo, "commitTransaction", app=APP)),
        ):
            async with holding as reached, asyncio.TaskGroup() as tasks:
                tasks.create_task(upload_without_answer(service, HEADER + rows, receiver.url), name="upload")
                await reached()
                await sources.waiting_for(IN_FLIGHT)  # the first images of the first upload
                await service.stop(signal.SIGKILL)
        found = {document["total"]: document["_id"] async for document in place.documents.requests.collection.find()}
        interrupted, whole = found.pop(SEVERAL_BATCHES), found.pop(len(images))
        assert found == {}

        request = await place.closed(interrupted)
        assert (request.status, request.error, request.loaded) == ("failed", "ingest_interrupted", False)
        sources.open()
        assert (await place.closed(whole)).status == "completed"
        await place.assert_counted_once(whole)
        await receiver.wait(1)

        async def delivered() -> bool:
            return [one.state for one in await place.documents.deliveries.of_request(whole)] == ["delivered"]

        await until(delivered, "the webhook is recorded")
        assert await place.states() == {"completed": len(images)}
        assert await place.documents.deliveries.of_request(interrupted) == []
    assert {json.loads(one.body)["request_id"] for one in receiver.received} == {whole}
