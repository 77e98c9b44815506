"""The plan of every query that the documents and their leases send, in a database with much beside what they want."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

import libs.documents
import libs.leases
from libs.documents import (
    Attempt,
    DeliveryFilter,
    Documents,
    Ending,
    Endpoint,
    Failed,
    ImageFailure,
    NewDelivery,
    NewEndpoint,
    NewImage,
    NewRequest,
    Output,
    TooManyEndpointsError,
)
from libs.documents.delivery import document_of
from libs.documents.endpoints import MOST_ENDPOINTS
from libs.leases import Shares
from libs.mongo import BY_ID, Mongo
from tests.logged import logged, put
from tests.query_plans import EXPLAINED, UNPLANNED, Plan, Recorder, call_sites, lines_run, plan_of, statements

BESIDE = 3000
"""Documents in each state that no query is to read, unless it was asked for them."""

READ_AT_MOST = 100
"""The most that one command here may read: fewer than `BESIDE`, more than any of them wants."""

WAITING_RANK = 1e6
"""Of all that is pending before the first request; new ones begin behind it, and claims there."""

READS_WHAT_IS_IN_FLIGHT = "processing"
"""The hint of the one query that may read every image now processing, to find their highest rank: they are no more than
the watchers have slots, and an index on that rank would be written at every claim."""

LONG, LARGE = 2000, 128
"""What waits in a long queue, and what a large claim takes of it: more than the results for which plans are tried."""

WITHOUT_AN_INDEX = {"lease.token", "failing_since", "$expr"}
"""What may stand beside ids without more ado: nothing but the ids can be looked up."""

READS_EVERY_PLACE = "place"
"""The hint of the query for the places that endpoints have, of which there are a thousand; it reads the index alone."""

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
OUTPUT = Output(name="a" * 64 + ".jpg", bytes=40, source_bytes=100, width=4, height=3, format="jpeg", key=b"ours")
FAILURE = ImageFailure("http_404", "the server answered 404")


@dataclass(frozen=True, slots=True)
class Survey:
    """What was sent while everything was called once: its plans, the indexes there are, the call sites left out."""

    names: set[str]
    plans: list[Plan]
    indexes: set[tuple[str, str]]
    silent: set[str]


async def populate(mongo: Mongo) -> None:
    """Fills the collections with what the queries are to pass by: nothing of it is due, expired, open or ours."""
    later, long_ago = datetime.now(UTC) + timedelta(hours=1), datetime(2000, 1, 1, tzinfo=UTC)
    lease = {"lease": {"token": "another", "holder": "another", "until": later, "alone": False}}
    states: dict[str, dict[str, Any]] = {"pending": {}, "completed": {}, "processing": lease}
    theirs = {"completed": lambda n: {"output": {"key": b"theirs %d" % n}}}
    for collection, due in (("images", "ready_at"), ("deliveries", "next_attempt_at")):
        ids: Sequence[Any] = [{"r": str(UUID(int=1)), "n": n} for n in range(BESIDE * 4)]
        for number, (state, more) in enumerate({**states, "delayed": {due: later}}.items()):
            await mongo.collection(collection).insert_many(
                {
                    "_id": ids[n] if collection == "images" else f"msg_{n}",
                    "request_id": str(n),
                    "endpoint": f"http://theirs/{n}",
                    "created_at": long_ago,
                    "state": state,
                    "rank": WAITING_RANK if state == "pending" else float(n),
                    "attempts": 0,
                    "lost_leases": 0,
                    **more,
                    **(theirs[state](n) if state in theirs else {}),
                }
                for n in range(number * BESIDE, (number + 1) * BESIDE)
            )
    for state in ("delivered", "failed"):
        await mongo.collection("deliveries").insert_many(
            {
                "_id": f"msg_{state}_{n}",
                "request_id": str(n),
                "endpoint": f"http://theirs/{n}",
                "endpoint_id": f"ep_{n}",
                "state": state,
                "created_at": long_ago,
                "ended_at": long_ago,
            }
            for n in range(BESIDE)
        )
    await mongo.collection("requests").insert_many(
        {"_id": str(UUID(int=n)), "closed": True, "announced": True, "created_at": later, "completed_at": later}
        for n in range(BESIDE)
    )
    await mongo.collection("progress").insert_many({"_id": {"r": str(UUID(int=n)), "slot": 0}} for n in range(BESIDE))
    await mongo.collection("endpoints").insert_many(
        {"_id": f"ep_{n}", "place": n, "enabled": n % 2 == 0, "events": ["theirs"], "url": f"http://theirs/{n}"}
        for n in range(MOST_ENDPOINTS)
    )


def new_request(total: int) -> NewRequest:
    """A request of `total` images."""
    return NewRequest("http://h/hook", filename="a.csv", bytes=10, sha256="0" * 64, total=total, trace=TRACE)


def new_images(first: int, end: int) -> list[NewImage]:
    """The images at these positions; the one at 1 stands at 2 again."""
    return [
        NewImage(n, n, n, "SKU", f"http://h/{n}", "h", alias_of=1 if n == 2 else None, copies=n == 1)
        for n in range(first, end)
    ]


async def call_everything(documents: Documents, outside: Mongo) -> None:
    """The whole life of some requests, so that every query is sent at least once."""
    await documents.ensure_indexes()
    await documents.ping()
    await finish_a_request(documents)
    await put_off_and_lose_images(documents, outside)
    await interrupt_an_upload(documents, outside)
    await subscribe(documents, outside)
    await deliver(documents)
    await leave_alone(documents, outside)
    await look_into_the_log(documents)


async def finish_a_request(documents: Documents) -> None:
    """Two uploads of one and of three batches: worked on, shown, closed, one of them cancelled."""
    small, large = uuid4(), uuid4()
    await documents.requests.accept(new_request(5), [new_images(0, 5)], small)
    await documents.requests.accept(new_request(9), [new_images(0, 4), new_images(4, 8), new_images(8, 9)], large)
    _, held = await documents.images.claim(12, start=WAITING_RANK + 1)
    for request_id in {image.request_id for image in held}:
        assert await documents.requests.start(request_id)
    done = [(image, OUTPUT) for image in held if image.request_id == str(small)]
    assert len((await documents.outcomes.write(done)).images) == len(done)
    assert (await documents.outcomes.write(done)).images == []
    assert await documents.images.made_from([b"ours", b"nobody's"]) == {b"ours": OUTPUT}
    await documents.outcomes.write([(image, Failed(FAILURE)) for image in held if image.position == 7])
    await documents.requests.close_if_done(str(small), 5)
    assert [row async for row in documents.images.rows(str(large), 9, offset=1, limit=3)]
    await documents.requests.sweep()
    await documents.requests.cancel(str(large))
    assert (await documents.progress.total(str(large))).failed == 1
    assert (await documents.progress.totals([str(large), str(UUID(int=1))]))[str(large)].failed == 1


async def put_off_and_lose_images(documents: Documents, outside: Mongo) -> None:
    """One upload whose images are renewed, put off, given back and lost."""
    await documents.requests.accept(new_request(8), [new_images(0, 8)], uuid4())
    passing = Shares("host", 1, {"h": 1}, passing=20)
    barred, _ = await documents.images.claim(7, start=WAITING_RANK + 1, shares=passing)
    put_off = [document["_id"] for document in barred.withheld]
    assert not await documents.postponed.is_before_others(["h"], barred.withheld[0]["rank"], among=100)
    assert await documents.postponed.put_off(put_off, 3600) == len(put_off) > 6
    assert await documents.postponed.bring_back(put_off) == len(put_off)
    claim, held = await documents.images.claim(7, start=WAITING_RANK + 1)
    leases, ids = documents.images.leases, [image.document_id for image in held]
    first = await leases.claim(1)
    assert await leases.release({first.token}, [document["_id"] for document in first.documents]) == 1
    assert await leases.renew({claim.token}, ids) == len(ids) == len(await leases.held({claim.token}, ids))
    assert await documents.images.retry(held[0], FAILURE, 0)
    assert await leases.next_due_seconds() == 0
    assert await leases.promote() == 1
    assert await leases.release({claim.token}, [ids[1]]) == 1
    past = [{"$set": {"lease.until": {"$subtract": ["$$NOW", 1]}}}]
    await outside.collection("images").update_many({"lease.token": claim.token}, past)
    assert await leases.reap() == len(ids) - 2
    orphan, [_] = await documents.images.claim(1, start=WAITING_RANK + 1)
    assert await leases.discard(orphan.token, orphan.documents[0]["_id"])


async def interrupt_an_upload(documents: Documents, outside: Mongo) -> None:
    """One upload that broke off and is swept away."""

    def batches() -> Iterator[list[NewImage]]:
        yield new_images(0, 4)
        yield new_images(4, 8)
        raise ConnectionResetError

    request_id = uuid4()
    with pytest.raises(ConnectionResetError):
        await documents.requests.accept(new_request(12), batches(), request_id)
    past = [{"$set": {"loader.until": {"$subtract": ["$$NOW", 1]}}}]
    await outside.collection("requests").update_one({"_id": str(request_id)}, past)
    assert (str(request_id), "failed") in await documents.requests.sweep()


async def subscribe(documents: Documents, outside: Mongo) -> None:
    """One endpoint from its creation, in the last place there is, to its end."""
    endpoints = documents.endpoints
    with pytest.raises(TooManyEndpointsError):
        await endpoints.create(NewEndpoint("http://h/hook"))
    await outside.collection("endpoints").delete_one({"_id": "ep_0"})
    made = await endpoints.create(NewEndpoint("http://h/hook"))
    assert [found.id for found in await endpoints.wanting("request.completed")] == [made.id]
    assert len(await endpoints.page(1, behind="ep_1")) == 1
    assert set(await endpoints.of([made.id, "nobody's"])) == {made.id}
    assert await endpoints.update(made.id, url="http://h/other", enabled=True)
    assert await endpoints.rotate(made.id, overlap_seconds=60)
    await endpoints.note_failure([made.id])
    assert await endpoints.warn(made.id, failing_seconds=0)
    await endpoints.note_success([made.id])
    assert await endpoints.disable(made.id, "failing", failing_seconds=60) is None
    assert await endpoints.disable(made.id, "gone")
    assert await endpoints.get(made.id)
    assert await endpoints.delete(made.id)


async def deliver(documents: Documents) -> None:
    """Every closed request is announced; one delivery succeeds, one fails, one is put off, and one is lost."""
    for _ in range(2):
        cancelled = uuid4()
        await documents.requests.accept(new_request(1), [new_images(0, 1)], cancelled)
        await documents.requests.cancel(str(cancelled))
    first, *others = await documents.requests.unannounced(10)
    new = [NewDelivery(first.id, "request.completed", f"http://h/{n}", "{}", TRACE, 0) for n in range(4)]
    assert await documents.deliveries.announce({first.id: new}, {first.id: ["ep_x"]}) == ({first.id}, [])
    together: dict[str, list[NewDelivery]] = {closed.id: [] for closed in others}
    assert await documents.deliveries.announce(together) == (set(together), [])
    documents.deliveries.doubts.note({"lost"}, [one.webhook_id for one in new])
    assert await documents.deliveries.doubts.settle() == 0
    await tell_of_failures(documents)
    held = await documents.deliveries.claim(3, each=4)
    attempt = Attempt(datetime.now(UTC), 0.1, 500, "http_500", "", "127.0.0.1")
    last, recorded = await documents.deliveries.exchange([Ending(held[0], attempt, "delivered")], 1)
    assert recorded
    held += last
    endings = [
        Ending(held[0], attempt, "delivered"),
        Ending(held[1], attempt, "failed"),
        Ending(held[2], attempt, "delayed", 0),
    ]
    assert await documents.deliveries.record(endings) == [True] * 3
    stale = Ending(replace(held[3], token="0" * 32), attempt, "failed")
    assert await documents.deliveries.record([*endings, stale]) == [True, True, True, False]
    assert len(await documents.deliveries.of_request(held[0].request_id or "")) == 4
    await documents.deliveries.leases.next_due_seconds()
    assert await documents.deliveries.leases.promote() == 1
    await documents.deliveries.leases.reap()


async def tell_of_failures(documents: Documents) -> None:
    """The failed images of every request that was announced, as if each had more positions than are looked at once."""
    failures = documents.deliveries.failures
    while tellings := await failures.untold(10):
        assert all([await failures.tell(telling, 10_001, lambda _: []) for telling in tellings])


async def leave_alone(documents: Documents, outside: Mongo) -> None:
    """An endpoint with a rate limit, a pause and an end, and a host that is silent."""
    endpoint = await documents.endpoints.create(NewEndpoint("http://h/hook", rate_limit=1))
    assert set(await documents.addressees.of([endpoint.id])) == {endpoint.id}
    assert await documents.addressees.wait_seconds(endpoint.id, 1) == 0
    await documents.addressees.pause(endpoint.id, 60)
    await documents.endpoints.note_failure([endpoint.id])
    assert await documents.notices.warn(endpoint.id, endpoint_event, failing_seconds=0)
    assert await documents.notices.disable(endpoint.id, "gone", endpoint_event)
    assert await documents.endpoints.delete(endpoint.id)
    silent = {"h": (60.0, "timeout")}
    await documents.deliveries.queue([NewDelivery(None, "e", "http://h/", "{}", TRACE, 0.0, "ep_1", "ours")])
    pending = {"$set": {"state": "pending", "rank": -1.0}}
    await outside.collection("deliveries").update_one({"endpoint_id": "ep_1", "state": "delayed"}, pending)
    assert (await documents.deliveries.clearing.put_off(silent, give_up_seconds=60, most=READ_AT_MOST // 2)).failed


def endpoint_event(_: Endpoint, listener: Endpoint) -> NewDelivery:
    """The news of one endpoint to another."""
    return NewDelivery(None, "endpoint.disabled", listener.url, "{}", TRACE, 0.0, listener.id)


async def look_into_the_log(documents: Documents) -> None:
    """Every list of deliveries, from its start and from within; what has ended is queued again."""
    log, day = documents.delivery_log, datetime(2026, 1, 1, tzinfo=UTC)
    ours = (await documents.endpoints.create(NewEndpoint("http://ours/"))).id
    new = [NewDelivery("ours", "e", "http://ours/", "{}", TRACE, day.timestamp() + n, ours, str(n)) for n in range(9)]
    await documents.mongo.collection("deliveries").insert_many(
        {**document_of(one), "state": "failed", "ended_at": day + timedelta(seconds=n)} for n, one in enumerate(new)
    )
    lists = [
        DeliveryFilter(),
        DeliveryFilter(since=day, until=day + timedelta(seconds=9)),
        DeliveryFilter(state="failed"),
        DeliveryFilter(request_id="ours"),
        DeliveryFilter(request_id="ours", state="failed"),
        DeliveryFilter(endpoint="ours"),
        DeliveryFilter(endpoint="ours", state="failed", since=day),
        DeliveryFilter(endpoint=ours),
        DeliveryFilter(endpoint=ours, state="failed", until=day + timedelta(seconds=9)),
        DeliveryFilter(failed_since=day),
        DeliveryFilter(failed_since=day, endpoint=ours),
    ]
    for wanted in lists:
        first = await log.page(wanted, 2)
        assert len(first.deliveries) == 2, wanted
        assert (await log.page(wanted, 2, behind=first.behind)).deliveries != first.deliveries
    assert await log.get(new[0].webhook_id)
    for _ in range(2):
        assert await log.redeliver(new[0].webhook_id)
    for wanted in (*lists, DeliveryFilter(state="delayed")):
        await log.redeliver_some(wanted, 2)


@pytest.fixture(scope="module")
async def survey(mongo_uri: str) -> AsyncIterator[Survey]:
    """Calls everything in a full database, and has every command explained that was sent."""
    recorder = Recorder()
    outside = Mongo.connect(mongo_uri, f"test_{uuid4().hex[:16]}")
    inside = Mongo.connect(mongo_uri, outside.database.name, listeners=[recorder])
    documents = Documents(inside)
    await documents.ensure_indexes()
    await populate(outside)
    sites = call_sites([libs.documents, libs.leases])
    with lines_run({path for path, _ in sites}) as lines:
        await call_everything(documents, outside)
    plans = [
        await plan_of(outside, command["name"], statement)
        for command in recorder.commands
        if command["name"] in EXPLAINED
        for statement in statements(command)
    ]
    names = await outside.database.list_collection_names()
    yield Survey(
        {command["name"] for command in recorder.commands},
        plans,
        {(name, index["name"]) for name in names async for index in outside.collection(name).list_indexes()},
        {f"{path}:{line}" for path, line in sites - lines},
    )
    inside.close()
    await outside.client.drop_database(outside.database.name)
    outside.close()


async def test_no_query_goes_unseen(survey: Survey) -> None:
    """Every place that queries has been run, so a new query must be called here to be let in."""
    assert survey.silent == set()
    assert survey.names <= EXPLAINED | UNPLANNED
    assert len(survey.plans) > 50


async def test_no_query_scans_a_collection_or_sorts_in_memory(survey: Survey) -> None:
    """Each is carried out by an index, which gives its order too."""
    assert [plan for plan in survey.plans if plan.stages & {"COLLSCAN", "EOF"} or not plan.stages] == []
    assert {plan.statement.get("hint") for plan in survey.plans if "SORT" in plan.stages} <= {READS_WHAT_IS_IN_FLIGHT}


async def test_no_query_reads_what_it_does_not_want(survey: Survey) -> None:
    """What is not due, not expired, already final or another request's costs nothing, however much there is of it."""
    greedy = [plan.statement for plan in survey.plans if plan.read > READ_AT_MOST]
    may = {READS_WHAT_IS_IN_FLIGHT, READS_EVERY_PLACE}
    assert [statement for statement in greedy if statement.get("hint") not in may] == []


async def test_what_is_given_by_its_ids_is_found_by_them(survey: Survey) -> None:
    """It says so: which plan wins where another condition has an index too is a matter of luck."""
    given = [plan for plan in survey.plans if "$in" in str(plan.filter.get("_id"))]
    others = [plan for plan in given if plan.filter.keys() - {"_id", *WITHOUT_AN_INDEX}]
    assert len(others) > 10
    assert [plan.statement for plan in others if plan.hint != BY_ID] == []


async def test_a_large_claim_reads_what_it_takes_of_a_long_queue(documents: Documents) -> None:
    """What is claimed stands first in each index of what is pending."""
    await put(documents, [logged(number, "pending") for number in range(LONG)])
    database = documents.mongo.database
    await database.command("profile", 2)
    held = await documents.deliveries.claim(LARGE)
    attempt = Attempt(datetime.now(UTC), 0.1, 200, None, "", "127.0.0.1")
    claimed, recorded = await documents.deliveries.exchange([Ending(one, attempt, "delivered") for one in held], LARGE)
    await database.command("profile", 0)
    assert (len(held), len(claimed), recorded) == (LARGE, LARGE, True)
    wanted = {"op": {"$in": ["query", "update", "getmore"]}, "ns": {"$not": {"$regex": "system"}}}
    read = await database["system.profile"].find(wanted).to_list(None)
    assert {entry["op"] for entry in read} >= {"query", "update"}
    assert len(read) >= 5
    assert [entry for entry in read if entry["keysExamined"] > 3 * LARGE] == []


async def test_every_index_is_used(survey: Survey) -> None:
    """An index that no query uses only slows writes down."""
    used = {(plan.collection, index) for plan in survey.plans for index in plan.indexes}
    assert {(collection, index) for collection, index in survey.indexes if index != "_id_"} <= used
