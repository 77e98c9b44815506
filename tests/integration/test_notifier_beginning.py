"""When a notifier begins what there is: the older first, none behind the stop, and soon what it was woken for."""

import asyncio
from typing import Any

import pytest
import structlog

from libs.changestream import Wake
from libs.documents import Documents, NewDelivery
from libs.mongo import Mongo
from libs.runtime import metrics
from tests.fail_points import held_command
from tests.notifier_parts import notifier_parts
from tests.notifiers import TRACE, close_request, deliveries_to, delivery_in, notifier_settings, notifying, subscribe
from tests.webhook_server import receiving

DONE_BUT_ERRS = {"code": 79, "errmsg": "no such write concern"}  # one that nobody tries again


async def test_what_comes_just_behind_a_look_in_vain_is_looked_for_again(mongo: Mongo, documents: Documents) -> None:
    """A wake-up behind it is put off by a moment, and not left out: nobody might wake it again."""
    parts, other = notifier_parts(documents), Documents(mongo)
    async with receiving() as receiver, parts.running():
        request_id = await close_request(documents, None)
        new = NewDelivery(request_id, "request.completed", receiver.url, "{}", TRACE, 1.0)
        [held] = (await other.deliveries.announce({request_id: [new]}, beginning={new.webhook_id})).held
        assert not await parts.courier.fill()
        await other.deliveries.leases.release({held.token}, [held.webhook_id])
        parts.holdings.wake()
        await delivery_in(documents, request_id, "delivered")


async def test_what_has_become_due_begins_before_what_is_announced_in_the_same_round(documents: Documents) -> None:
    """With one slot the older goes first."""
    parts = notifier_parts(documents, slots=1)
    async with receiving() as receiver, parts.running():
        assert not await parts.courier.fill()
        old = NewDelivery("old", "request.completed", receiver.url, "{}", TRACE, 1.0)
        await documents.deliveries.queue([old])
        request_id = await close_request(documents, receiver.url)
        await parts.rounds.drain(Wake("due"))
        newer = await delivery_in(documents, request_id, "delivered")
    assert [received.webhook_id for received in receiver.received] == [old.webhook_id, newer.webhook_id]


@pytest.mark.parametrize("error", [None, DONE_BUT_ERRS], ids=["done", "of unknown outcome"])
async def test_no_attempt_begins_behind_the_stop(
    mongo: Mongo, documents: Documents, mongo_uri: str, error: dict[str, Any] | None
) -> None:
    """What was being announced when it came, and was held by that, is given back, and waits for no lease."""
    given_back = metrics.LEASES_RELEASED.labels("deliveries")._value
    before = given_back.get()
    async with receiving() as receiver:
        async with notifying(notifier_settings(documents, mongo_uri, shutdown_seconds=60)) as process:
            await process.ready.wait()
            async with held_command(mongo, "commitTransaction", app="darkroom-notifier", error=error) as reached:
                request_id = await close_request(documents, receiver.url)
                await reached()
                process.stop.set()
        [left] = await documents.deliveries.of_request(request_id)
    assert given_back.get() == before + 1
    assert (left.state, left.token, left.attempts_made) == ("pending", "", 0)
    assert receiver.received == []


async def test_a_stop_without_mongodb_leaves_what_was_not_begun_to_the_end_of_its_lease(
    documents: Documents, mongo_uri: str
) -> None:
    """It ends all the same, and says so."""
    away = Mongo.connect(mongo_uri, documents.mongo.database.name)
    parts = notifier_parts(Documents(away))
    async with receiving() as receiver, parts.running():
        assert not await parts.courier.fill()
        request_id = await close_request(documents, receiver.url)
        new = NewDelivery(request_id, "request.completed", receiver.url, "{}", TRACE, 1.0)
        async with parts.courier.begin([new]) as beginning:
            announced = await documents.deliveries.announce({request_id: [new]}, beginning=beginning.webhook_ids)
            beginning.held = announced.held
            parts.stop.set()
        away.close()
        with structlog.testing.capture_logs() as lines:
            await parts.rounds.end()
    assert [line["event"] for line in lines] == ["lease.release_failed"]
    assert receiver.received == []


async def test_what_is_kept_for_an_announcement_while_slots_gather_is_not_claimed_too(documents: Documents) -> None:
    """A claim waits a moment for more slots, and looks again at what is free then."""
    parts = notifier_parts(documents, slots=1, clock=lambda: 1000.0)
    async with receiving() as receiver:
        assert not await parts.courier.fill()
        new = NewDelivery("new", "request.completed", receiver.url, "{}", TRACE, 2.0)
        old = NewDelivery("old", "request.completed", "http://h/", "{}", TRACE, 1.0)
        await documents.deliveries.queue([old])
        assert await documents.deliveries.leases.promote() == 1
        filling = asyncio.create_task(parts.courier.fill())
        await asyncio.sleep(0)  # it waits for slots to gather
        async with asyncio.timeout(10):
            with parts.room.kept([new]) as beginning:
                assert beginning.webhook_ids == {new.webhook_id}
                assert not await filling
    [left] = await documents.deliveries.of_request("old")
    assert left.state == "pending"


async def test_news_of_failed_images_begins_before_what_is_announced_behind_it(documents: Documents) -> None:
    """They are made in a step of their own, and are older then."""
    async with receiving() as receiver:
        listing = await subscribe(documents, receiver.url, events=["image.failed"])
        await close_request(documents, None, good=1, bad=2)
        parts = notifier_parts(documents, progressed=lambda: parts.stop.set())  # noqa: PLW0108 (there are no parts yet)
        assert not await parts.courier.fill()
        assert await parts.rounds.drain(Wake("event"))  # one round, of which the courier starts nothing
        assert [one.state for one in await deliveries_to(documents, listing)] == ["pending"] * 2
        with parts.room.kept([NewDelivery("new", "request.completed", receiver.url, "{}", TRACE, 2.0)]) as beginning:
            assert beginning.webhook_ids == set()
