"""MongoDB is away: services wait, say that they are not ready, go on by themselves, and can be stopped meanwhile."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from libs.mongo import EmbeddedMongo
from libs.mongo.embedded import Member
from tests import primaries
from tests.processes import Service, started
from tests.scenes import Scene, scene
from tests.sources import Sources, photograph, served
from tests.waiting import until
from tests.webhook_server import Received, Receiver, receiving

AWAY_SECONDS = 60.0
PATHS = [f"{n}.jpg" for n in range(3)]
NAMES = ("ingest", "watcher", "notifier")
SETTINGS = {
    "DARKROOM_SHUTDOWN_SECONDS": "1",
    "DARKROOM_LEASE_SECONDS": "3",
    "DARKROOM_OPERATION_SECONDS": "0.9",
    "DARKROOM_SWEEP_SECONDS": "1",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One of each service on a MongoDB with one member, with an image and a webhook in hand."""

    embedded: EmbeddedMongo
    scene: Scene
    sources: Sources
    receiver: Receiver
    receives: asyncio.Event
    services: list[Service]
    client: aiohttp.ClientSession

    @property
    def member(self) -> Member:
        """The one member."""
        return self.embedded.running[0]

    async def take_in_hand(self) -> tuple[str, str]:
        """A request whose webhook is being posted, and one whose images are being fetched."""
        self.sources.open()
        self.receives.clear()
        count = len(self.receiver.received)
        posting = await self.submit()
        await self.receiver.first(count + 1)
        self.sources.close()
        fetching = await self.submit()
        await self.sources.waiting_for(len(PATHS))
        return posting, fetching

    async def submit(self) -> str:
        """A new request of three images, with a webhook."""
        return await self.scene.submit([self.sources.link(path) for path in PATHS], self.receiver.url)

    def let_go(self) -> None:
        """Both hosts answer."""
        self.sources.open()
        self.receives.set()

    async def answers(self, path: str) -> list[int]:
        """What the services answer at `path`, each by its status."""
        statuses = []
        for service in self.services:
            async with self.client.get(f"{service.url}/{path}") as answer:
                statuses.append(answer.status)
        return statuses

    async def all_answer(self, path: str, status: int) -> None:
        """Returns once every service answers `status` at `path`."""

        async def probe() -> bool:
            return await self.answers(path) == [status] * len(self.services)

        await until(probe, f"every service answers {status} at /{path}")

    async def assert_done(self, request_id: str) -> None:
        """Every image is completed and counted once and was charged nothing, and the webhook came under one id."""
        request = await self.scene.closed(request_id)
        assert request.status == "completed"
        await self.scene.assert_counted_once(request_id)
        images = await self.scene.documents.mongo.collection("images").find({"_id.r": request_id}).to_list(None)
        assert {image["attempts"] for image in images} == {0}

        async def delivered() -> bool:
            deliveries = await self.scene.documents.deliveries.of_request(request_id)
            return [(delivery.state, delivery.attempts_made) for delivery in deliveries] == [("delivered", 1)]

        await until(delivered, "the webhook is delivered")
        posts = [received for received in self.receiver.received if request_id in received.body.decode()]
        assert len({received.webhook_id for received in posts}) == 1


@asynccontextmanager
async def placed(folder: Path) -> AsyncIterator[Place]:
    """The place, in `folder`."""
    receives = asyncio.Event()

    async def answer(_: Received) -> web.StreamResponse:
        await receives.wait()
        return web.Response()

    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedMongo(folder / "mongo"))
        at = await stack.enter_async_context(scene(embedded.uri, folder / "services", **SETTINGS))
        sources = await stack.enter_async_context(served({path: photograph(32, 24) for path in PATHS}))
        receiver = await stack.enter_async_context(receiving(answer))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        services = [await stack.enter_async_context(started(name, at.env, at.folder)) for name in NAMES]
        yield Place(embedded, at, sources, receiver, receives, services, client)


@dataclass(frozen=True, slots=True)
class Away:
    """A place whose MongoDB was killed with work in hand, which has ended since; the minute is over at `back_at`."""

    place: Place
    in_hand: tuple[str, str]
    back_at: float


@pytest.fixture(scope="module", autouse=True)
async def away(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Away]:
    """Its minute passes while the other tests here run."""
    async with placed(tmp_path_factory.mktemp("away")) as place:
        in_hand = await place.take_in_hand()
        await primaries.kill(place.member)
        back_at = time.monotonic() + AWAY_SECONDS
        await place.all_answer("readyz", 503)
        place.let_go()  # what comes of it has to be kept until it can be written
        yield Away(place, in_hand, back_at)


async def test_services_stop_while_mongodb_does_not_answer(tmp_path: Path) -> None:
    """SIGTERM with work in hand while MongoDB is frozen: exit 0, and others do the work when it is back."""
    async with placed(tmp_path) as place:
        in_hand = await place.take_in_hand()
        assert place.member.process is not None
        place.member.process.send_signal(signal.SIGSTOP)
        try:
            await place.all_answer("readyz", 503)
            assert await asyncio.gather(*(service.stop() for service in place.services)) == [0, 0, 0]
        finally:
            place.member.process.send_signal(signal.SIGCONT)
        place.let_go()
        async with AsyncExitStack() as stack:
            for name in ("watcher", "notifier"):
                await stack.enter_async_context(started(name, place.scene.env, place.scene.folder, number=1))
            for request_id in in_hand:
                await place.assert_done(request_id)


async def test_a_minute_without_mongodb_costs_a_minute_and_nothing_else(away: Away) -> None:
    """Killed, and started again a minute later: alive and not ready meanwhile, then all goes on, charged to nobody."""
    place = away.place

    async def is_over() -> bool:
        assert await place.answers("livez") == [200, 200, 200]
        return time.monotonic() >= away.back_at

    await until(is_over, "the minute is over", seconds=2 * AWAY_SECONDS)
    assert await place.answers("readyz") == [503, 503, 503]
    await place.embedded.start_member(place.member)
    await place.all_answer("readyz", 200)
    for request_id in (*away.in_hand, await place.submit()):
        await place.assert_done(request_id)
