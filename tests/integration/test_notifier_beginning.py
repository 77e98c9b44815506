"""When a notifier begins what there is: the older first, none behind the stop, and soon what it was woken for."""

from libs.changestream import Wake
from libs.documents import Documents, NewDelivery
from libs.mongo import Mongo
from tests.fail_points import held_command
from tests.notifier_parts import notifier_parts
from tests.notifiers import TRACE, close_request, delivery_in, notifier_settings, notifying
from tests.webhook_server import receiving


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


async def test_no_attempt_begins_behind_the_stop(mongo: Mongo, documents: Documents, mongo_uri: str) -> None:
    """What was being announced when it came is given back, and waits for no lease."""
    async with receiving() as receiver:
        async with notifying(notifier_settings(documents, mongo_uri, shutdown_seconds=60)) as process:
            await process.ready.wait()
            async with held_command(mongo, "commitTransaction", app="darkroom-notifier") as reached:
                request_id = await close_request(documents, receiver.url)
                await reached()
                process.stop.set()
        [left] = await documents.deliveries.of_request(request_id)
    assert (left.state, left.token, left.attempts_made) == ("pending", "", 0)
    assert receiver.received == []
