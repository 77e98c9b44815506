"""Streams whose place in the oplog is gone, on a server with a real small one, and watched collections that go."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from bson import Timestamp
from prometheus_client.parser import text_string_to_metric_families

from libs.changestream import ChangeStream, HistoryLostError
from libs.mongo import EmbeddedMongo, Mongo
from tests.conftest import FAULTS
from tests.processes import Service, started
from tests.scenes import Scene, scene
from tests.sources import photograph, served
from tests.waiting import until

SMALL_OPLOG = ("--oplogSize", "1", "--syncdelay", "1")
MEGABYTE = b"0" * 2**20
SECONDS_OF_A_STREAM = 30.0


@pytest.fixture(scope="module")
async def small_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A server that remembers a megabyte of operations."""
    folder: Path = tmp_path_factory.mktemp("small")
    async with EmbeddedMongo(folder, options=(*FAULTS, *SMALL_OPLOG)) as embedded:
        yield embedded.uri


@pytest.fixture
async def small(small_uri: str) -> AsyncIterator[Mongo]:
    """A connection to it."""
    mongo = Mongo.connect(small_uri, "small", operation_seconds=20)
    yield mongo
    await mongo.client.drop_database("small")
    mongo.close()


async def roll_oplog(mongo: Mongo) -> None:
    """Writes until the server has forgotten all that happened before."""
    oplog = mongo.client.get_database("local").get_collection("oplog.rs")

    async def edge(direction: int) -> Timestamp:
        found = await oplog.find_one({}, {"ts": 1}, sort=[("$natural", direction)])
        assert found is not None
        ts: Timestamp = found["ts"]
        return ts

    last = await edge(-1)

    async def forgotten() -> bool:
        await mongo.collection("ballast").insert_one({"data": MEGABYTE})
        await mongo.client.admin.command("fsync")
        return await edge(1) > last

    await until(forgotten, "the oplog has rolled on")


def inserts(mongo: Mongo) -> ChangeStream:
    """A stream of the inserts into `work`."""
    return ChangeStream(mongo, mongo.collection("work"), [{"$match": {"operationType": "insert"}}])


async def read_on(stream: ChangeStream) -> None:
    """Reads until an error comes through."""
    async with asyncio.timeout(SECONDS_OF_A_STREAM):
        while True:
            await stream.read()


async def test_a_stream_that_broke_cannot_resume_from_what_is_forgotten(small: Mongo) -> None:
    """Its cursor is gone, and so is what its token points to: the server refuses to open it there."""
    async with inserts(small) as stream:
        await small.collection("work").insert_one({})
        await stream.read()
        await small.database.command({"killCursors": "work", "cursors": [stream._cursor]})
        await roll_oplog(small)
        with pytest.raises(HistoryLostError, match="ChangeStreamHistoryLost"):
            await read_on(stream)
        assert stream.resumes == 1


async def test_a_stream_that_nobody_read_is_overtaken(small: Mongo) -> None:
    """Its cursor is there, but what it would give next is forgotten."""
    async with inserts(small) as stream:
        await small.collection("work").insert_one({})
        await roll_oplog(small)
        with pytest.raises(HistoryLostError):
            await read_on(stream)


async def streams_asked_for(mongo: Mongo) -> int:
    """How many pipelines with a `$changeStream` the server has seen."""
    status = await mongo.client.admin.command("serverStatus")
    return int(status["metrics"]["aggStageCounters"]["$changeStream"])


@dataclass(frozen=True, slots=True)
class Listening:
    """A watcher that only its stream can wake, since it sweeps once an hour."""

    scene: Scene
    watcher: Service
    link: str
    client: aiohttp.ClientSession
    asked_before: int

    async def metric(self, name: str, **labels: str) -> float:
        """A counter of the watcher's; 0 while it has not counted."""
        async with self.client.get(f"{self.watcher.url}/metrics") as answer:
            families = list(text_string_to_metric_families(await answer.text()))
        samples = [sample for family in families for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    async def relists(self) -> float:
        """How often it has opened its stream anew because history was lost."""
        return await self.metric("darkroom_stream_relists_total")

    async def listens(self, times: int) -> None:
        """Returns when it has begun to listen so often."""

        async def probe() -> bool:
            return await self.metric("darkroom_wakeups_total", cause="listen") >= times

        await until(probe, "the watcher listens")

    async def streams_opened(self) -> int:
        """How many streams the server has been asked for since before the watcher began."""
        return await streams_asked_for(self.scene.documents.mongo) - self.asked_before

    def logged(self) -> int:
        """How many lines of its log tell of lost history."""
        return sum(event["event"] == "changestream.relist" for event in self.watcher.events)

    async def assert_works(self) -> None:
        """It does what is submitted now."""
        await self.scene.closed(await self.scene.submit([self.link]))


@asynccontextmanager
async def listening(uri: str, folder: Path) -> AsyncIterator[Listening]:
    """The watcher, once it listens."""
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(scene(uri, folder, DARKROOM_SWEEP_SECONDS="3600"))
        asked_before = await streams_asked_for(at.documents.mongo)
        sources = await stack.enter_async_context(served({"a.jpg": photograph(32, 24)}))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        watcher = await stack.enter_async_context(started("watcher", at.env, folder))
        listener = Listening(at, watcher, sources.link("a.jpg"), client, asked_before)
        await listener.listens(1)
        yield listener


@pytest.mark.parametrize("lost_at", ["getMore", "open"])
async def test_a_watcher_that_was_overtaken_looks_through_the_documents(
    small_uri: str, small: Mongo, tmp_path: Path, lost_at: str
) -> None:
    """It sleeps while a request comes and the server forgets that: found all the same, and then it listens again."""
    async with listening(small_uri, tmp_path) as listener:
        listener.watcher.process.send_signal(signal.SIGSTOP)
        missed = await listener.scene.submit([listener.link])
        await roll_oplog(small)
        if lost_at == "open":
            await small.client.admin.command("killAllSessions", [])  # its cursor, so that it has to resume
        listener.watcher.process.send_signal(signal.SIGCONT)
        await listener.scene.closed(missed)
        await listener.listens(2)
        await listener.assert_works()
        assert (await listener.relists(), listener.logged()) == (1, 1)
        assert await listener.streams_opened() == (3 if lost_at == "open" else 2)


async def test_a_watcher_whose_streams_keep_failing_does_its_work_without_a_hot_loop(
    small_uri: str, small: Mongo, tmp_path: Path
) -> None:
    """Every read is a fatal error (280) for a while: a stream per relist, a line each, and work is done meanwhile."""
    async with listening(small_uri, tmp_path) as listener:
        data = {"failCommands": ["getMore"], "errorCode": 280, "appName": "darkroom-watcher"}
        await small.client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
        try:
            await listener.assert_works()

            async def several() -> bool:
                return await listener.relists() >= 4

            await until(several, "the stream has failed several times")
        finally:
            await small.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        relists = await listener.relists()
        await listener.assert_works()

        async def one_more() -> bool:
            return await listener.streams_opened() > relists

        # Not before it works: it drains first, and pauses before that.
        await until(one_more, "a stream is open again")
        assert relists <= listener.logged() <= relists + 1
        assert await listener.streams_opened() <= relists + 2 < 20


@pytest.mark.parametrize("change", ["dropped", "renamed"])
async def test_a_watcher_whose_collection_is_gone_is_woken_by_its_successor(
    mongo_uri: str, tmp_path: Path, change: str
) -> None:
    """The stream ends with the collection; a new one of that name is listened to."""
    async with listening(mongo_uri, tmp_path) as listener:
        requests = listener.scene.documents.requests.collection
        await (requests.drop() if change == "dropped" else requests.rename("elsewhere"))
        await listener.listens(2)
        await listener.assert_works()
        assert (await listener.relists(), listener.logged(), await listener.streams_opened()) == (1, 1, 2)


async def test_a_renamed_collection_is_lost_history(small: Mongo) -> None:
    """When the watched collection gets another name, the stream says that it has to be opened anew."""
    await small.collection("work").insert_one({})
    async with inserts(small) as stream:
        await small.collection("work").rename("elsewhere")
        with pytest.raises(HistoryLostError, match="renamed"):
            await read_on(stream)
