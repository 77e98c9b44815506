"""How a standing endpoint comes to get nothing more: it asks for that, or does nothing but fail; never silently."""

import asyncio
from collections.abc import Mapping

import pytest
from aiohttp import web

from libs.documents import Documents, Endpoint
from libs.egress import Response
from libs.runtime import metrics
from tests.notifiers import (
    close_request,
    deliveries_to,
    delivery_in,
    ended,
    endpoint_now,
    notifier_settings,
    notifying,
    subscribe,
)
from tests.waiting import until
from tests.webhook_server import Received, receiving, says

DAY = 86_400.0


async def backdate(documents: Documents, endpoint: Endpoint, name: str, seconds: float) -> None:
    """Moves one of the endpoint's times into the past, by the server's clock."""
    change = [{"$set": {name: {"$subtract": ["$$NOW", round(seconds * 1000)]}}}]
    await documents.mongo.collection("endpoints").update_one({"_id": endpoint.id}, change)


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (410, {}, "gone"),
        (200, {"webhook_delivery": "disable"}, "asked"),
        (500, {"Webhook_Delivery": "Disable"}, "asked"),
    ],
)
async def test_a_receiver_that_wants_nothing_more_gets_nothing_more(
    documents: Documents, mongo_uri: str, status: int, headers: dict[str, str], reason: str
) -> None:
    """Its endpoint is disabled at once, and another endpoint that lists such events is told."""
    async with receiving(says(status, **headers)) as receiver, receiving() as owner:
        endpoint = await subscribe(documents, receiver.url)
        telling = await subscribe(documents, owner.url, events=["endpoint.disabled"])
        async with notifying(notifier_settings(documents, mongo_uri)):
            await close_request(documents, None)
            [delivery] = await ended(documents, endpoint, 1)
            await owner.first(1)
        disabled = await endpoint_now(documents, endpoint)
    assert delivery.attempts_made == len(receiver.received) == 1
    assert disabled.disabled is not None
    assert (disabled.enabled, disabled.disabled.reason) == (False, reason)
    [told] = owner.received
    payload = told.verified(telling.secrets[0].key)
    assert payload["type"] == "endpoint.disabled"
    assert payload["data"] == {
        "endpoint_id": endpoint.id,
        "host": endpoint.host,
        "description": "",
        "failing_since": payload["data"]["failing_since"],
        "reason": reason,
    }
    assert "request_id" not in payload


async def test_deliveries_queued_behind_a_410_are_not_made(documents: Documents, mongo_uri: str) -> None:
    """One POST for ten deliveries; the others fail since the endpoint is disabled."""
    async with receiving(says(410)) as receiver:
        endpoint = await subscribe(documents, receiver.url)
        for _ in range(10):
            await close_request(documents, None)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_in_flight=1)):
            deliveries = await ended(documents, endpoint, 10)
    assert len(receiver.received) == 1
    assert sorted(one.reason or "" for one in deliveries) == ["endpoint_disabled"] * 9 + ["http_410"]


async def test_an_uploads_url_that_asks_for_an_end_gets_no_second_try(documents: Documents, mongo_uri: str) -> None:
    """`webhook-delivery: disable` ends its delivery; there is no endpoint to disable."""
    async with receiving(says(500, webhook_delivery="disable")) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri)):
            delivery = await delivery_in(documents, request_id, "failed")
    assert (delivery.reason, delivery.attempts_made, len(receiver.received)) == ("http_500", 1, 1)


async def test_an_endpoint_that_only_fails_for_five_days_is_disabled_and_its_owner_told(
    documents: Documents, mongo_uri: str
) -> None:
    """Half way there is a warning; both are told once, to another endpoint, and counted."""
    before = metrics.ENDPOINTS_DISABLED.labels("failing")._value.get(), metrics.ENDPOINTS_FAILING._value.get()
    async with receiving(says(500)) as receiver, receiving() as owner:
        endpoint = await subscribe(documents, receiver.url)
        telling = await subscribe(documents, owner.url, events=["endpoint.failing", "endpoint.disabled"])

        async def failing() -> bool:
            return (await endpoint_now(documents, endpoint)).failing_since is not None

        # Nothing but what is due wakes this notifier for the news.
        async with notifying(notifier_settings(documents, mongo_uri, webhook_schedule="", sweep_seconds=3600)):
            await close_request(documents, None)
            await until(failing, "the endpoint is failing")
            assert owner.received == []
            await backdate(documents, endpoint, "failing_since", 2.6 * DAY)
            await close_request(documents, None)
            await owner.first(1)
            assert (await endpoint_now(documents, endpoint)).enabled
            await backdate(documents, endpoint, "failing_since", 5.1 * DAY)
            await close_request(documents, None)
            await owner.first(2)
    now = await endpoint_now(documents, endpoint)
    assert now.disabled is not None
    assert (now.enabled, now.disabled.reason) == (False, "failing")
    assert now.warned_at is not None
    payloads = [one.verified(telling.secrets[0].key) for one in owner.received]
    assert [(one["type"], one["data"]["reason"]) for one in payloads] == [
        ("endpoint.failing", None),
        ("endpoint.disabled", "failing"),
    ]
    assert payloads[0]["data"]["failing_since"]
    after = metrics.ENDPOINTS_DISABLED.labels("failing")._value.get(), metrics.ENDPOINTS_FAILING._value.get()
    assert after == (before[0] + 1, before[1] + 1)


async def test_one_success_makes_good_for_all_failures(documents: Documents, mongo_uri: str) -> None:
    """The five days begin anew."""
    async with receiving() as receiver:
        endpoint = await subscribe(documents, receiver.url)
        await backdate(documents, endpoint, "failing_since", 4.9 * DAY)
        await backdate(documents, endpoint, "warned_at", 2 * DAY)
        await close_request(documents, None)

        async def well() -> bool:
            now = await endpoint_now(documents, endpoint)
            return now.failing_since is None and now.warned_at is None

        async with notifying(notifier_settings(documents, mongo_uri)):
            await until(well, "the endpoint does not fail any more")
    assert (await endpoint_now(documents, endpoint)).enabled


async def test_a_success_right_before_the_stop_counts(documents: Documents, mongo_uri: str) -> None:
    """Successes are noted about once a second; those of the last one too."""
    async with receiving() as receiver:
        endpoint = await subscribe(documents, receiver.url)
        await backdate(documents, endpoint, "failing_since", 4.9 * DAY)
        await close_request(documents, None)
        async with notifying(notifier_settings(documents, mongo_uri)):
            await receiver.first(1)
    assert [one.state for one in await deliveries_to(documents, endpoint)] == ["delivered"]
    assert (await endpoint_now(documents, endpoint)).failing_since is None


async def test_an_error_of_our_own_is_not_the_endpoints(documents: Documents, mongo_uri: str) -> None:
    """It is tried again, and counts neither as its failure nor as its success; another's failure does."""
    innocent, failing = [await subscribe(documents, url) for url in (StumblingPoster.URL, "http://h/fails")]
    for endpoint in (innocent, failing):
        await backdate(documents, endpoint, "failing_since", 5.1 * DAY)
    await close_request(documents, None)

    async def disabled() -> bool:
        return not (await endpoint_now(documents, failing)).enabled

    async with notifying(notifier_settings(documents, mongo_uri), poster=StumblingPoster()):
        [delivery] = await ended(documents, innocent, 1)
        await until(disabled, "the other one is disabled")
    now = await endpoint_now(documents, innocent)
    assert [attempt.error for attempt in delivery.attempts] == ["internal_error"] * 2
    assert now.enabled
    assert now.failing_since is not None


class StumblingPoster:
    """Fails in a way nobody thought of at one URL, and gets an ordinary refusal from all others."""

    URL = "http://h/stumbles"

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], total_seconds: float) -> Response:
        """Raises, or says 500."""
        if url == self.URL:
            raise ZeroDivisionError(f"{body!r} {headers} {total_seconds}")
        return Response(status=500, headers={}, body=b"", remote_address="192.0.2.1")


async def test_two_notifiers_that_see_an_endpoint_go_tell_of_it_once(documents: Documents, mongo_uri: str) -> None:
    """Disabling and telling are one transaction, and one of them makes it."""
    gate = asyncio.Event()

    async def gone(_: Received) -> web.StreamResponse:
        await gate.wait()
        return web.Response(status=410)

    async with receiving(gone) as receiver, receiving() as owner:
        endpoint = await subscribe(documents, receiver.url)
        await subscribe(documents, owner.url, events=["endpoint.disabled"])
        for _ in range(2):
            await close_request(documents, None)
        settings = notifier_settings(documents, mongo_uri, webhook_in_flight=1)
        async with notifying(settings), notifying(settings):
            await receiver.first(2)
            gate.set()
            await ended(documents, endpoint, 2)
            await owner.first(1)
    about = {"event": "endpoint.disabled"}
    assert await documents.mongo.collection("deliveries").count_documents(about) == len(owner.received) == 1
