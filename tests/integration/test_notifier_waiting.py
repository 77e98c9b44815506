"""What waits costs no attempt: rate limits, receivers that ask for time, and hosts that do not answer."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import structlog
from aiohttp import web

from libs.documents import Delivery, DeliveryFilter, Documents, PutOff
from libs.mongo import Mongo
from libs.runtime import metrics
from services.notifier.breaker import Breaker
from tests.notifier_parts import announcer_of
from tests.notifiers import (
    close_request,
    deliveries_to,
    delivery_in,
    ended,
    notifier_settings,
    notifying,
    subscribe,
)
from tests.waiting import until
from tests.webhook_server import Received, receiving, says


async def announced(documents: Documents) -> None:
    """Makes the deliveries of what is closed."""
    await announcer_of(documents).announce()


async def settled(documents: Documents, count: int) -> list[Delivery]:
    """Every delivery, once `count` of them have ended or are put off."""

    async def probe() -> bool:
        waiting = {"state": {"$in": ["delayed", "delivered", "failed"]}}
        return await documents.mongo.collection("deliveries").count_documents(waiting) >= count

    await until(probe, f"{count} deliveries wait or have ended")
    ids = await documents.mongo.collection("deliveries").distinct("request_id")
    return [one for request_id in ids for one in await documents.deliveries.of_request(request_id)]


async def test_of_all_notifiers_that_want_a_turn_at_once_one_gets_it(mongo: Mongo, documents: Documents) -> None:
    """One delivery in a thousand seconds: the others are told to wait for that long."""
    endpoint = await subscribe(documents, "http://h/", rate_limit=0.001)
    waits = await asyncio.gather(*(Documents(mongo).addressees.wait_seconds(endpoint.id, 0.001) for _ in range(20)))
    assert min(waits) == 0
    assert all(900 < wait < 1001 for wait in sorted(waits)[1:])


async def test_turns_come_as_often_as_the_rate_says(documents: Documents) -> None:
    """At a thousand a second, and a quarter of a second early, some 250 are given at once, and then it has to wait."""
    endpoint = await subscribe(documents, "http://h/", rate_limit=1000)
    waits = [await documents.addressees.wait_seconds(endpoint.id, 1000) for _ in range(100)]
    assert waits == [0] * 100
    slow = [await documents.addressees.wait_seconds(endpoint.id, 1) for _ in range(2)]
    assert slow[0] == 0
    assert slow[1] > 0


async def test_a_rate_limit_holds_over_two_notifiers(documents: Documents, mongo_uri: str) -> None:
    """Of six deliveries one is made; the others have turns of their own, one behind the other, and no attempt."""
    settings = notifier_settings(documents, mongo_uri)
    async with receiving() as receiver:
        endpoint = await subscribe(documents, receiver.url, rate_limit=0.02)
        for _ in range(6):
            await close_request(documents, None)
        await announced(documents)
        async with notifying(settings), notifying(settings):
            await settled(documents, 6)
    deliveries = await deliveries_to(documents, endpoint)
    assert len(receiver.received) == 1
    assert sorted(one.attempts_made for one in deliveries) == [0] * 5 + [1]
    assert sorted(one.state for one in deliveries) == ["delayed"] * 5 + ["delivered"]


async def test_the_turns_of_one_notifier_lie_behind_each_other(documents: Documents, mongo_uri: str) -> None:
    """So they do not all come back at the same time."""
    async with receiving() as receiver:
        await subscribe(documents, receiver.url, rate_limit=0.02)
        for _ in range(5):
            await close_request(documents, None)
        await announced(documents)
        async with notifying(notifier_settings(documents, mongo_uri)):
            await settled(documents, 5)
    found = documents.mongo.collection("deliveries").find({"state": "delayed"}, sort=[("next_attempt_at", 1)])
    due = [document["next_attempt_at"] async for document in found]
    assert len(due) == 4
    assert all(
        timedelta(seconds=45) < later - sooner < timedelta(seconds=55) for sooner, later in itertools.pairwise(due)
    )


async def test_everything_is_delivered_in_the_end_at_the_first_attempt(documents: Documents, mongo_uri: str) -> None:
    """Waiting for a turn is not a failure, whatever the schedule is."""
    settings = notifier_settings(documents, mongo_uri, webhook_schedule="")
    async with receiving() as receiver:
        endpoint = await subscribe(documents, receiver.url, rate_limit=20)
        for _ in range(12):
            await close_request(documents, None)
        async with notifying(settings), notifying(settings):
            deliveries = await ended(documents, endpoint, 12)
    assert {(one.state, one.attempts_made) for one in deliveries} == {("delivered", 1)}
    assert len({one.webhook_id for one in receiver.received}) == len(receiver.received) == 12


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_asks_for_time_is_left_alone(documents: Documents, mongo_uri: str, status: int) -> None:
    """By a second notifier too: what else is queued for its endpoint waits, and is not charged."""
    async with receiving(says(status, Retry_After="600")) as receiver:
        endpoint = await subscribe(documents, receiver.url)
        for _ in range(4):
            await close_request(documents, None)
        await announced(documents)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_in_flight=1, webhook_schedule="3600")):
            await settled(documents, 4)
        await close_request(documents, None)
        async with notifying(notifier_settings(documents, mongo_uri)):
            await settled(documents, 5)
    deliveries = await deliveries_to(documents, endpoint)
    assert len(receiver.received) == 1
    assert sorted(one.attempts_made for one in deliveries) == [0, 0, 0, 0, 1]
    due = await documents.deliveries.leases.next_due_seconds()
    assert due is not None
    assert due > 500


async def test_a_pause_is_that_of_the_receiver_who_asked_for_it(documents: Documents, mongo_uri: str) -> None:
    """Where the endpoint has moved to, nobody has asked for time; the notifier that was told knows that too."""
    async with receiving(says(503, Retry_After="600")) as busy, receiving() as idle:
        endpoint = await subscribe(documents, busy.url)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_schedule="3600")):
            await close_request(documents, None)
            await settled(documents, 1)
            assert (await documents.addressees.of([endpoint.id]))[endpoint.id].paused_seconds > 500
            await documents.endpoints.update(endpoint.id, url=idle.url)
            await close_request(documents, None)
            await idle.first(1)
    assert len(busy.received) == 1


async def test_an_uploads_own_url_that_asks_for_time_is_left_alone_too(documents: Documents, mongo_uri: str) -> None:
    """By the notifier that was told."""
    async with receiving(says(503, Retry_After="600")) as receiver:
        for _ in range(3):
            await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_in_flight=1, webhook_schedule="3600")):
            deliveries = await settled(documents, 3)
    assert len(receiver.received) == 1
    assert sorted(one.attempts_made for one in deliveries) == [0, 0, 1]


@pytest.mark.parametrize(
    ("hint", "least", "most"),
    [
        ("600", 600, 720),
        ("{in_an_hour}", 3000, 4400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 30, 60),
        ("-5", 30, 60),
        ("9" * 400, 7200, 8640),
        ("soon", 30, 60),
        ("", 30, 60),
    ],
)
async def test_the_next_try_is_at_the_later_of_schedule_and_hint(
    documents: Documents, mongo_uri: str, hint: str, least: float, most: float
) -> None:
    """In seconds, as a date, past, negative, enormous or garbage: never sooner, never later than the longest pause."""
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    async with receiving(says(503, Retry_After=hint.format(in_an_hour=in_an_hour))) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_schedule="50,7200")):
            await delivery_in(documents, request_id, "delayed")
            due = await documents.deliveries.leases.next_due_seconds()
    assert due is not None
    assert least < due < most + 1


async def test_a_silent_host_costs_a_few_attempts_and_nobody_waits_for_it(documents: Documents, mongo_uri: str) -> None:
    """Of forty deliveries most are put off untried; those to another host behind them are made."""
    async with receiving() as gone:
        silent = gone.url
    async with receiving() as healthy:
        for _ in range(40):
            await close_request(documents, silent)
        others = [await close_request(documents, healthy.url) for _ in range(5)]
        await announced(documents)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_in_flight=8, webhook_schedule="3600")):
            for request_id in others:
                await delivery_in(documents, request_id, "delivered")
            deliveries = await settled(documents, 45)
    tried = [one for one in deliveries if one.url == silent and one.attempts_made]
    untried = [one for one in deliveries if one.url == silent and not one.attempts_made]
    assert 5 <= len(tried) <= 6  # two at once, and five until the circuit is open
    assert {one.state for one in untried} == {"delayed"}
    assert {one.reason for one in untried} == {None}


async def test_a_host_that_answers_again_gets_what_waited(documents: Documents, mongo_uri: str) -> None:
    """One probe finds out; whatever was put off is delivered, each under its one id."""
    up = asyncio.Event()

    async def sleeps(received: Received) -> web.StreamResponse:
        if not up.is_set():
            await asyncio.Event().wait()
        assert received.body
        return web.Response()

    settings = notifier_settings(
        documents, mongo_uri, webhook_in_flight=8, webhook_seconds=0.1, webhook_schedule="0.1," * 30 + "3600"
    )
    async with receiving(sleeps) as receiver:
        requests = [await close_request(documents, receiver.url) for _ in range(20)]
        async with notifying(settings, breaker=Breaker(first_seconds=0.2)):
            await receiver.first(6)
            up.set()
            delivered = [await delivery_in(documents, request_id, "delivered") for request_id in requests]
    assert {received.webhook_id for received in receiver.received} == {one.webhook_id for one in delivered}


async def test_what_is_given_up_untried_is_told(documents: Documents, mongo_uri: str) -> None:
    """In the log and the metrics, as every delivery is that has failed."""
    given_up = metrics.WEBHOOKS_FAILED.labels("connect_error")
    before = given_up._value.get()
    async with receiving() as gone:
        silent = gone.url
    for _ in range(20):
        await close_request(documents, silent)
    await announced(documents)
    long_ago = {"$inc": {"rank": -1e6}}
    collection = documents.mongo.collection("deliveries")
    await collection.update_many({}, long_ago)
    with structlog.testing.capture_logs() as lines:
        async with notifying(notifier_settings(documents, mongo_uri, webhook_in_flight=4, webhook_schedule="3600")):
            await settled(documents, 20)
    untried = await collection.count_documents({"state": "failed", "attempts_made": 0, "reason": "connect_error"})
    assert untried > 10
    told = [line for line in lines if line["event"] == "deliveries.given_up"]
    assert sum(line["deliveries"] for line in told) == untried
    assert {(line["endpoint"], line["code"]) for line in told} == {(silent.removeprefix("http://"), "connect_error")}
    assert given_up._value.get() == before + untried


async def test_what_failed_at_a_silent_host_is_sent_again_to_the_one_its_endpoint_moved_to(
    documents: Documents, mongo_uri: str
) -> None:
    """The circuit of the old host, which is open for an hour, is no concern of theirs."""
    async with receiving() as gone:
        silent = gone.url
    async with receiving() as receiver:
        endpoint = await subscribe(documents, silent)
        for _ in range(5):
            await close_request(documents, None)
        settings = notifier_settings(documents, mongo_uri, webhook_schedule="")
        async with notifying(settings, breaker=Breaker(first_seconds=3600)):
            await ended(documents, endpoint, 5)
            await documents.endpoints.update(endpoint.id, url=f"{receiver.url}/new")
            chunk = await documents.delivery_log.redeliver_some(DeliveryFilter(endpoint=endpoint.id), 10)
            assert chunk.queued == 5
            await receiver.first(5)
            await until(lambda: delivered_to(documents, f"{receiver.url}/new", 5), "all are delivered")
    assert {one.path for one in receiver.received} == {"/new"}
    deliveries = await deliveries_to(documents, endpoint)
    assert {one.endpoint for one in deliveries} == {receiver.url.removeprefix("http://")}
    assert {one.attempts_made for one in deliveries} == {1}


async def delivered_to(documents: Documents, url: str, count: int) -> bool:
    """Whether so many are delivered, and have gone there."""
    return await documents.mongo.collection("deliveries").count_documents({"state": "delivered", "url": url}) == count


async def test_what_is_too_old_to_be_tried_again_fails_with_its_silent_host(documents: Documents) -> None:
    """It has had the time of the whole schedule; what is younger waits."""
    await close_request(documents, "http://h:1/old")
    await close_request(documents, "http://h:1/young")
    await close_request(documents, "http://other:1/")
    await announced(documents)
    collection = documents.mongo.collection("deliveries")
    await collection.update_one({"url": "http://h:1/old"}, {"$inc": {"rank": -100.0}})
    put_off = await documents.deliveries.clearing.put_off({"h:1": (60.0, "timeout")}, give_up_seconds=90, most=1000)
    assert put_off == PutOff(moved=0, delayed=1, failed={"h:1": 1})
    found = {document["url"]: document async for document in collection.find()}
    assert (found["http://h:1/old"]["state"], found["http://h:1/old"]["reason"]) == ("failed", "timeout")
    assert "next_attempt_at" not in found["http://h:1/old"]
    assert found["http://h:1/old"]["ended_at"]
    assert (found["http://h:1/young"]["state"], found["http://h:1/young"]["reason"]) == ("delayed", None)
    assert found["http://other:1/"]["state"] == "pending"
    due = await documents.deliveries.leases.next_due_seconds()
    assert due is not None
    assert 50 < due <= 72
