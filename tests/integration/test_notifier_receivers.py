"""Receivers that misbehave on the wire: each POST is sent once, classed, recorded as one attempt, and tried again."""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
import trustme

from libs.documents import Documents, PutOff
from services.notifier.breaker import Breaker
from tests.logged import logged, put
from tests.notifier_parts import announcer_of
from tests.notifiers import close_request, delivery_in, ended, notifier_settings, notifying, subscribe
from tests.unit.egress_servers import (
    Answer,
    apart,
    goes_on_after,
    ok,
    raw_server,
    resets_after,
    stalls_after,
)
from tests.unit.egress_servers import says as says_raw
from tests.waiting import until
from tests.webhook_server import receiving, says


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 408, 429, 500, 502, 503])
async def test_every_answer_but_a_2xx_is_tried_again(documents: Documents, mongo_uri: str, status: int) -> None:
    """On the schedule, under the same id; a redirect is a failure like any other, and leads nowhere."""
    async with receiving() as elsewhere, receiving(says(status, 204, Location=f"{elsewhere.url}/")) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri)):
            delivery = await delivery_in(documents, request_id, "delivered")
    assert [(one.status, one.error) for one in delivery.attempts] == [(status, f"http_{status}"), (204, None)]
    assert {one.webhook_id for one in receiver.received} == {delivery.webhook_id}
    assert elsewhere.received == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (says_raw(), "connect_error"),
        (resets_after(), "connect_error"),
        (resets_after(b"HTTP/1.1 200 OK\r\n"), "connect_error"),
        (stalls_after(), "timeout"),
        (stalls_after(b"HTTP/1.1 200 OK\r\nX: y\r\n"), "timeout"),
        (apart(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 100, seconds=0.05), "timeout"),
        (stalls_after(b"ICY 200 nonsense\r\n\r\n"), "bad_response"),
        (goes_on_after(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 10_000), "bad_response"),
        (stalls_after(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000), "bad_response"),
    ],
)
async def test_an_answer_that_is_none_is_one_attempt_for_each_post(
    documents: Documents, mongo_uri: str, answer: Answer, code: str
) -> None:
    """Two attempts by the schedule, and two POSTs in all: none is repeated behind the scenes."""
    async with raw_server(answer) as server:
        request_id = await close_request(documents, server.url)
        seconds = 2 if code == "timeout" else 60
        async with notifying(notifier_settings(documents, mongo_uri, webhook_seconds=seconds)):
            delivery = await delivery_in(documents, request_id, "failed")
    assert [one.error for one in delivery.attempts] == [code, code]
    assert delivery.reason == code
    assert len(server.bodies) == server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        goes_on_after(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000),
        apart(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 100, seconds=0.05),
        stalls_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"),
        resets_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"),
        says_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"),
        says_raw(ok(b"x", "Content-Encoding: gzip")),
    ],
)
async def test_a_2xx_is_success_whatever_becomes_of_its_body(
    documents: Documents, mongo_uri: str, answer: Answer
) -> None:
    """Endless, stalled, reset, cut off or not gzip: what arrived of it is kept."""
    async with raw_server(answer) as server:
        request_id = await close_request(documents, server.url)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_seconds=2)):
            delivery = await delivery_in(documents, request_id, "delivered")
    [attempt] = delivery.attempts
    assert (attempt.status, attempt.error, server.connections) == (200, None, 1)
    assert len(attempt.response.body) <= 16 * 1024
    assert set(attempt.response.body) <= {"x"}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://user:hush-hush@h/?key=hush-hush\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 16\r\n\r\nwrong: hush-hush",
        b"HTTP/1.1 401 No\r\nX-Said: Bearer hush-hush\r\nContent-Length: 0\r\n\r\n",
        b"Bearer hush-hush\r\n\r\n",
        b"HTTP/1.1 2x0 Bearer hush-hush\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBearer hush-hush\r\n\r\n",
    ],
)
async def test_no_credentials_are_kept_whatever_is_answered(
    documents: Documents, mongo_uri: str, answer: bytes
) -> None:
    """Neither in what is kept of an answer nor in what is said of one that is none."""
    async with raw_server(says_raw(answer)) as server:
        endpoint = await subscribe(
            documents, f"{server.url}/?key=hush-hush", headers={"Authorization": "Bearer hush-hush"}
        )
        await close_request(documents, None)
        async with notifying(notifier_settings(documents, mongo_uri, webhook_schedule="")):
            [delivery] = await ended(documents, endpoint, 1)
    assert "authorization: bearer hush-hush" in server.heads[0].lower()
    stored = await documents.mongo.collection("deliveries").find_one({"_id": delivery.webhook_id})
    assert stored is not None
    assert len(stored["attempts"]) == 1
    assert "hush" not in str(stored["attempts"])


async def test_a_name_that_does_not_resolve_is_tried_again(documents: Documents, mongo_uri: str) -> None:
    """`.invalid` has no addresses, by RFC 6761."""
    request_id = await close_request(documents, "http://receiver.invalid/hook")
    async with notifying(notifier_settings(documents, mongo_uri)):
        delivery = await delivery_in(documents, request_id, "failed")
    assert [one.error for one in delivery.attempts] == ["dns_error", "dns_error"]


async def test_a_receiver_whose_certificate_is_not_trusted_is_tried_again(documents: Documents, mongo_uri: str) -> None:
    """Its owner may renew it; until then nothing is sent."""
    presenting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(presenting)
    async with raw_server(says_raw(ok(b"")), tls=presenting) as server:
        request_id = await close_request(documents, server.url)
        async with notifying(notifier_settings(documents, mongo_uri)):
            delivery = await delivery_in(documents, request_id, "failed")
    assert [one.error for one in delivery.attempts] == ["tls_error", "tls_error"]
    assert server.bodies == []


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where nobody listens until the test does; meanwhile nobody else is given it."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


async def test_a_host_that_comes_back_is_not_stormed(documents: Documents, mongo_uri: str, silent_port: int) -> None:
    """While it is down, five hundred deliveries cost it a few attempts; then it gets each, a few at once, from all."""
    host = f"127.0.0.1:{silent_port}"
    await put(documents, [logged(n, "pending", host=host, rank=time.time() + n / 1000) for n in range(500)])
    collection = documents.mongo.collection("deliveries")
    gate, answered, held = asyncio.Event(), 0, 0
    breakers = [Breaker(first_seconds=1), Breaker(first_seconds=1)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered, held
        answered += 1
        if answered > 50 and not any(breaker.taken({}, 2) for breaker in breakers):  # both circuits are closed
            held += 1
            await gate.wait()
        await says_raw(ok(b""))(reader, writer)

    async def count(*states: str) -> int:
        return await collection.count_documents({"state": {"$in": states}})

    async def wait() -> bool:
        return await count("delayed") > 450

    async def come_back() -> bool:
        written = await count("delivered") == answered - held
        return held >= 4 and written and not await count("delayed")

    async def arrived() -> bool:
        return await count("delivered") == 500

    settings = notifier_settings(documents, mongo_uri, webhook_in_flight=8, webhook_schedule="0.1," * 20 + "3600")
    async with notifying(settings, breaker=breakers[0]), notifying(settings, breaker=breakers[1]):
        await until(wait, "most are put off")
        async with raw_server(answer, port=silent_port) as server:
            await until(come_back, "nothing waits for its time any more")
            at_once = await count("processing")
            gate.set()
            await until(arrived, "all are delivered")
    assert at_once == 4  # a quarter of its slots is what each notifier has for a host
    assert server.connections == 500
    tried = await collection.find({}, {"attempts": 1}).to_list(None)
    assert sum(len(document["attempts"]) for document in tried) < 500 + 50


async def test_what_waits_for_a_silent_host_does_not_come_back_all_at_once(documents: Documents) -> None:
    """Put off for the same time, a hundred deliveries are due at a hundred moments."""
    for _ in range(100):
        await close_request(documents, "http://h:1/")
    await announcer_of(documents).announce()
    silent = {"h:1": (60.0, "timeout")}
    put_off = await documents.deliveries.clearing.put_off(silent, give_up_seconds=3600, most=1000)
    assert put_off == PutOff(moved=0, delayed=100, failed={})
    found = documents.mongo.collection("deliveries").find({"state": "delayed"})
    due = {document["next_attempt_at"] async for document in found}
    assert len(due) > 90
    assert 5 < (max(due) - min(due)).total_seconds() < 12
