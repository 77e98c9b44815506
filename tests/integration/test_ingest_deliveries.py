"""The log of deliveries over HTTP, and a delivery that is sent again by a real notifier."""

import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from libs.documents import Answer, Attempt, Documents, NewEndpoint
from libs.runtime.health import serve_app
from services.ingest.deliveries import DeliveryLog, shown
from services.ingest.delivery_models import Deliveries, FullDelivery
from services.ingest.problems import problems
from tests.ingests import Ingest, ingesting
from tests.logged import REQUEST, logged, put
from tests.notifiers import close_request, delivery_in, notifier_settings, notifying
from tests.processes import SECRET
from tests.waiting import until
from tests.webhook_server import receiving, says

UNKNOWN = "msg_" + "0" * 32
NOON = "2026-01-31T12:00:00Z"


@pytest.fixture
async def ingest(documents: Documents, tmp_path: Path) -> AsyncIterator[Ingest]:
    """An ingest service with the settings it has by default."""
    async with ingesting(documents, tmp_path) as ingest:
        yield ingest


async def page(ingest: Ingest, **query: str | int) -> Any:
    """A page that has to come, of the shape that is documented."""
    status, body = await ingest.call("GET", "/api/deliveries", params=query)
    assert status == 200, body
    Deliveries.model_validate(body)
    return body


async def redelivered(ingest: Ingest, **body: Any) -> Any:
    """What comes of asking for many, which has to be accepted."""
    status, answer = await ingest.call("POST", "/api/deliveries/redeliver", json=body)
    assert status == 200, answer
    return answer


async def test_pages_follow_one_another_to_the_end(ingest: Ingest, documents: Documents) -> None:
    """The cursor of each leads to the next, and the last has none."""
    ids = await put(documents, [logged(n, "delivered") for n in range(7)])
    found: list[str] = []
    cursor: dict[str, str] = {}
    sizes: list[int] = []
    while not sizes or cursor:
        body = await page(ingest, limit=3, **cursor)
        found += [delivery["id"] for delivery in body["deliveries"]]
        sizes.append(len(body["deliveries"]))
        cursor = {"cursor": body["next"]} if body["next"] else {}
    assert (found, sizes) == (ids[::-1], [3, 3, 1])


async def test_filters_reach_the_log(ingest: Ingest, documents: Documents) -> None:
    """Each by its own parameter."""
    await put(documents, [logged(n, "failed", host="other:81", ended_at=None) for n in range(2)])
    await put(documents, [logged(n, "delivered", request_id="0b7cbc20-0b02-4a4c-a1a6-0e0c1c6f1c5e") for n in (2, 3)])
    for query, count in (
        ({"endpoint": "OTHER:81"}, 2),
        ({"state": "failed"}, 2),
        ({"state": "pending"}, 0),
        ({"request_id": REQUEST.upper()}, 2),
        ({"since": "2026-01-31T12:00:01Z"}, 3),
        ({"until": "2026-01-31T13:00:01+01:00"}, 1),
        ({"failed_since": NOON}, 0),
        ({"since": "0001-01-01T00:00:00+14:00"}, 4),
    ):
        assert len((await page(ingest, **query))["deliveries"]) == count, query


async def test_one_delivery_shows_every_attempt_and_its_answer(ingest: Ingest, documents: Documents) -> None:
    """Times, status, reason, address and the receiver's words; in a list, the last attempt without the answer."""
    await put(documents, [logged(0, "pending")])
    [held] = await documents.deliveries.claim(1)
    assert held.claimed_at is not None
    answer = Answer([("Content-Type", "text/plain")], "we are closed")
    attempt = Attempt(held.claimed_at, 0.25, 503, "http_503", "the receiver answered 503", "192.0.2.1", answer)
    await documents.mongo.collection("deliveries").update_one({}, {"$set": {"attempts": [attempt.document()]}})
    status, body = await ingest.call("GET", f"/api/deliveries/{held.webhook_id}")
    assert status == 200
    FullDelivery.model_validate(body)
    [shown_attempt] = body["attempts"]
    assert shown_attempt["response"] == {
        "headers": [{"name": "Content-Type", "value": "text/plain"}],
        "body": "we are closed",
    }
    assert (shown_attempt["status"], shown_attempt["error"], shown_attempt["seconds"]) == (503, "http_503", 0.25)
    assert shown_attempt["remote_address"] == "192.0.2.1"
    assert (body["state"], body["body"], body["host"]) == ("processing", "{}", "h")
    assert "lease" not in body
    [listed] = (await page(ingest))["deliveries"]
    assert listed["last_attempt"]["error"] == "http_503"
    assert not {"response", "body"} & {*listed, *listed["last_attempt"]}


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("https://h/a?key=s3cret&on&x=#part", "https://h/a?key=***&***&x=***"),
        ("https://h/a?", "https://h/a?"),
        ("https://h:8/a/b", "https://h:8/a/b"),
    ],
)
async def test_what_the_query_of_a_url_says_is_not_shown(
    ingest: Ingest, documents: Documents, url: str, seen: str
) -> None:
    """It may be a secret of the receiver's, in a list as in one delivery."""
    assert shown(url) == seen
    [webhook_id] = await put(documents, [logged(0, "failed", url=url)])
    _, one = await ingest.call("GET", f"/api/deliveries/{webhook_id}")
    [listed] = (await page(ingest))["deliveries"]
    assert one["url"] == listed["url"] == seen


async def test_one_is_queued_again_once(ingest: Ingest, documents: Documents) -> None:
    """The answer says whether anything was changed."""
    [webhook_id] = await put(documents, [logged(0, "failed")])
    answers = [await ingest.call("POST", f"/api/deliveries/{webhook_id}/redeliver") for _ in range(2)]
    assert answers == [
        (200, {"id": webhook_id, "queued": True, "state": "delayed"}),
        (200, {"id": webhook_id, "queued": False, "state": "delayed"}),
    ]


@pytest.mark.parametrize("why", ["endpoint_disabled", "endpoint_deleted"])
async def test_what_an_endpoint_would_not_get_is_a_conflict(ingest: Ingest, documents: Documents, why: str) -> None:
    """With the reason it would have failed for; of many it is passed over."""
    endpoint = await documents.endpoints.create(NewEndpoint("http://h/hook"))
    if why == "endpoint_disabled":
        await documents.endpoints.update(endpoint.id, enabled=False)
    else:
        await documents.endpoints.delete(endpoint.id)
    [webhook_id] = await put(documents, [logged(0, "failed", endpoint_id=endpoint.id)])
    status, problem = await ingest.call("POST", f"/api/deliveries/{webhook_id}/redeliver")
    assert (status, problem["code"]) == (409, why)
    assert await redelivered(ingest, endpoint=endpoint.id) == {"queued": 0, "next": None}


async def test_thousands_are_queued_by_one_call(ingest: Ingest, documents: Documents) -> None:
    """Only what has ended and is asked for; by repeating the call, nothing more."""
    await put(documents, [logged(n, "failed") for n in range(2600)])
    await put(documents, [logged(n, "delivered") for n in range(2600, 2700)])
    await put(documents, [logged(n, "processing") for n in range(2700, 2800)])
    assert await redelivered(ingest, state="failed", since=NOON) == {"queued": 2600, "next": None}
    assert await redelivered(ingest, state="failed", since=NOON) == {"queued": 0, "next": None}
    assert await documents.mongo.collection("deliveries").count_documents({"state": "delayed"}) == 2600
    assert await redelivered(ingest, request_id=REQUEST) == {"queued": 100, "next": None}


async def test_of_what_waits_for_its_next_try_so_many_are_queued_as_were_asked_for(
    ingest: Ingest, documents: Documents
) -> None:
    """What waits untried does not count; of a state that nobody can send again, nothing is."""
    await put(documents, [logged(n, "delayed", attempts_made=0 if n % 2 else 2) for n in range(8)])
    some = await redelivered(ingest, state="delayed", limit=3)
    assert some["queued"] == 3
    assert await redelivered(ingest, state="delayed", cursor=some["next"]) == {"queued": 1, "next": None}
    assert await redelivered(ingest, state="delayed") == {"queued": 0, "next": None}
    assert (await ingest.call("POST", "/api/deliveries/redeliver", json={"state": "pending"}))[0] == 422


async def test_a_limit_is_kept_and_the_rest_can_follow(ingest: Ingest, documents: Documents) -> None:
    """The newest first; `next` goes on behind them."""
    await put(documents, [logged(n, "failed") for n in range(5)])
    first = await redelivered(ingest, state="failed", limit=2)
    assert first["queued"] == 2
    rest = await redelivered(ingest, state="failed", cursor=first["next"])
    assert rest == {"queued": 3, "next": None}


async def test_a_call_that_takes_long_gives_the_place_to_go_on(documents: Documents, tmp_path: Path) -> None:
    """After some seconds it answers with what it has done; the client goes on with `next`."""
    await put(documents, [logged(n, "failed") for n in range(1200)])
    async with ingesting(documents, tmp_path) as ingest:
        slow = DeliveryLog(ingest.context, clock=itertools.count(step=10).__next__)
        app = web.Application(middlewares=[problems])
        app.router.add_post("/redeliver", slow.redeliver_some)
        answers, cursor = list[Any](), dict[str, str]()
        async with serve_app(app, "127.0.0.1", 0) as port:
            while not answers or cursor:
                body = {"state": "failed", **cursor}
                async with ingest.client.post(f"http://127.0.0.1:{port}/redeliver", json=body) as answer:
                    answers.append(await answer.json())
                cursor = {"cursor": answers[-1]["next"]} if answers[-1]["next"] else {}
    assert [answer["queued"] for answer in answers] == [500, 500, 200]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "give at least one of request_id, "),
        ({"limit": 3}, "give at least one of request_id, "),
        ({"state": "pending"}, "state: "),
        ({"state": None}, "leave out what does not matter, instead of null: state"),
        ({"since": 5}, "since: must be a time such as"),
        ({"since": "2026-01-31"}, "since: must be a time such as"),
        ({"since": "2026-13-31T12:00:00Z"}, "since: must be a time such as"),
        ({"request_id": "x"}, "request_id: must be a UUID"),
        ({"state": "failed", "cursor": "x"}, "cursor: "),
        ({"state": "failed", "limit": 0}, "limit: "),
        ({"state": "failed", "limit": "1"}, "limit: must be a whole number"),
        ({"state": "failed", "limit": True}, "limit: must be a whole number"),
        ({"state": "failed", "other": 1}, "other: "),
        ([], ""),
    ],
)
async def test_a_wrong_filter_is_named_and_nothing_queued(
    ingest: Ingest, documents: Documents, body: Any, said: str
) -> None:
    """With none at all, one typing error would send everything there ever was again."""
    await put(documents, [logged(0, "failed")])
    status, problem = await ingest.call("POST", "/api/deliveries/redeliver", json=body)
    assert (status, problem["code"]) == (422, "invalid_parameters")
    assert said in problem["detail"]
    assert await documents.mongo.collection("deliveries").count_documents({"state": "failed"}) == 1


@pytest.mark.parametrize(
    "query", ["state=lost", "limit=501", "limit=0", "cursor=x", "since=1", "since=yesterday", "a=b"]
)
async def test_a_wrong_parameter_is_refused(ingest: Ingest, query: str) -> None:
    """And named."""
    status, problem = await ingest.call("GET", f"/api/deliveries?{query}")
    assert (status, problem["code"]) == (422, "invalid_parameters")
    assert query.partition("=")[0] in problem["detail"]


async def test_an_unknown_delivery_is_404_and_a_malformed_id_422(ingest: Ingest) -> None:
    """To look at and to send again alike."""
    for method, path in (("GET", ""), ("POST", "/redeliver")):
        status, problem = await ingest.call(method, f"/api/deliveries/{UNKNOWN}{path}")
        assert (status, problem["code"]) == (404, "unknown_delivery")
        status, problem = await ingest.call(method, f"/api/deliveries/msg_1{path}")
        assert (status, problem["code"]) == (422, "invalid_parameters")


async def test_what_is_sent_again_is_no_delivery_to_look_at(ingest: Ingest) -> None:
    """The path of the one operation is not the other's with an odd id."""
    async with ingest.client.get(f"{ingest.url}/api/deliveries/redeliver") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_a_delivery_that_failed_is_sent_again_under_its_id(
    ingest: Ingest, documents: Documents, mongo_uri: str
) -> None:
    """A listening notifier finds it though its sweep is hours away; the independent library verifies both attempts."""
    async with receiving(says(410, 200)) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with notifying(notifier_settings(documents, mongo_uri, sweep_seconds=3600)):
            failed = await delivery_in(documents, request_id, "failed")
            [listed] = (await page(ingest, request_id=request_id))["deliveries"]
            assert (listed["id"], listed["state"], listed["reason"]) == (failed.webhook_id, "failed", "http_410")
            [first] = await receiver.first(1)

            async def a_second_later() -> bool:  # timestamps are whole seconds
                return time.time() >= int(first.headers["webhook-timestamp"]) + 1

            await until(a_second_later, "the clock has gone on")
            assert await redelivered(ingest, failed_since=NOON) == {"queued": 1, "next": None}
            await receiver.first(2)
            await delivery_in(documents, request_id, "delivered")
    first, second = receiver.received
    assert first.verified(SECRET) == second.verified(SECRET)
    assert first.webhook_id == second.webhook_id == failed.webhook_id
    assert int(first.headers["webhook-timestamp"]) < int(second.headers["webhook-timestamp"])
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    _, body = await ingest.call("GET", f"/api/deliveries/{failed.webhook_id}")
    assert [attempt["status"] for attempt in body["attempts"]] == [410, 200]
    assert (body["state"], body["reason"]) == ("delivered", None)
