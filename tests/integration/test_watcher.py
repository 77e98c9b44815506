"""The watcher on a real MongoDB, with real images from a loopback server."""

import asyncio
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from libs.changestream import Wake
from libs.documents import Documents, ImageFailure, NewImage, NewRequest, Output, Request, Row
from libs.egress import Download, EgressError
from libs.mongo import Mongo
from libs.storage import open_storage
from tests.processes import environment, started
from tests.sources import photograph, served
from tests.waiting import until
from tests.watchers import Downloads, Writing, draining

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
OUTPUT = Output(name="a" * 64 + ".jpg", bytes=40, source_bytes=100, width=4, height=3, format="jpeg")


async def submit(documents: Documents, urls: list[str], **options: Any) -> str:
    """Accepts a request with one row per URL."""
    request_id = uuid4()
    new = NewRequest(None, "a.csv", 1, "0" * 64, len(urls), TRACE, options=options)
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
        output = row.images[0].output
        assert output is not None
        assert (output.source_format, output.source_width, output.quality) == ("jpeg", output.width, 50)
        assert set(output.milliseconds) == {"queue", "download", "decode", "encode", "store"}
        assert all(0 <= spent < 60_000 for spent in output.milliseconds.values())
        path = open_storage(env["DARKROOM_STORAGE"]).path(output.name)
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
    """SIGTERM while a download hangs: exit 0 in time, the image pending again and charged nothing.

    All its slots are taken from the start, so it says that it is ready before it ever listens.
    """
    reached = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        reached.set()
        await reader.read()
        writer.close()

    env = env_of(mongo, mongo_uri, tmp_path, DARKROOM_SHUTDOWN_SECONDS="0.2", DARKROOM_IN_FLIGHT="1")
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await submit(documents, [f"http://127.0.0.1:{port}/a.jpg"])
        async with started("watcher", env, tmp_path) as watcher:
            async with asyncio.timeout(30):
                await reached.wait()
            assert await watcher.stop(signal.SIGTERM) == 0
    _, [image] = await documents.images.claim(10)
    assert (image.attempts, image.lost_leases) == (0, 0)


class Turns:
    """Counts how often a drain has said that it gets on."""

    def __init__(self) -> None:
        self._taken: asyncio.Queue[None] = asyncio.Queue()

    def __call__(self) -> None:
        """It gets on."""
        self._taken.put_nowait(None)

    async def more(self, count: int) -> None:
        """Returns when it has said so `count` times from now on."""
        while not self._taken.empty():
            self._taken.get_nowait()
        async with asyncio.timeout(60):
            for _ in range(count):
                await self._taken.get()


async def states(documents: Documents) -> dict[str, str]:
    """The state of every image, by its URL."""
    return {document["url"]: document["state"] async for document in documents.mongo.collection("images").find()}


async def test_a_watcher_with_every_slot_taken_still_sweeps(documents: Documents, tmp_path: Path) -> None:
    """It takes back lost leases, promotes what is due, closes what is done, and says that it lives."""
    downloads, turns = Downloads(), Turns()
    done = await submit(documents, ["http://h/done"])
    _, [image] = await documents.images.claim(1)
    await documents.outcomes.write([(image, OUTPUT)])
    await submit(documents, ["http://h/due", "http://h/lost"])
    _, [due, _] = await documents.images.claim(2)
    await submit(documents, ["http://h/hangs"])
    past = [{"$set": {"lease.until": {"$subtract": ["$$NOW", 1]}}}]

    async def back() -> bool:
        return await states(documents) == {
            "http://h/done": "completed",
            "http://h/due": "pending",
            "http://h/lost": "pending",
            "http://h/hangs": "processing",
        }

    async with draining(documents, tmp_path, downloads, progressed=turns, in_flight=1):
        assert await downloads.started.get() == "http://h/hangs"
        await turns.more(3)
        await documents.images.retry(due, ImageFailure("timeout", ""), 0)
        await documents.mongo.collection("images").update_one({"url": "http://h/lost"}, past)
        await until(back, "what was due or lost is pending again")
        assert (await closed(documents, done)).status == "completed"
        downloads.gate.set()


class FailingOnce(Downloads):
    """The first download of all comes to nothing, after a while in which claims go on."""

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """The URL as a body, but for the first."""
        if self.started.empty():
            self.started.put_nowait(url)
            await asyncio.sleep(0.5)
            raise EgressError("http_503", "not now", retryable=True)
        return await super().download(url, max_bytes=max_bytes, total_seconds=total_seconds)


async def test_a_try_that_is_due_is_made_though_claims_have_gone_past_it(documents: Documents, tmp_path: Path) -> None:
    """More than two seconds ago, and with no sweep to find it."""
    urls = [f"http://h/{number}" for number in range(2)]
    request_id = await submit(documents, urls)
    downloads = FailingOnce(*urls)

    async def is_due() -> bool:
        found = await states(documents)
        return set(found.values()) == {"delayed", "completed"} and await documents.images.leases.next_due_seconds() == 0

    async with draining(
        documents, tmp_path, downloads, in_flight=1, host_in_flight=1, sweep_seconds=3600, retry_seconds=6
    ) as crew:
        await until(is_due, "the first is to be tried again")
        assert await crew.drain(Wake("due"))
        assert (await closed(documents, request_id)).status == "completed"


async def test_a_suspect_runs_with_nothing_beside_it(documents: Documents, tmp_path: Path) -> None:
    """It is not even claimed while anything else runs, and what comes behind it waits until it has ended."""
    downloads, turns = Downloads(), Turns()
    requests = [await submit(documents, ["http://h/before", "http://h/suspect", "http://h/beside"])]
    images = documents.mongo.collection("images")
    await images.update_one({"url": "http://h/suspect"}, {"$set": {"lost_leases": 2}})
    async with draining(documents, tmp_path, downloads, progressed=turns):
        together = {await downloads.started.get() for _ in range(2)}
        requests.append(await submit(documents, ["http://h/behind"]))
        await turns.more(3)
        found = await states(documents)
        assert [found[f"http://h/{name}"] for name in ("suspect", "behind")] == ["pending"] * 2
        downloads.gate.set()
        for request_id in requests:
            await closed(documents, request_id)
        then = [await downloads.started.get() for _ in range(2)]
    assert together == {"http://h/before", "http://h/beside"}
    assert then == ["http://h/suspect", "http://h/behind"]
    assert downloads.beside["http://h/suspect"] == downloads.beside["http://h/behind"] == set()


async def test_an_image_without_its_request_is_removed(documents: Documents, tmp_path: Path) -> None:
    """It is neither downloaded nor counted, and does not come back."""
    downloads = Downloads()
    request_id = await submit(documents, ["http://h/orphan"])
    await documents.requests.collection.delete_one({"_id": request_id})

    async def gone() -> bool:
        return await states(documents) == {}

    async with draining(documents, tmp_path, downloads):
        await until(gone, "the image is removed")
    assert downloads.started.empty()
    assert await documents.mongo.collection("progress").count_documents({}) == 0


async def test_a_stopping_watcher_writes_what_it_knows(documents: Documents, tmp_path: Path) -> None:
    """With no time left, an image whose outcome waits to be written is completed; one that downloads is given back."""
    downloads, writing = Downloads("http://h/known"), Writing(documents)
    await submit(documents, ["http://h/known", "http://h/hangs"])

    async def given_back() -> bool:
        return (await states(documents))["http://h/hangs"] == "pending"

    async def write_at_last() -> None:
        await until(given_back, "what hangs is given back")
        writing.gate.set()

    watcher = draining(documents, tmp_path, downloads, completion=writing, shutdown_seconds=1e-6)
    async with asyncio.TaskGroup() as tasks, watcher:
        for _ in range(2):
            await downloads.started.get()
        await writing.reached.wait()
        tasks.create_task(write_at_last())
    assert await states(documents) == {"http://h/known": "completed", "http://h/hangs": "pending"}
