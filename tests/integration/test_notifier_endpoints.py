"""Standing endpoints: who is told of what, with which signatures, and how an endpoint comes to get nothing more."""

import asyncio
import json
from uuid import uuid4

import pytest
from aiohttp import web
from standardwebhooks import WebhookVerificationError

from libs.documents import (
    Documents,
    Endpoint,
    Failed,
    FailedImage,
    Failures,
    ImageFailure,
    NewDelivery,
    NewImage,
    NewRequest,
)
from libs.runtime import metrics
from libs.runtime.trace import trace_id
from services.notifier.transcript import REMOVED
from tests.fail_points import held_command
from tests.notifier_parts import announcer_of
from tests.notifiers import (
    TRACE,
    close_request,
    deliveries_to,
    delivery_in,
    ended,
    notifier_settings,
    notifying,
    subscribe,
)
from tests.processes import SECRET
from tests.waiting import until
from tests.webhook_server import Received, receiving, says


async def test_every_endpoint_that_wants_an_event_is_told_once(documents: Documents, mongo_uri: str) -> None:
    """Each by its own secret, beside the upload's URL by the deployment's; not the disabled, not who wants others."""
    async with receiving() as receiver:
        everything = await subscribe(documents, f"{receiver.url}/all")
        completed = await subscribe(documents, f"{receiver.url}/completed", events=["request.completed"])
        others = await subscribe(documents, f"{receiver.url}/others", events=["request.failed", "image.failed"])
        disabled = await subscribe(documents, f"{receiver.url}/disabled", enabled=False)
        request_id = await close_request(documents, f"{receiver.url}/upload")
        async with notifying(notifier_settings(documents, mongo_uri)):
            received = {one.path: one for one in await receiver.first(3)}
            for endpoint in (everything, completed):
                assert [one.attempts_made for one in await ended(documents, endpoint, 1)] == [1]
        assert len(receiver.received) == 3
    secrets = {"/all": everything.secrets[0].key, "/completed": completed.secrets[0].key, "/upload": SECRET}
    payloads = [received[path].verified(secret) for path, secret in secrets.items()]
    assert payloads == [payloads[0]] * 3
    assert (payloads[0]["type"], payloads[0]["request_id"]) == ("request.completed", request_id)
    assert len({one.webhook_id for one in received.values()}) == 3
    assert await deliveries_to(documents, others) == await deliveries_to(documents, disabled) == []


async def test_an_endpoint_that_is_there_when_a_request_is_closed_is_told_of_it(
    documents: Documents, mongo_uri: str
) -> None:
    """Though it was made while a notifier was looking what there is to announce."""
    async with receiving() as receiver, notifying(notifier_settings(documents, mongo_uri, sweep_seconds=3600)) as one:
        await one.ready.wait()
        async with held_command(documents.mongo, "find", app="darkroom-notifier", collection="requests") as reached:
            await close_request(documents, None)
            await reached()
            await subscribe(documents, receiver.url)
            request_id = await close_request(documents, None)
        told = [json.loads(received.body)["request_id"] for received in await receiver.first(2)]
    assert request_id in told


async def test_each_failed_image_is_told_to_who_lists_that(documents: Documents, mongo_uri: str) -> None:
    """Copies of a URL too, each under an id of its own; the body says where the image stood and what was wrong."""
    request_id = uuid4()
    new = NewRequest(None, "a.csv", 10, "0" * 64, 3, TRACE)
    images = [
        NewImage(0, 0, 7, "SKU7", "http://h/bad", "h", copies=1),
        NewImage(1, 0, 7, "SKU7", "http://h/good", "h"),
        NewImage(2, 1, 8, "SKU8", "http://h/bad", "h", alias_of=0),
    ]
    async with receiving() as receiver:
        listing = await subscribe(documents, receiver.url, events=["image.failed"])
        await subscribe(documents, f"{receiver.url}/not", events=["request.completed"])
        await documents.requests.accept(new, [images], request_id)
        _, held = await documents.images.claim(3)
        failure = Failed(ImageFailure("http_404", "the server answered 404"))
        await documents.outcomes.write([(image, failure) for image in held])
        assert await documents.requests.close_if_done(str(request_id), 3) == "failed"
        async with notifying(notifier_settings(documents, mongo_uri)):
            await ended(documents, listing, 3)
    payloads = [one.verified(listing.secrets[0].key) for one in receiver.received]
    told = {payload["data"]["position"]: payload for payload in payloads}
    assert sorted(told) == [0, 1, 2]
    assert {payload["type"] for payload in payloads} == {"image.failed"}
    assert {payload["request_id"] for payload in payloads} == {str(request_id)}
    assert told[2]["data"] == {
        "position": 2,
        "row": 1,
        "serial_number": 8,
        "product_name": "SKU8",
        "url": "http://h/bad",
        "code": "http_404",
        "detail": "the server answered 404",
        "status_url": f"http://127.0.0.1:8000/api/status?request_id={request_id}",
    }
    assert len({one.webhook_id for one in receiver.received}) == 3
    assert await documents.deliveries.failures.untold(10) == []


async def test_failed_images_that_a_killed_notifier_left_untold_are_told(documents: Documents, mongo_uri: str) -> None:
    """Whoever looks around next goes on where it stopped."""
    async with receiving() as receiver:
        listing = await subscribe(documents, receiver.url, events=["image.failed"])
        await close_request(documents, None, good=1, bad=3)
        announcer = announcer_of(documents)
        assert await announcer.announce() == 1
        assert await deliveries_to(documents, listing) == []
        async with notifying(notifier_settings(documents, mongo_uri)):
            await ended(documents, listing, 3)
    assert len(receiver.received) == 3


async def test_failed_images_are_told_in_chunks_and_each_chunk_once(documents: Documents) -> None:
    """Of two notifiers that make the same chunk one does; the next begins behind it."""
    request_id = await close_request(documents, None, good=2, bad=5)
    endpoints = [f"ep_{number}" for number in range(400)]  # so that two images are a chunk

    def news(image: FailedImage) -> list[NewDelivery]:
        return [
            NewDelivery(request_id, "image.failed", "http://h/", "{}", TRACE, 1.0, endpoint, about=str(image.position))
            for endpoint in endpoints
        ]

    async with await documents.mongo.client.start_session() as session, session.start_transaction():
        await documents.deliveries.failures.begin({request_id: endpoints}, session)
    firsts = []
    while tellings := await documents.deliveries.failures.untold(10):
        [telling] = tellings
        firsts.append(telling.first)
        made = await asyncio.gather(*(Failures(documents.mongo).tell(telling, 7, news) for _ in range(3)))
        assert sorted(made) == [False, False, True]
        assert not await documents.deliveries.failures.tell(telling, 7, news)
    assert firsts == [0, 4, 6]
    assert await documents.mongo.collection("deliveries").count_documents({}) == 5 * 400


async def test_while_a_secret_is_replaced_both_sign_every_attempt(documents: Documents, mongo_uri: str) -> None:
    """The first try and the second verify with either; the newest stands in front."""
    async with receiving(says(500, 200)) as receiver:
        endpoint = await subscribe(documents, receiver.url)
        rotated = await documents.endpoints.rotate(endpoint.id, overlap_seconds=3600)
        assert rotated is not None
        await close_request(documents, None)
        async with notifying(notifier_settings(documents, mongo_uri)):
            await ended(documents, endpoint, 1)
    newest, older = (secret.key for secret in rotated.secrets)
    assert older == endpoint.secrets[0].key
    assert len(receiver.received) == 2
    for received in receiver.received:
        signatures = received.headers["webhook-signature"].split(" ")
        assert len(signatures) == 2
        assert received.verified(newest) == received.verified(older)


async def test_every_secret_of_two_rotations_signs_first_tries_retries_and_what_is_sent_again(
    documents: Documents, mongo_uri: str
) -> None:
    """By the independent library; all under one id, each a child of the upload's trace and none another's twin."""
    async with receiving(says(500, 200)) as receiver:
        endpoint = await subscribe(documents, receiver.url)
        for _ in range(2):
            rotated = await documents.endpoints.rotate(endpoint.id, overlap_seconds=3600)
        assert rotated is not None
        await close_request(documents, None)
        async with notifying(notifier_settings(documents, mongo_uri)):
            [delivery] = await ended(documents, endpoint, 1)
            redelivery = await documents.delivery_log.redeliver(delivery.webhook_id)
            assert redelivery is not None
            assert redelivery.queued
            await receiver.first(3)
            [delivery] = await ended(documents, endpoint, 1)
    assert len(rotated.secrets) == 3
    for received in receiver.received:
        assert len({str(received.verified(secret.key)) for secret in rotated.secrets}) == 1
        assert received.webhook_id == delivery.webhook_id
    assert [attempt.status for attempt in delivery.attempts] == [500, 200, 200]
    parents = [received.headers["traceparent"] for received in receiver.received]
    assert {trace_id(parent) for parent in parents} == {trace_id(TRACE)}
    assert len({*parents, TRACE}) == 4


async def test_a_secret_that_has_expired_signs_nothing(documents: Documents, mongo_uri: str) -> None:
    """Only the new one does."""
    async with receiving() as receiver:
        endpoint = await subscribe(documents, receiver.url)
        rotated = await documents.endpoints.rotate(endpoint.id, overlap_seconds=0)
        assert rotated is not None
        await close_request(documents, None)
        async with notifying(notifier_settings(documents, mongo_uri)):
            [received] = await receiver.first(1)
    assert received.verified(rotated.secrets[0].key)
    assert " " not in received.headers["webhook-signature"]


async def test_an_endpoints_headers_are_sent_beside_darkrooms_own(documents: Documents, mongo_uri: str) -> None:
    """None of its own can be replaced; what the receiver says of them is not kept."""

    async def echoes(received: Received) -> web.StreamResponse:
        said = f"{received.headers['x-shop']} {received.headers['authorization']}"
        return web.Response(text=said, headers={"Set-Cookie": "a=b", "X-Said": said})

    async with receiving(echoes) as receiver:
        headers = {
            "X-Shop": "seven seas",
            "Authorization": "Bearer hush",
            "Webhook-Id": "forged",
            "Content-Type": "x/y",
        }
        endpoint = await subscribe(documents, receiver.url, headers=headers)
        await close_request(documents, None)
        async with notifying(notifier_settings(documents, mongo_uri)):
            [delivery] = await ended(documents, endpoint, 1)
    [received] = receiver.received
    assert (received.headers["x-shop"], received.headers["authorization"]) == ("seven seas", "Bearer hush")
    assert received.headers.getall("webhook-id") == [delivery.webhook_id]
    [attempt] = delivery.attempts
    assert attempt.response.body == f"{REMOVED} {REMOVED}"
    assert ("Set-Cookie", REMOVED) in attempt.response.headers
    assert ("X-Said", f"{REMOVED} {REMOVED}") in attempt.response.headers


async def end(documents: Documents, endpoint: Endpoint, reason: str) -> None:
    """Disables or deletes an endpoint, as the reason says of its deliveries."""
    if reason == "endpoint_disabled":
        await documents.endpoints.update(endpoint.id, enabled=False)
    else:
        await documents.endpoints.delete(endpoint.id)


@pytest.mark.parametrize("reason", ["endpoint_disabled", "endpoint_deleted"])
async def test_what_is_queued_for_an_endpoint_that_is_no_more_ends_without_a_post(
    documents: Documents, mongo_uri: str, reason: str
) -> None:
    """It fails for that reason and was never tried."""
    async with receiving() as receiver:
        endpoint = await subscribe(documents, receiver.url)
        await close_request(documents, None)
        assert await announcer_of(documents).announce() == 1
        await end(documents, endpoint, reason)
        async with notifying(notifier_settings(documents, mongo_uri)):
            [delivery] = await ended(documents, endpoint, 1)
    assert (delivery.state, delivery.reason, delivery.attempts_made) == ("failed", reason, 0)
    assert receiver.received == []


@pytest.mark.parametrize("reason", ["endpoint_disabled", "endpoint_deleted"])
async def test_what_is_queued_again_for_an_endpoint_that_is_no_more_keeps_its_attempts(
    documents: Documents, mongo_uri: str, reason: str
) -> None:
    """Asked for while it was there, and disabled or deleted before a notifier comes: no POST, and what was is shown."""
    async with receiving(says(500)) as receiver:
        endpoint = await subscribe(documents, receiver.url)
        await close_request(documents, None)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_schedule="")):
            [failed] = await ended(documents, endpoint, 1)
        redelivery = await documents.delivery_log.redeliver(failed.webhook_id)
        assert redelivery is not None
        assert redelivery.queued
        await end(documents, endpoint, reason)
        async with notifying(notifier_settings(documents, mongo_uri)):
            [delivery] = await ended(documents, endpoint, 1)
    assert (delivery.state, delivery.reason, delivery.attempts_made) == ("failed", reason, 0)
    assert [attempt.error for attempt in delivery.attempts] == ["http_500"]
    assert len(receiver.received) == 1


async def test_a_delivery_follows_its_endpoint_to_another_host(documents: Documents, mongo_uri: str) -> None:
    """What waits is of that host's share before its first attempt; and the log shows where it went."""
    moved = metrics.WEBHOOKS_PUT_OFF.labels("moved")
    before_moving = moved._value.get()
    async with receiving() as before, receiving(says(500, 200)) as after:
        endpoint = await subscribe(documents, before.url)
        for _ in range(2):
            await close_request(documents, None)
        await announcer_of(documents).announce()
        await documents.endpoints.update(endpoint.id, url=f"{after.url}/new")
        async with notifying(notifier_settings(documents, mongo_uri)):
            deliveries = await ended(documents, endpoint, 2)
    assert before.received == []
    assert moved._value.get() == before_moving + 2
    assert sorted(one.attempts_made for one in deliveries) == [1, 2]
    assert {(one.url, one.endpoint) for one in deliveries} == {(f"{after.url}/new", after.url.removeprefix("http://"))}


async def test_a_change_of_events_holds_for_what_happens_from_then_on(documents: Documents, mongo_uri: str) -> None:
    """What is queued already was wanted when it happened, and is sent."""
    async with receiving() as receiver:
        endpoint = await subscribe(documents, receiver.url)
        wanted = await close_request(documents, None)
        await announcer_of(documents).announce()
        await documents.endpoints.update(endpoint.id, events=["request.failed"])
        await close_request(documents, None)
        failed = await close_request(documents, None, good=0, bad=1)
        async with notifying(notifier_settings(documents, mongo_uri)):
            await ended(documents, endpoint, 2)
    payloads = [one.verified(endpoint.secrets[0].key) for one in receiver.received]
    assert {(one["type"], one["request_id"]) for one in payloads} == {
        ("request.completed", wanted),
        ("request.failed", failed),
    }


async def test_a_delivery_goes_where_its_endpoint_is_now(documents: Documents, mongo_uri: str) -> None:
    """A URL that was mended holds for what is queued."""
    async with receiving() as receiver:
        endpoint = await subscribe(documents, f"{receiver.url}/old")
        await close_request(documents, None)
        await announcer_of(documents).announce()
        await documents.endpoints.update(endpoint.id, url=f"{receiver.url}/new")
        async with notifying(notifier_settings(documents, mongo_uri)):
            [received] = await receiver.first(1)
    assert received.path == "/new"


async def test_what_is_known_of_an_endpoint_is_not_used_for_long(documents: Documents, mongo_uri: str) -> None:
    """A new secret signs soon, in a notifier that has the endpoint in memory."""
    async with receiving() as receiver:
        endpoint = await subscribe(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri)):
            await close_request(documents, None)
            await receiver.first(1)
            rotated = await documents.endpoints.rotate(endpoint.id, overlap_seconds=0)
            assert rotated is not None

            async def signed() -> bool:
                await close_request(documents, None)
                try:
                    return bool(receiver.received[-1].verified(rotated.secrets[0].key))
                except WebhookVerificationError:
                    return False

            await until(signed, "the new secret signs")


async def test_an_attempt_keeps_the_head_of_the_answer(documents: Documents, mongo_uri: str) -> None:
    """Of a body without an end sixteen kibibytes are kept together with the headers; it is delivered all the same."""

    async def endless(_: Received) -> web.StreamResponse:
        return web.Response(body=b"y" * 1_000_000, headers={"X-Kept": "17"})

    async with receiving(endless) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri)):
            delivery = await delivery_in(documents, request_id, "delivered")
    [attempt] = delivery.attempts
    assert ("X-Kept", "17") in attempt.response.headers
    kept = sum(len(name) + len(value) for name, value in attempt.response.headers) + len(attempt.response.body)
    assert kept == 16 * 1024
    assert set(attempt.response.body) == {"y"}


async def test_a_delivery_that_was_announced_before_endpoints_is_delivered(
    documents: Documents, mongo_uri: str
) -> None:
    """Documents of an older version have neither an endpoint's id nor a reason, and no answers."""
    async with receiving() as receiver:
        request_id = await close_request(documents, receiver.url)
        await announcer_of(documents).announce()
        old = {"endpoint_id": "", "reason": ""}
        await documents.mongo.collection("deliveries").update_many({}, {"$unset": old})
        async with notifying(notifier_settings(documents, mongo_uri)):
            delivery = await delivery_in(documents, request_id, "delivered")
    assert delivery.attempts_made == 1
