"""Kill -9 of a notifier at every step of a delivery: it is made at least once, and always under the same id."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from libs.documents import Delivery, Documents
from libs.mongo import Mongo
from services.notifier.event import event_of
from tests.fail_points import held_command, short_transactions
from tests.held_notifier import STEPS
from tests.holding import held
from tests.notifiers import close_request, delivery_in
from tests.processes import SECRET, Service, started
from tests.scenes import SHORT_LEASES, Scene, scene
from tests.webhook_server import Receiver, receiving

ONE_AT_A_TIME = {"DARKROOM_WEBHOOK_IN_FLIGHT": "1"}
WOKEN_BY_EVENTS = {"DARKROOM_SWEEP_SECONDS": "3600"}


async def queue_request(documents: Documents, webhook_url: str) -> str:
    """A closed request of which the news waits, as what is sent again, and is no part of an announcement."""
    request_id = await close_request(documents, None)
    request = await documents.requests.get(request_id)
    assert request is not None
    await documents.deliveries.queue([event_of(request, webhook_url, base_url="http://d")])
    return request_id


@dataclass(frozen=True, slots=True)
class Write:
    """A command of a notifier in which MongoDB holds it, on `collection`, and what makes it send that."""

    what: str
    command: str
    collection: str | None
    make: Callable[[Documents, str], Awaitable[str]] = close_request


WRITES = (
    Write("announce", "insert", "deliveries"),  # inside the transaction, which stays open behind the dead
    Write("commit", "commitTransaction", None),
    Write("claim", "findAndModify", "deliveries", queue_request),
    Write("record", "update", "deliveries"),
)


def assert_delivered(delivery: Delivery, receiver: Receiver) -> None:
    """It came, verified, and whatever came of its request came under the one id."""
    of_request = [one for one in receiver.received if one.verified(SECRET)["request_id"] == delivery.request_id]
    assert {one.webhook_id for one in of_request} == {delivery.webhook_id}
    assert delivery.attempts_made == 1


async def test_notifiers_killed_before_and_after_the_post_deliver_all(mongo_uri: str, tmp_path: Path) -> None:
    """One dies with a claimed delivery, one between the answer and its record; a third delivers both and another."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **SHORT_LEASES))
        receiver = await stack.enter_async_context(receiving())
        requests = [await close_request(place.documents, receiver.url) for _ in range(3)]
        victims = await asyncio.gather(
            *[
                stack.enter_async_context(
                    started(
                        "notifier",
                        place.env | ONE_AT_A_TIME | {"HELD_AT": step},
                        tmp_path,
                        number=number,
                        module="tests.held_notifier",
                    )
                )
                for number, step in enumerate(STEPS)
            ]
        )
        for victim in victims:
            await held(victim)
            await victim.stop(signal.SIGKILL)
        assert len(receiver.received) == 1
        await stack.enter_async_context(started("notifier", place.env, tmp_path, number=len(STEPS)))
        for request_id in requests:
            assert_delivered(await delivery_in(place.documents, request_id, "delivered"), receiver)
    # Only the one that was posted before its notifier died came twice.
    assert len(receiver.received) == len(requests) + 1


async def test_notifiers_killed_while_mongodb_has_their_command_deliver_all(
    mongo: Mongo, mongo_uri: str, tmp_path: Path
) -> None:
    """Announcement, commit, claim or record is under way when the notifier dies, and is carried out behind it."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())

        async def prepared(write: Write) -> tuple[Scene, Service]:
            place = await stack.enter_async_context(scene(mongo_uri, tmp_path / write.what, **SHORT_LEASES))
            return place, await stack.enter_async_context(
                started("notifier", place.env | WOKEN_BY_EVENTS, place.folder)
            )

        async def settled(place: Scene, request_id: str) -> None:
            async with started("notifier", place.env, place.folder, number=1):
                assert_delivered(await delivery_in(place.documents, request_id, "delivered"), receiver)

        await stack.enter_async_context(short_transactions(mongo, 2))
        prepared_ones = await asyncio.gather(*[prepared(write) for write in WRITES])
        requests = []
        for write, (place, victim) in zip(WRITES, prepared_ones, strict=True):
            holding = held_command(
                place.documents.mongo,
                write.command,
                app="darkroom-notifier",
                collection=write.collection,
            )
            async with holding as reached:
                requests.append(await write.make(place.documents, receiver.url))
                await reached()
                await victim.stop(signal.SIGKILL)
        async with asyncio.TaskGroup() as tasks:
            for (place, _), request_id in zip(prepared_ones, requests, strict=True):
                tasks.create_task(settled(place, request_id))
