"""One notifier, real receivers: what is sent, and what follows from each answer."""

import asyncio
from collections import Counter
from collections.abc import Mapping

import pytest
from aiohttp import web

from libs.documents import Documents
from libs.egress import Response
from libs.runtime.trace import trace_id
from tests.notifiers import TRACE, close_request, delivery_in, notifier_settings, notifying
from tests.processes import SECRET
from tests.waiting import until
from tests.webhook_server import Received, receiving, says, waits_for


async def test_a_closed_request_is_told_once_and_signed(documents: Documents, mongo_uri: str) -> None:
    """The independent library verifies it; the body says what came of the request, and the trace goes on."""
    async with receiving() as receiver:
        request_id = await close_request(documents, f"{receiver.url}/hook?a=1", good=2, bad=1)
        async with notifying(notifier_settings(documents, mongo_uri)):
            delivery = await delivery_in(documents, request_id, "delivered")
    request = await documents.requests.get(request_id)
    assert request is not None
    assert request.completed_at is not None
    [received] = receiver.received
    assert received.verified(SECRET) == {
        "type": "request.completed_with_errors",
        "timestamp": request.completed_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "request_id": request_id,
        "status": "completed_with_errors",
        "data": {
            "total": 3,
            "completed": 2,
            "failed": 1,
            "cancelled": 0,
            "bytes_in": 200,
            "bytes_out": 80,
            "status_url": f"http://127.0.0.1:8000/api/status?request_id={request_id}",
        },
    }
    assert received.body.decode() == delivery.body
    assert received.webhook_id == delivery.webhook_id
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"] == "Darkroom"
    assert trace_id(received.headers["traceparent"]) == trace_id(TRACE)
    assert received.headers["traceparent"] != TRACE
    [attempt] = delivery.attempts
    assert (attempt.status, attempt.error, attempt.remote_address) == (200, None, "127.0.0.1")
    assert delivery.attempts_made == 1


@pytest.mark.parametrize(("good", "bad", "status"), [(1, 0, "completed"), (0, 1, "failed")])
async def test_the_type_of_the_event_follows_the_status(
    documents: Documents, mongo_uri: str, good: int, bad: int, status: str
) -> None:
    """`request.` and the final status."""
    async with receiving() as receiver:
        await close_request(documents, receiver.url, good=good, bad=bad)
        async with notifying(notifier_settings(documents, mongo_uri)):
            [received] = await receiver.first(1)
    payload = received.verified(SECRET)
    assert (payload["type"], payload["status"]) == (f"request.{status}", status)


async def test_a_cancelled_request_is_told_too(documents: Documents, mongo_uri: str) -> None:
    """Cancelling is an end like any other."""
    async with receiving() as receiver:
        request_id = await close_request(documents, receiver.url)
        await documents.requests.collection.update_one(
            {"_id": request_id}, {"$set": {"closed": False, "status": "processing"}, "$unset": {"announced": ""}}
        )
        await documents.requests.cancel(request_id)
        async with notifying(notifier_settings(documents, mongo_uri)):
            [received] = await receiver.first(1)
    assert received.verified(SECRET)["type"] == "request.cancelled"


async def test_a_request_without_a_webhook_is_announced_to_nobody(documents: Documents, mongo_uri: str) -> None:
    """It is not looked at again, and no delivery is made."""
    request_id = await close_request(documents, None)

    async def announced() -> bool:
        return not await documents.requests.unannounced(10)

    async with notifying(notifier_settings(documents, mongo_uri)):
        await until(announced, "the request is announced")
    assert await documents.deliveries.of_request(request_id) == []


async def test_a_failed_attempt_is_repeated_under_the_same_id_and_signed_anew(
    documents: Documents, mongo_uri: str
) -> None:
    """500, then 200: the same id and body, a later timestamp, and both signatures hold."""
    async with receiving(says(500, 200)) as receiver:
        request_id = await close_request(documents, receiver.url)
        # Timestamps are whole seconds: a pause of more than one makes two of them differ.
        async with notifying(notifier_settings(documents, mongo_uri, webhook_schedule="1.1")):
            delivery = await delivery_in(documents, request_id, "delivered")
    first, second = receiver.received
    assert first.verified(SECRET) == second.verified(SECRET)
    assert first.webhook_id == second.webhook_id
    assert int(first.headers["webhook-timestamp"]) < int(second.headers["webhook-timestamp"])
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    assert [(attempt.status, attempt.error) for attempt in delivery.attempts] == [(500, "http_500"), (200, None)]


async def test_after_the_last_pause_of_the_schedule_a_delivery_has_failed(documents: Documents, mongo_uri: str) -> None:
    """Two pauses make three attempts; what the receiver said is kept."""

    async def complains(_: Received) -> web.StreamResponse:
        return web.Response(status=404, text="no such\nhook")

    async with receiving(complains) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_schedule="0.01,0.01")):
            delivery = await delivery_in(documents, request_id, "failed")
    assert len(receiver.received) == delivery.attempts_made == 3
    assert {attempt.error for attempt in delivery.attempts} == {"http_404"}
    assert delivery.attempts[-1].detail == "the receiver answered 404: no such hook"


async def test_a_receiver_that_is_gone_is_asked_once(documents: Documents, mongo_uri: str) -> None:
    """410 is final, however much of the schedule is left."""
    async with receiving(says(410)) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_schedule="0.01,0.01")):
            delivery = await delivery_in(documents, request_id, "failed")
    assert len(receiver.received) == 1
    assert [attempt.error for attempt in delivery.attempts] == ["http_410"]


async def test_a_receiver_that_asks_for_time_gets_it(documents: Documents, mongo_uri: str) -> None:
    """Retry-After puts the next attempt off for longer than the schedule would."""
    async with receiving(says(503, Retry_After="600")) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_schedule="0.01,3600")):
            delivery = await delivery_in(documents, request_id, "delayed")
            due = await documents.deliveries.leases.next_due_seconds()
    assert len(receiver.received) == delivery.attempts_made == 1
    assert due is not None
    assert 500 < due < 1000


async def test_a_redirect_is_a_failure_and_not_followed(documents: Documents, mongo_uri: str) -> None:
    """The target sees no connection at all."""
    reached = asyncio.Event()

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    target = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with target:
        location = f"http://127.0.0.1:{target.sockets[0].getsockname()[1]}/"
        async with receiving(says(307, Location=location)) as receiver:
            request_id = await close_request(documents, receiver.url)
            async with notifying(notifier_settings(documents, mongo_uri)):
                delivery = await delivery_in(documents, request_id, "failed")
    assert [attempt.error for attempt in delivery.attempts] == ["http_307", "http_307"]
    assert not reached.is_set()


async def test_a_receiver_that_refuses_connections_is_tried_again(documents: Documents, mongo_uri: str) -> None:
    """Each refused connection is one attempt without a status."""
    async with receiving() as receiver:
        gone = receiver.url
    request_id = await close_request(documents, gone)
    async with notifying(notifier_settings(documents, mongo_uri)):
        delivery = await delivery_in(documents, request_id, "failed")
    assert [(attempt.status, attempt.error) for attempt in delivery.attempts] == [(None, "connect_error")] * 2


async def test_a_receiver_that_does_not_answer_in_time_is_tried_again(documents: Documents, mongo_uri: str) -> None:
    """The total time of an attempt is limited."""
    async with receiving(waits_for(asyncio.Event())) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_seconds=0.1)):
            delivery = await delivery_in(documents, request_id, "failed")
    assert [attempt.error for attempt in delivery.attempts] == ["timeout", "timeout"]


async def test_a_forbidden_address_is_never_called(documents: Documents, mongo_uri: str) -> None:
    """Loopback that is not allowed is refused once and for all, and the record names the setting."""
    async with receiving() as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, egress_allow="")):
            delivery = await delivery_in(documents, request_id, "failed")
    [attempt] = delivery.attempts
    assert attempt.error == "blocked_address"
    assert "DARKROOM_EGRESS_ALLOW" in attempt.detail
    assert receiver.received == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://h/", "bad_scheme"),
        ("http://[", "bad_url"),
        ("nonsense", "bad_url"),
        ("http://u:p@h/", "credentials_in_url"),
    ],
)
async def test_a_url_that_cannot_be_called_fails_at_once(
    documents: Documents, mongo_uri: str, url: str, code: str
) -> None:
    """No second attempt would change it."""
    request_id = await close_request(documents, url)
    async with notifying(notifier_settings(documents, mongo_uri)):
        delivery = await delivery_in(documents, request_id, "failed")
    assert [attempt.error for attempt in delivery.attempts] == [code]


class StumblingPoster:
    """Fails in a way nobody thought of, then succeeds."""

    def __init__(self) -> None:
        self.calls = 0

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], total_seconds: float) -> Response:
        """Raises at the first call."""
        assert url
        assert body
        assert headers
        assert total_seconds
        self.calls += 1
        if self.calls == 1:
            raise ZeroDivisionError
        return Response(status=204, headers={}, body=b"", remote_address="192.0.2.1")


async def test_an_error_of_our_own_costs_an_attempt_and_not_the_notifier(documents: Documents, mongo_uri: str) -> None:
    """It is recorded as such and the delivery is tried again."""
    request_id = await close_request(documents, "http://h/")
    async with notifying(notifier_settings(documents, mongo_uri), poster=StumblingPoster()):
        delivery = await delivery_in(documents, request_id, "delivered")
    assert [attempt.error for attempt in delivery.attempts] == ["internal_error", None]


async def test_an_endpoint_that_hangs_leaves_the_others_their_slots(documents: Documents, mongo_uri: str) -> None:
    """With more deliveries than slots at the head of the queue, it gets its share, and those behind it are made.

    Beyond its share nothing of it is even claimed. With a sweep this rare, its deliveries follow as attempts end.
    """
    gate = asyncio.Event()
    async with receiving(waits_for(gate)) as hanging, receiving() as healthy:
        stuck = [await close_request(documents, hanging.url) for _ in range(10)]
        for _ in range(10):
            await close_request(documents, healthy.url)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_in_flight=32, sweep_seconds=3600)):
            await healthy.first(10)
            states = Counter([(await documents.deliveries.of_request(one))[0].state for one in stuck])
            assert states == {"processing": 2, "pending": 8}
            gate.set()
            delivered = [await delivery_in(documents, request_id, "delivered") for request_id in stuck]
    assert len({received.webhook_id for received in hanging.received}) == len(hanging.received) == 10
    assert [delivery.attempts_made for delivery in delivered] == [1] * 10
    assert len({received.webhook_id for received in healthy.received}) == len(healthy.received) == 10


async def test_a_request_closed_while_every_slot_hangs_is_announced(documents: Documents, mongo_uri: str) -> None:
    """A notifier with nothing free still makes the deliveries, for others to take."""
    gate = asyncio.Event()
    async with receiving(waits_for(gate)) as hanging:
        await close_request(documents, hanging.url)
        settings = notifier_settings(documents, mongo_uri, webhook_in_flight=1, webhook_seconds=600, sweep_seconds=3600)
        async with notifying(settings):
            await hanging.first(1)
            behind = await close_request(documents, "http://h/")
            delivery = await delivery_in(documents, behind, "pending")
            gate.set()
    assert delivery.request_id == behind
