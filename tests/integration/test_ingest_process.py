"""Ingest as a process of its own."""

import asyncio
import resource
import signal
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import aiohttp

from libs.documents import Documents
from libs.mongo import Mongo
from tests.ingests import HEADER, SAMPLE, multipart, stored
from tests.processes import environment, memory_of, started
from tests.waiting import until

ROWS = 100_000
MOST_ABOVE_IDLE = 150 * 2**20
FORM = {"Content-Type": "multipart/form-data; boundary=b0undary"}
FILE = 'Content-Disposition: form-data; name="file"; filename="a.csv"'


def env_of(mongo: Mongo, uri: str, folder: Path, **settings: str) -> dict[str, str]:
    """The environment of an ingest service on the test's database."""
    return environment(uri, folder, **settings) | {"DATABASE_NAME": mongo.database.name}


async def test_memory_stays_flat_while_a_large_catalogue_streams_in(
    mongo: Mongo, mongo_uri: str, documents: Documents, tmp_path: Path
) -> None:
    """100,000 rows, read and stored: less than 150 MiB above the idle process, and the status streams out as flat."""

    async def body() -> AsyncIterator[bytes]:
        yield f"--b0undary\r\n{FILE}\r\n\r\n{HEADER}".encode()
        for first in range(0, ROWS, 1_000):
            rows = range(first, first + 1_000)
            yield "".join(f"{n},Product {n},https://img{n % 50}.example.com/{n}/a.jpg\n" for n in rows).encode()
        yield b"\r\n--b0undary--\r\n"

    async with (
        started("ingest", env_of(mongo, mongo_uri, tmp_path), tmp_path) as ingest,
        aiohttp.ClientSession() as client,
    ):
        idle = memory_of(ingest.process.pid, "VmRSS")
        async with client.post(f"{ingest.url}/api/upload", data=body(), headers=FORM) as answer:
            accepted = await answer.json()
        assert answer.status == 200, accepted
        rows = 0
        async with client.get(f"{ingest.url}/api/status", params={"request_id": accepted["request_id"]}) as answer:
            async for chunk in answer.content.iter_any():
                rows += chunk.count(b'"serial_number"')
        peak = memory_of(ingest.process.pid, "VmHWM")

    assert peak - idle < MOST_ABOVE_IDLE
    assert rows >= ROWS * 0.99  # a key may lie across two chunks
    request = await documents.requests.get(accepted["request_id"])
    assert request is not None
    assert (request.total, request.loaded) == (ROWS, True)


async def test_an_upload_under_way_ends_well_when_the_service_is_stopped(
    mongo: Mongo, mongo_uri: str, documents: Documents, tmp_path: Path
) -> None:
    """SIGTERM in the middle of the body: the rest is taken, the answer is 200, the process ends with 0."""
    form = multipart([(FILE, SAMPLE.encode())])
    go_on = asyncio.Event()
    sent = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield form[:120]
        sent.set()
        await go_on.wait()
        yield form[120:]

    env = env_of(mongo, mongo_uri, tmp_path)
    async with started("ingest", env, tmp_path) as ingest, aiohttp.ClientSession() as client:

        async def upload() -> str:
            async with client.post(f"{ingest.url}/api/upload", data=body(), headers=FORM) as answer:
                assert answer.status == 200, await answer.text()
                return str((await answer.json())["request_id"])

        async def is_stopping() -> bool:
            return any(event["event"] == "service.stopping" for event in ingest.events)

        uploading = asyncio.create_task(upload(), name="upload")
        await sent.wait()
        async with client.get(f"{ingest.url}/readyz") as answer:  # the upload's bytes came first
            assert answer.status == 200
        ingest.process.send_signal(signal.SIGTERM)
        await until(is_stopping, "the service has seen the signal")
        go_on.set()
        request_id = await uploading
        assert await ingest.process.wait() == 0

    request = await documents.requests.get(request_id)
    assert request is not None
    assert request.loaded
    [accepted] = [event for event in ingest.events if event["event"] == "upload.accepted"]
    assert (accepted["request_id"], accepted["service"]) == (request_id, "ingest")
    assert accepted["trace_id"] in request.trace


async def test_a_full_disk_is_told_and_survived(mongo: Mongo, mongo_uri: str, tmp_path: Path) -> None:
    """When the images being checked do not fit on the disk: 507, nothing stored, and small uploads still pass."""
    rows = "".join(f"{n},SKU,https://a.example/{n}?{'a' * 1000}\n" for n in range(20_000))
    form = multipart([(FILE, f"{HEADER}{rows}".encode())])
    async with (
        started("ingest", env_of(mongo, mongo_uri, tmp_path), tmp_path) as ingest,
        aiohttp.ClientSession() as client,
    ):
        resource.prlimit(ingest.process.pid, resource.RLIMIT_FSIZE, (2**20, 2**20))

        async def upload(body: bytes) -> tuple[int, str]:
            async with client.post(f"{ingest.url}/api/upload", data=BytesIO(body), headers=FORM) as answer:
                return answer.status, str((await answer.json(content_type=None)).get("code"))

        assert await upload(form) == (507, "spool_failed")
        assert await stored(mongo) == 0
        assert (await upload(multipart([(FILE, SAMPLE.encode())])))[0] == 200


async def test_ingest_says_ready_only_while_the_database_answers(mongo: Mongo, mongo_uri: str, tmp_path: Path) -> None:
    """When the primary refuses, /readyz turns to 503 with the reason, and back by itself."""
    app = {"appName": "darkroom-ingest", "errorCode": 10107, "failCommands": ["hello", "ping"]}
    async with (
        started("ingest", env_of(mongo, mongo_uri, tmp_path), tmp_path) as ingest,
        aiohttp.ClientSession() as client,
    ):

        async def ready() -> tuple[int, str]:
            async with client.get(f"{ingest.url}/readyz") as answer:
                return answer.status, (await answer.json())["reason"]

        async def is_ready() -> bool:
            return (await ready())[0] == 200

        async def is_waiting() -> bool:
            return await ready() == (503, "waiting for MongoDB")

        await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": app})
        try:
            await until(is_waiting, "the service is not ready")
            async with client.get(f"{ingest.url}/livez") as answer:
                assert answer.status == 200
        finally:
            await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        await until(is_ready, "the service is ready again")
        assert await ingest.stop() == 0
