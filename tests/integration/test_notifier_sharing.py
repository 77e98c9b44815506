"""Several notifiers, and notifiers that stop, die or lose MongoDB in the middle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from aiohttp import web

from libs.documents import Documents
from libs.mongo import Mongo
from libs.runtime import metrics
from services.notifier.event import event_of
from tests.notifiers import close_request, delivery_in, notifier_settings, notifying
from tests.processes import SECRET
from tests.waiting import until
from tests.webhook_server import Received, receiving, waits_for


async def test_two_notifiers_deliver_each_webhook_once(documents: Documents, mongo_uri: str) -> None:
    """Forty requests, some closed before they start and some while they run: every one is told once."""
    settings = notifier_settings(documents, mongo_uri, webhook_in_flight=4)
    async with receiving() as receiver:
        requests = [await close_request(documents, receiver.url) for _ in range(20)]
        async with notifying(settings), notifying(settings):
            requests += [await close_request(documents, receiver.url) for _ in range(20)]
            delivered = [await delivery_in(documents, request_id, "delivered") for request_id in requests]
    assert sorted(received.webhook_id for received in receiver.received) == sorted(
        delivery.webhook_id for delivery in delivered
    )
    assert [delivery.attempts_made for delivery in delivered] == [1] * 40


async def test_only_one_of_two_announcements_counts(documents: Documents) -> None:
    """Notifiers that found the same closed requests, some of them more, make the delivery of each once."""
    request_ids = [await close_request(documents, "http://h/") for _ in range(3)]
    new = {
        request.id: [event_of(request, "http://h/", base_url="")]
        for request in await documents.requests.unannounced(10)
    }
    found = [{request_id: new[request_id] for request_id in request_ids[:many]} for many in (1, 2, 3, 3)]
    announced = await asyncio.gather(*(documents.deliveries.announce(deliveries) for deliveries in found))
    assert sorted(request_id for some in announced for request_id in some.request_ids) == sorted(request_ids)
    for request_id in request_ids:
        assert len(await documents.deliveries.of_request(request_id)) == 1


async def test_notifiers_that_claim_at_once_all_get_some(mongo: Mongo, documents: Documents) -> None:
    """One whose candidates others took claims again, as there are more: it would wait for an event that has been."""
    for _ in range(8):
        await close_request(documents, "http://h/")
    requests = await documents.requests.unannounced(10)
    await documents.deliveries.announce({new.id: [event_of(new, "http://h/", base_url="")] for new in requests})
    claimed = await asyncio.gather(*(Documents(mongo).deliveries.claim(1) for _ in range(8)))
    assert [len(deliveries) for deliveries in claimed] == [1] * 8


async def test_a_delivery_whose_notifier_died_is_made_by_another(
    mongo: Mongo, documents: Documents, mongo_uri: str
) -> None:
    """A lease that nobody renews ends, and the next notifier delivers under the same id."""
    dead = Documents(mongo, lease_seconds=0.2)
    async with receiving() as receiver:
        request_id = await close_request(documents, receiver.url)
        [request] = await documents.requests.unannounced(10)
        await documents.deliveries.announce({request_id: [event_of(request, receiver.url, base_url="")]})
        [claimed] = await dead.deliveries.claim(10)
        async with notifying(notifier_settings(documents, mongo_uri)):
            delivery = await delivery_in(documents, request_id, "delivered")
    assert [received.webhook_id for received in receiver.received] == [claimed.webhook_id]
    assert delivery.attempts_made == 1


async def test_what_there_is_room_for_is_claimed_by_its_announcement(documents: Documents, mongo_uri: str) -> None:
    """The record that an attempt begins is there with the delivery, before its receiver hears of it."""
    async with receiving() as receiver, notifying(notifier_settings(documents, mongo_uri)) as process:
        await process.ready.wait()
        async with documents.mongo.collection("deliveries").watch([{"$match": {"operationType": "insert"}}]) as stream:
            request_id = await close_request(documents, receiver.url)
            inserted = (await anext(stream))["fullDocument"]
            delivered = await delivery_in(documents, request_id, "delivered")
    assert (inserted["_id"], inserted["state"]) == (delivered.webhook_id, "processing")
    [attempt] = delivered.attempts
    assert delivered.attempts_made == 1
    assert attempt.started_at >= inserted["lease"]["until"] - timedelta(seconds=15)
    [received] = receiver.received
    assert received.verified(SECRET)


async def test_others_are_told_of_an_announcement_where_it_leaves_them_something(documents: Documents) -> None:
    """What its notifier has begun needs nobody else, also where it was announced together with what is left."""
    left, begun, empty, *together = [await close_request(documents, None) for _ in range(5)]
    new = {
        request_id: event_of(request, "http://h/", base_url="")
        for request_id in (left, begun, *together)
        if (request := await documents.requests.get(request_id))
    }
    await documents.deliveries.announce({left: [new[left]]})
    await documents.deliveries.announce({begun: [new[begun]]}, beginning={new[begun].webhook_id})
    await documents.deliveries.announce(
        {request_id: [new[request_id]] for request_id in together}, beginning={new[together[0]].webhook_id}
    )
    await documents.deliveries.announce({empty: []})
    shared = documents.requests.collection.find({"announced": True, "shared": True}, {"_id": 1})
    assert {request["_id"] async for request in shared} == {left, together[1]}


async def test_what_an_announcement_leaves_is_begun_by_another_at_once(documents: Documents, mongo_uri: str) -> None:
    """It is told of it, and does not wait for its next sweep."""
    async with receiving() as receiver:
        request_id = await close_request(documents, receiver.url)
        [request] = await documents.requests.unannounced(1)
        await documents.requests.collection.update_one({"_id": request_id}, {"$unset": {"announced": ""}})
        async with notifying(notifier_settings(documents, mongo_uri, sweep_seconds=3600)) as process:
            await process.ready.wait()
            await documents.requests.collection.update_one({"_id": request_id}, {"$set": {"announced": False}})
            await documents.deliveries.announce({request_id: [event_of(request, receiver.url, base_url="")]})
            await delivery_in(documents, request_id, "delivered")


async def test_an_announced_delivery_whose_notifier_died_before_its_attempt_is_made_by_another(
    mongo: Mongo, documents: Documents, mongo_uri: str
) -> None:
    """It was held from its announcement on, and the lease ends as that of any other."""
    dead = Documents(mongo, lease_seconds=3)
    async with receiving() as receiver:
        request_id = await close_request(documents, receiver.url)
        [request] = await documents.requests.unannounced(10)
        new = event_of(request, receiver.url, base_url="")
        announced = await dead.deliveries.announce({request_id: [new]}, beginning={new.webhook_id})
        assert [delivery.state for delivery in announced.held] == ["processing"]
        async with notifying(notifier_settings(documents, mongo_uri)):
            delivery = await delivery_in(documents, request_id, "delivered")
    assert [received.webhook_id for received in receiver.received] == [new.webhook_id]
    assert delivery.attempts_made == 1


async def test_a_stopped_notifier_gives_back_what_it_cannot_finish(documents: Documents, mongo_uri: str) -> None:
    """The attempt is cut off and not charged, nobody waits for a lease, and another delivers under the same id."""
    gate = asyncio.Event()
    async with receiving(waits_for(gate)) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, shutdown_seconds=0.1)):
            await receiver.first(1)
        [left] = await documents.deliveries.of_request(request_id)
        assert (left.state, left.attempts_made, left.attempts, left.token) == ("pending", 0, [], "")
        gate.set()
        async with notifying(notifier_settings(documents, mongo_uri)):
            await delivery_in(documents, request_id, "delivered")
    first, second = receiver.received
    assert first.webhook_id == second.webhook_id
    assert second.verified(SECRET)


async def test_a_stopping_notifier_lets_a_running_attempt_finish(documents: Documents, mongo_uri: str) -> None:
    """It claims nothing more and leaves once the attempt that runs is written down."""
    gate = asyncio.Event()
    async with receiving(waits_for(gate)) as receiver:
        running = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, shutdown_seconds=60)) as process:
            await receiver.first(1)
            process.stop.set()
            later = await close_request(documents, receiver.url)
            gate.set()
    [delivered] = await documents.deliveries.of_request(running)
    assert (delivered.state, delivered.attempts_made) == ("delivered", 1)
    assert await documents.deliveries.of_request(later) == []
    assert len(receiver.received) == 1


async def test_a_long_attempt_keeps_its_lease(documents: Documents, mongo_uri: str) -> None:
    """While the receiver takes its time, the lease is renewed and nobody else makes the attempt."""
    settings = notifier_settings(documents, mongo_uri, lease_seconds=3, operation_seconds=0.9)
    gate = asyncio.Event()
    async with receiving(waits_for(gate)) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(settings), notifying(settings):
            await receiver.first(1)
            [held] = await documents.deliveries.of_request(request_id)
            async with _updates_of(documents) as updates:
                for _ in range(4):  # more than the whole lease
                    assert "lease.until" in await anext(updates)
            [still] = await documents.deliveries.of_request(request_id)
            assert (still.state, still.token) == ("processing", held.token)
            gate.set()
            await delivery_in(documents, request_id, "delivered")
    assert len(receiver.received) == 1


@asynccontextmanager
async def _updates_of(documents: Documents) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The fields that each update of a delivery sets, from now on."""

    async def updates(stream: Any) -> AsyncIterator[dict[str, Any]]:
        async with asyncio.timeout(60):
            async for event in stream:
                yield event["updateDescription"]["updatedFields"]

    collection = documents.mongo.collection("deliveries")
    async with collection.watch([{"$match": {"operationType": "update"}}]) as stream:
        yield updates(stream)


async def test_the_outcome_of_a_lost_lease_is_not_written(documents: Documents, mongo_uri: str) -> None:
    """A notifier whose delivery has passed to another changes nothing."""
    gate = asyncio.Event()
    fenced = metrics.WEBHOOK_ATTEMPTS.labels("fenced", "")
    before = fenced._value.get()
    async with receiving(waits_for(gate)) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri)):
            await receiver.first(1)
            await documents.mongo.collection("deliveries").update_one(
                {"request_id": request_id}, {"$set": {"lease.token": "another's"}}
            )
            gate.set()
    [delivery] = await documents.deliveries.of_request(request_id)
    assert (delivery.state, delivery.attempts_made, delivery.token) == ("processing", 0, "another's")
    assert fenced._value.get() == before + 1


async def test_a_notifier_can_claim_again_what_it_lost(documents: Documents, mongo_uri: str) -> None:
    """While its first attempt still runs, the second one is made and written down; the first changes nothing."""
    gate = asyncio.Event()
    async with receiving(waits_for(gate)) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri)):
            await receiver.first(1)
            await documents.mongo.collection("deliveries").update_one(
                {"request_id": request_id}, {"$set": {"state": "pending"}, "$unset": {"lease": ""}}
            )
            await receiver.first(2)
            gate.set()
            delivery = await delivery_in(documents, request_id, "delivered")
    assert delivery.attempts_made == 1
    assert len(receiver.received) == 2


async def test_an_outcome_that_mongodb_would_not_take_is_written_later(documents: Documents, mongo_uri: str) -> None:
    """The webhook has arrived, so it is not sent again because of errors while that is written down."""
    admin = documents.mongo.client.admin

    async def breaks_updates(_: Received) -> web.StreamResponse:
        data = {"failCommands": ["update"], "errorCode": 50, "appName": "darkroom-notifier"}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"times": 3}, "data": data})
        return web.Response()

    async with receiving(breaks_updates) as receiver:
        request_id = await close_request(documents, receiver.url)
        try:
            async with notifying(notifier_settings(documents, mongo_uri)):
                delivery = await delivery_in(documents, request_id, "delivered")
        finally:
            await admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert len(receiver.received) == delivery.attempts_made == 1


async def test_a_stopping_notifier_writes_what_it_knows(documents: Documents, mongo_uri: str) -> None:
    """With no time left and a MongoDB that errs, the webhook that has arrived is written down and not sent again."""
    admin = documents.mongo.client.admin
    before = answered()

    async def breaks_updates(_: Received) -> web.StreamResponse:
        data = {"failCommands": ["update"], "errorCode": 50, "appName": "darkroom-notifier"}
        await admin.command({"configureFailPoint": "failCommand", "mode": {"times": 3}, "data": data})
        return web.Response()

    async def known() -> bool:
        return answered() > before

    settings = notifier_settings(documents, mongo_uri, shutdown_seconds=1e-6, lease_seconds=60)
    async with receiving(breaks_updates) as receiver:
        request_id = await close_request(documents, receiver.url)
        try:
            async with notifying(settings):
                await until(known, "the webhook is answered")
        finally:
            await admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    [delivery] = await documents.deliveries.of_request(request_id)
    assert (delivery.state, delivery.attempts_made) == ("delivered", 1)


def answered() -> float:
    """Seconds that attempts with an answer have taken in this process."""
    return float(metrics.WEBHOOK_SECONDS._sum.get())
