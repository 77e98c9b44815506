"""The watcher on a real MongoDB, with real images from a loopback server."""

import asyncio
import signal
from pathlib import Path
from uuid import uuid4

import aiohttp

from libs.documents import Documents, NewImage, NewRequest, Request, Row
from libs.mongo import Mongo
from libs.storage import open_storage
from tests.processes import environment, started
from tests.sources import photograph, served
from tests.waiting import until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


async def submit(documents: Documents, urls: list[str]) -> str:
    """Accepts a request with one row per URL."""
    request_id = uuid4()
    new = NewRequest(None, "a.csv", 1, "0" * 64, len(urls), TRACE)
    images = [NewImage(n, n, n + 1, f"SKU{n}", url, "127.0.0.1") for n, url in enumerate(urls)]
    await documents.requests.accept(new, [images], request_id)
    return str(request_id)


async def closed(documents: Documents, request_id: str) -> Request:
    """The request once it is closed."""

    async def probe() -> Request | None:
        request = await documents.requests.get(request_id)
        return request if request and request.closed else None

    return await until(probe, "the request is closed")


async def rows(documents: Documents, request: Request) -> list[Row]:
    """The rows of a request."""
    return [row async for row in documents.images.rows(request.id, request.total)]


def env_of(mongo: Mongo, uri: str, folder: Path, **settings: str) -> dict[str, str]:
    """The environment of a watcher on the test's database."""
    return environment(uri, folder, **settings) | {"DATABASE_NAME": mongo.database.name}


async def test_a_watcher_compresses_what_is_submitted_while_it_is_idle(
    mongo: Mongo, mongo_uri: str, documents: Documents, tmp_path: Path
) -> None:
    """The change stream wakes an idle watcher; the output is stored and smaller, and the log carries the trace."""
    source = photograph()
    # With a sweep this rare, only the stream can have woken it.
    env = env_of(mongo, mongo_uri, tmp_path, DARKROOM_SWEEP_SECONDS="3600")
    async with served({"a.jpg": source}) as sources, started("watcher", env, tmp_path) as watcher:
        async with aiohttp.ClientSession() as client, client.get(f"{watcher.url}/readyz") as answer:
            assert answer.status == 200
        request = await closed(documents, await submit(documents, [sources.link("a.jpg")]))
        assert request.status == "completed"
        [row] = await rows(documents, request)
        name = row.images[0].output_name
        assert name is not None
        path = open_storage(env["DARKROOM_STORAGE"]).path(name)
        assert path is not None
        assert path.stat().st_size < len(source)
        assert await watcher.stop() == 0
    [event] = [event for event in watcher.events if event["event"] == "image.compressed"]
    assert (event["request_id"], event["service"]) == (request.id, "watcher")
    assert event["trace_id"] in TRACE


async def test_each_failure_has_its_code_and_spares_the_others(
    mongo: Mongo, mongo_uri: str, documents: Documents, tmp_path: Path
) -> None:
    """A missing image, a page and a forbidden address fail with their reasons; the good image is compressed."""
    env = env_of(mongo, mongo_uri, tmp_path)
    images = {"good.jpg": photograph(), "page.jpg": b"<!doctype html><html><body>hello</body></html>"}
    async with served(images) as sources, started("watcher", env, tmp_path):
        urls = [
            sources.link("good.jpg"),
            sources.link("none.jpg"),
            sources.link("page.jpg"),
            "http://10.255.255.1/a.jpg",
        ]
        request = await closed(documents, await submit(documents, urls))
    assert request.status == "completed_with_errors"
    errors = [row.images[0].error for row in await rows(documents, request)]
    assert [error and error.code for error in errors] == [None, "http_404", "not_an_image", "blocked_address"]
    assert sources.fetched["none.jpg"] == 1


async def test_a_source_that_fails_for_a_while_is_tried_again(
    mongo: Mongo, mongo_uri: str, documents: Documents, tmp_path: Path
) -> None:
    """A connection that is refused is retried through `delayed` until the tries are used up, then named."""
    settings = {"DARKROOM_RETRY_SECONDS": "0.1", "DARKROOM_MAX_ATTEMPTS": "3", "DARKROOM_SWEEP_SECONDS": "0.5"}
    env = env_of(mongo, mongo_uri, tmp_path, **settings)
    async with served({}) as sources:
        gone = sources.link("a.jpg")
    async with started("watcher", env, tmp_path) as watcher:
        request = await closed(documents, await submit(documents, [gone]))
        assert request.status == "failed"
        [row] = await rows(documents, request)
        assert row.images[0].error is not None
        assert row.images[0].error.code == "connect_error"
        assert [event["attempts"] for event in watcher.events if event["event"] == "image.retry"] == [1, 2]


async def test_a_stopped_watcher_gives_back_what_it_cannot_finish(
    mongo: Mongo, mongo_uri: str, documents: Documents, tmp_path: Path
) -> None:
    """SIGTERM while a download hangs: exit 0 in time, the image pending again and charged nothing."""
    reached = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        reached.set()
        await reader.read()
        writer.close()

    env = env_of(mongo, mongo_uri, tmp_path, DARKROOM_SHUTDOWN_SECONDS="0.2")
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with started("watcher", env, tmp_path) as watcher:
            await submit(documents, [f"http://127.0.0.1:{port}/a.jpg"])
            async with asyncio.timeout(30):
                await reached.wait()
            assert await watcher.stop(signal.SIGTERM) == 0
    _, [image] = await documents.images.claim(10)
    assert (image.attempts, image.lost_leases) == (0, 0)
