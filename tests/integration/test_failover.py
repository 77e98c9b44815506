"""The primary goes while a service is in the middle of a command: three members, real processes.

Each command is met before the server has done it and, where nobody else could tell, behind it but unanswered. The same
services live through all of it, lose nothing, count once, and lose no lease by an election.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
from aiohttp import web

from libs.documents import Delivery, Documents, Failed, ImageFailure, NewImage, NewRequest
from libs.mongo import EmbeddedMongo, Mongo, patiently
from tests import primaries
from tests.conftest import FAULTS
from tests.fail_points import Reached, held_command
from tests.processes import Service, started
from tests.scenes import Scene, scene
from tests.sources import Sources, photograph, served
from tests.waiting import until
from tests.webhook_server import Received, Receiver, receiving

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
PATHS = [f"{n}.jpg" for n in range(3)]
SETTINGS = {
    "DARKROOM_LEASE_SECONDS": "9",
    "DARKROOM_OPERATION_SECONDS": "2.9",
    "DARKROOM_SWEEP_SECONDS": "1",
}


@dataclass(slots=True)
class World:
    """A set of three, a watcher and a notifier on it, and the hosts they call, which answer while they are open."""

    embedded: EmbeddedMongo
    scene: Scene
    sources: Sources
    receiver: Receiver
    receives: asyncio.Event
    services: list[Service]

    async def submit(self) -> str:
        """A new request of three images, with a webhook."""
        return await self.scene.submit([self.sources.link(path) for path in PATHS], self.receiver.url)

    async def fetching(self) -> str:
        """A new request whose images are all being fetched."""
        self.sources.close()
        request_id = await self.submit()
        await self.sources.waiting_for(len(PATHS))
        return request_id

    async def posting(self) -> str:
        """A new request whose webhook is being posted."""
        self.receives.clear()
        count = len(self.receiver.received)
        request_id = await self.submit()
        await self.receiver.first(count + 1)
        return request_id

    async def delivered(self, request_id: str) -> Delivery:
        """The request's one delivery, once it is written down as delivered."""

        async def probe() -> Delivery | None:
            [*found] = await self.scene.documents.deliveries.of_request(request_id)
            return found[0] if [delivery.state for delivery in found] == ["delivered"] else None

        return await until(probe, "the webhook is delivered")

    async def assert_done_once(self, request_id: str) -> None:
        """Every image is completed and counted once, the webhook came under its id, and no lease was lost."""
        request = await self.scene.closed(request_id)
        assert request.status == "completed"
        await self.scene.assert_counted_once(request_id)
        images = await self.scene.documents.mongo.collection("images").find({"_id.r": request_id}).to_list(None)
        assert {(image["attempts"], image["lost_leases"]) for image in images} == {(0, 0)}
        delivery = await self.delivered(request_id)
        posts = [received for received in self.receiver.received if request_id in received.body.decode()]
        assert {received.webhook_id for received in posts} == {delivery.webhook_id}
        assert (len(posts), delivery.attempts_made) == (1, 1)
        assert [service.process.returncode for service in self.services] == [None, None]


@pytest.fixture(scope="module")
async def long_lived(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The world of all tests here."""
    folder: Path = tmp_path_factory.mktemp("failover")
    receives = asyncio.Event()

    async def answer(_: Received) -> web.StreamResponse:
        await receives.wait()
        return web.Response()

    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedMongo(folder / "mongo", members=3, options=FAULTS))
        place = await stack.enter_async_context(scene(embedded.uri, folder / "services", **SETTINGS))
        sources = await stack.enter_async_context(served({path: photograph(32, 24) for path in PATHS}))
        receiver = await stack.enter_async_context(receiving(answer))
        names = ("watcher", "notifier")
        services = [await stack.enter_async_context(started(name, place.env, place.folder)) for name in names]
        yield World(embedded, place, sources, receiver, receives, services)


@pytest.fixture
async def world(long_lived: World) -> World:
    """The world, with every member and both hosts there, whatever became of the test before."""
    for member in long_lived.embedded.running:
        await primaries.come_back(long_lived.embedded, member)
    long_lived.sources.open()
    long_lived.receives.set()
    return long_lived


@dataclass(frozen=True, slots=True)
class Command:
    """What a service sends at some step; `done` is what a document of `collection` looks like once it is done."""

    service: str
    name: str
    collection: str
    done: dict[str, Any]


CLAIM = Command("watcher", "update", "images", {"state": "processing"})
COMPLETION = Command("watcher", "commitTransaction", "images", {"state": "completed"})
RENEWAL = Command("watcher", "update", "images", {})
ANNOUNCEMENT = Command("notifier", "commitTransaction", "deliveries", {})
RECORD = Command("notifier", "update", "deliveries", {"state": "delivered"})

Cause: TypeAlias = Callable[[], Awaitable[str]]
"""Has the service send the command, and gives the request."""
Fall: TypeAlias = Callable[[World, Command, Cause], Awaitable[str]]


async def killed_before(world: World, command: Command, cause: Cause) -> str:
    """Kill -9 of the primary with the command in its hands, not done."""
    primary = await primaries.primary_of(world.embedded)
    async with held(world, command, seconds=60) as reached:
        caused = asyncio.ensure_future(cause())
        await reached()
        await primaries.kill(primary)
    request_id = await caused
    await primaries.come_back(world.embedded, primary)
    return request_id


async def stepped_down_before(world: World, command: Command, cause: Cause) -> str:
    """The primary hands over to another member with the command in its hands, and then refuses it."""
    primary = await primaries.primary_of(world.embedded)
    async with held(world, command, seconds=0.5) as reached:
        caused = asyncio.ensure_future(cause())
        await reached()
        await primaries.step_down(primary)
    request_id = await caused
    await primaries.come_back(world.embedded, primary)
    return request_id


async def killed_behind(world: World, command: Command, cause: Cause) -> str:
    """Kill -9 when the command is done and a majority has it, but the one who sent it was not told."""
    primary = await primaries.primary_of(world.embedded)
    mongo = world.scene.documents.mongo
    before = await primaries.committed(mongo, command.collection, command.done)
    await primaries.leave_unanswered(primary)
    caused = asyncio.ensure_future(cause())

    async def done() -> bool:
        return await primaries.committed(mongo, command.collection, command.done) > before

    await until(done, "the command is done")
    await primaries.kill(primary)
    request_id = await caused
    await primaries.come_back(world.embedded, primary)
    return request_id


def held(world: World, command: Command, *, seconds: float) -> AbstractAsyncContextManager[Reached]:
    """The server keeps the next such command for so long before it does it."""
    collection = None if command.name == "commitTransaction" else command.collection
    app, mongo = f"darkroom-{command.service}", world.scene.documents.mongo
    return held_command(mongo, command.name, app=app, collection=collection, seconds=seconds)


FALLS = pytest.mark.parametrize("fall", [killed_before, stepped_down_before, killed_behind])


@FALLS
async def test_images_that_are_being_claimed_when_the_primary_goes_are_completed_once(world: World, fall: Fall) -> None:
    """A claim that was done though it erred is found by its token; one that was not done is made again."""
    request_id = await fall(world, CLAIM, world.submit)
    await world.assert_done_once(request_id)


@FALLS
async def test_images_that_are_being_completed_when_the_primary_goes_are_counted_once(world: World, fall: Fall) -> None:
    """The commit is asked for again, or the whole transaction repeated, and the request closes once."""
    fetching = await world.fetching()

    async def complete() -> str:
        world.sources.open()
        return fetching

    await world.assert_done_once(await fall(world, COMPLETION, complete))


@FALLS
async def test_a_delivery_that_is_being_recorded_when_the_primary_goes_is_not_made_again(
    world: World, fall: Fall
) -> None:
    """The outcome is written until it stands: one POST, one attempt."""
    posting = await world.posting()

    async def answer() -> str:
        world.receives.set()
        return posting

    await world.assert_done_once(await fall(world, RECORD, answer))


async def test_a_request_that_is_being_announced_when_the_primary_is_killed_is_announced_once(world: World) -> None:
    """The transaction that makes the deliveries is repeated by whoever finds the request unannounced."""
    await world.assert_done_once(await killed_before(world, ANNOUNCEMENT, world.submit))


async def test_a_claim_of_images_that_an_election_undoes_is_fenced(world: World) -> None:
    """It stood on the primary alone, and goes with it: another holds the images, and the first one counts nothing."""
    primary = await primaries.primary_of(world.embedded)
    others = [member for member in world.embedded.running if member is not primary]
    mongo = Mongo.connect(world.embedded.uri, "undone", operation_seconds=10)
    try:
        first, second = Documents(mongo), Documents(mongo)
        await first.ensure_indexes()
        request_id, urls = uuid4(), [f"http://h/{n}.jpg" for n in range(3)]
        images = [NewImage(n, n, n + 1, "A", url, "h") for n, url in enumerate(urls)]
        new = NewRequest(None, filename="a.csv", bytes=1, sha256="0" * 64, total=3, trace=TRACE)
        await first.requests.accept(new, [images], request_id)
        async with primaries.left_behind(others):
            _, undone = await first.images.claim(3)
            await primaries.kill(primary)
        await primaries.come_back(world.embedded, primary)
        _, stands = await patiently(lambda: second.images.claim(3))
        assert [image.url for image in stands] == [image.url for image in undone] == urls
        failed = Failed(ImageFailure("http_404", ""))
        assert (await first.outcomes.write([(image, failed) for image in undone])).images == []
        assert (await second.outcomes.write([(image, failed) for image in stands])).images == stands
        assert (await second.progress.total(str(request_id))).finished == 3
    finally:
        mongo.close()


async def test_leases_outlive_a_primary_that_is_killed_during_their_renewal(world: World) -> None:
    """The renewal is tried again soon enough, so that what was held before the election can be finished behind it."""
    fetching = await world.fetching()

    async def wait() -> str:
        return fetching

    await killed_before(world, RENEWAL, wait)
    world.sources.open()
    await world.assert_done_once(fetching)
