"""Kill -9 of a watcher at every step of an image: every image ends once, counted once."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from libs.mongo import Mongo
from tests.fail_points import held_command, short_transactions
from tests.held_watcher import STEPS
from tests.holding import held
from tests.notifiers import delivery_in, notifier_settings, notifying
from tests.processes import Service, started
from tests.receivers import receiving
from tests.scenes import SHORT_LEASES, Scene, scene
from tests.sources import photograph, served

IMAGES = {f"{n}.jpg": photograph(64, 48, shade=n) for n in range(8)}
ONE_AT_A_TIME = {"DARKROOM_IN_FLIGHT": "1"}
WOKEN_BY_EVENTS = {"DARKROOM_SWEEP_SECONDS": "3600"}


@dataclass(frozen=True, slots=True)
class Write:
    """A command of a watcher in which MongoDB holds it: on `collection`, after the first `passed`.

    The watcher has as many slots as `env` says, and the request so many `images`.
    """

    what: str
    command: str
    collection: str | None
    passed: int = 0
    images: int = 1
    env: dict[str, str] = field(default_factory=dict)


WRITES = (
    Write("claim", "findAndModify", "images"),
    Write("claim-several", "update", "images", images=2),
    # Inside the transaction, which stays open behind the dead; of requests, the first one marks it as processing.
    Write("close-whole", "update", "requests", passed=1),
    Write("commit", "commitTransaction", None),
    Write("count", "update", "progress", images=2, env=ONE_AT_A_TIME),
    # After the commit.
    Write("sum", "find", "progress", images=2, env=ONE_AT_A_TIME),
    Write("close", "update", "requests", passed=1, images=2, env=ONE_AT_A_TIME),
)


async def test_watchers_killed_between_the_steps_of_an_image_lose_nothing(mongo_uri: str, tmp_path: Path) -> None:
    """Four watchers die over four images of a request: after claim, fetch, compression and store; a fifth ends it."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **SHORT_LEASES))
        sources = await stack.enter_async_context(served(IMAGES))
        receiver = await stack.enter_async_context(receiving())
        await stack.enter_async_context(notifying(notifier_settings(place.documents, mongo_uri)))
        request_id = await place.submit([sources.link(path) for path in IMAGES], receiver.url)
        victims = await asyncio.gather(
            *[
                stack.enter_async_context(
                    started(
                        "watcher",
                        place.env | ONE_AT_A_TIME | {"HELD_AT": step},
                        tmp_path,
                        number=number,
                        module="tests.held_watcher",
                    )
                )
                for number, step in enumerate(STEPS)
            ]
        )
        for victim in victims:
            await held(victim)
        for victim in victims:
            await victim.stop(signal.SIGKILL)
        assert (await place.states())["processing"] == len(STEPS)
        await stack.enter_async_context(started("watcher", place.env, tmp_path, number=len(STEPS)))
        assert (await place.closed(request_id)).status == "completed"
        await place.assert_counted_once(request_id)
        received = await receiver.wait(1)
    assert {json.loads(one.body)["request_id"] for one in received} == {request_id}
    # Those that died before the download never asked for it; the three behind it had their image fetched once more.
    assert sources.fetched.total() == len(IMAGES) + len(STEPS) - 1


async def test_watchers_killed_while_mongodb_has_their_command_lose_nothing(
    mongo: Mongo, mongo_uri: str, tmp_path: Path
) -> None:
    """Claim, count, commit, sum or closing is under way when the watcher dies, and is carried out behind it."""
    async with AsyncExitStack() as stack:
        sources = await stack.enter_async_context(served(IMAGES))
        receiver = await stack.enter_async_context(receiving())

        async def prepared(write: Write) -> tuple[Scene, Service]:
            place = await stack.enter_async_context(scene(mongo_uri, tmp_path / write.what, **SHORT_LEASES))
            env = place.env | WOKEN_BY_EVENTS | write.env
            return place, await stack.enter_async_context(started("watcher", env, place.folder))

        async def settled(place: Scene, request_id: str) -> None:
            settings = notifier_settings(place.documents, mongo_uri)
            async with started("watcher", place.env, place.folder, number=1), notifying(settings):
                assert (await place.closed(request_id)).status == "completed"
                await place.assert_counted_once(request_id)
                await delivery_in(place.documents, request_id, "delivered")

        await stack.enter_async_context(short_transactions(mongo, 2))
        prepared_ones = await asyncio.gather(*[prepared(write) for write in WRITES])
        requests = []
        for write, (place, victim) in zip(WRITES, prepared_ones, strict=True):
            holding = held_command(
                place.documents.mongo,
                write.command,
                app="darkroom-watcher",
                collection=write.collection,
                passed=write.passed,
            )
            async with holding as reached:
                links = [sources.link(f"{number}.jpg") for number in range(write.images)]
                requests.append(await place.submit(links, receiver.url))
                await reached()
                await victim.stop(signal.SIGKILL)
        async with asyncio.TaskGroup() as tasks:
            for (place, _), request_id in zip(prepared_ones, requests, strict=True):
                tasks.create_task(settled(place, request_id))
        received = await receiver.wait(len(requests))
    assert sorted(json.loads(one.body)["request_id"] for one in received) == sorted(requests)
