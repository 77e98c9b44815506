"""The log of deliveries: lists page by page, and queueing again what has ended."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from libs.documents import Answer, Attempt, Delivery, DeliveryFilter, Documents, Ending, NewEndpoint, Place, Redelivery
from tests.logged import NOON, logged, put

ALL = DeliveryFilter()
OTHER = "0b7cbc20-0b02-4a4c-a1a6-0e0c1c6f1c5e"
ENDPOINT = "ep_00000000000000000000000000000001"
ATTEMPT = Attempt(datetime(2026, 1, 31, 12, tzinfo=UTC), 0.1, 500, "http_500", "it broke", "192.0.2.1", Answer([]))


def at(seconds: float) -> datetime:
    """So long after noon."""
    return datetime.fromtimestamp(NOON + seconds, UTC)


async def listed(documents: Documents, wanted: DeliveryFilter, limit: int = 500) -> list[Delivery]:
    """All of a list, read in pages of `limit`."""
    found, behind = list[Delivery](), None
    while True:
        page = await documents.delivery_log.page(wanted, limit, behind=behind)
        found += page.deliveries
        assert len(found) < 100, "the pages come to no end"
        behind = page.behind
        if behind is None:
            return found


async def seconds_of(documents: Documents, wanted: DeliveryFilter, limit: int = 500) -> list[float]:
    """When the events of a list were, in seconds after noon."""
    return [found.created_at.timestamp() - NOON for found in await listed(documents, wanted, limit)]


async def test_a_list_gives_all_the_newest_first(documents: Documents) -> None:
    """Of every state, whatever the size of its pages."""
    states = ("pending", "delayed", "processing", "delivered", "failed")
    await put(documents, [logged(n, states[n % 5]) for n in range(12)])
    for limit in (1, 3, 4, 12, 500):
        assert await seconds_of(documents, ALL, limit) == list(range(11, -1, -1))


async def test_filters_hold_together(documents: Documents) -> None:
    """Request, host, standing endpoint, state, and the time of the event from one to before another."""
    await put(documents, [logged(n, "failed" if n % 2 else "delivered") for n in range(6)])
    await put(documents, [logged(n, "failed", request_id=OTHER, host="other:81") for n in range(6, 8)])
    await put(documents, [logged(n, "delivered", request_id=OTHER, endpoint_id=ENDPOINT) for n in range(8, 10)])
    for wanted, found in (
        (DeliveryFilter(request_id=OTHER), [9, 8, 7, 6]),
        (DeliveryFilter(request_id=OTHER, state="failed"), [7, 6]),
        (DeliveryFilter(endpoint="other:81"), [7, 6]),
        (DeliveryFilter(endpoint="h"), [9, 8, 5, 4, 3, 2, 1, 0]),
        (DeliveryFilter(endpoint=ENDPOINT), [9, 8]),
        (DeliveryFilter(endpoint=ENDPOINT, state="failed"), []),
        (DeliveryFilter(state="failed"), [7, 6, 5, 3, 1]),
        (DeliveryFilter(since=at(3)), [9, 8, 7, 6, 5, 4, 3]),
        (DeliveryFilter(until=at(3)), [2, 1, 0]),
        (DeliveryFilter(since=at(2), until=at(8), state="delivered"), [4, 2]),
        (DeliveryFilter(state="pending"), []),
    ):
        for limit in (1, 2, 500):
            assert await seconds_of(documents, wanted, limit) == found


async def test_what_comes_between_two_pages_moves_nothing(documents: Documents) -> None:
    """What is new stands before the pages that are left, and nothing is given twice or passed over."""
    await put(documents, [logged(n, "delivered") for n in range(6)])
    first = await documents.delivery_log.page(ALL, 3)
    await put(documents, [logged(n, "delivered") for n in range(6, 12)])
    second = await documents.delivery_log.page(ALL, 3, behind=first.behind)
    assert [found.created_at for found in (*first.deliveries, *second.deliveries)] == [at(n) for n in range(5, -1, -1)]


async def test_of_one_moment_every_delivery_is_given_once(documents: Documents) -> None:
    """A thousand images may fail in the same millisecond; there it is the id that sorts."""
    ids = await put(documents, [logged(n, "delivered", created_at=at(0)) for n in range(25)])
    found = await listed(documents, ALL, 4)
    assert [delivery.webhook_id for delivery in found] == sorted(ids, reverse=True)


async def test_failures_are_listed_by_when_they_failed(documents: Documents) -> None:
    """An old event may have failed for good just now, which is what counts; the schedule lasts for days."""
    await put(
        documents,
        [
            logged(0, "failed", ended_at=at(300)),
            logged(1, "failed", ended_at=at(100)),
            logged(2, "failed", ended_at=at(200)),
            logged(3, "delivered", ended_at=at(400)),
        ],
    )
    for limit in (1, 500):
        assert await seconds_of(documents, DeliveryFilter(failed_since=at(200)), limit) == [0, 2]
    assert await seconds_of(documents, DeliveryFilter(failed_since=at(200), since=at(1))) == [2]
    assert await seconds_of(documents, DeliveryFilter(failed_since=at(0), state="delivered")) == []


async def test_one_delivery_comes_with_its_attempts(documents: Documents) -> None:
    """A page has the last alone, and no body."""
    attempts = [ATTEMPT.document(), {**ATTEMPT.document(), "status": 404}]
    [webhook_id] = await put(documents, [logged(0, "delayed", attempts=attempts, next_attempt_at=at(5))])
    one = await documents.delivery_log.get(webhook_id)
    assert one is not None
    assert [attempt.status for attempt in one.attempts] == [500, 404]
    assert (one.body, one.state, one.next_attempt_at) == ("{}", "delayed", at(5))
    [in_page] = await listed(documents, ALL)
    assert ([attempt.status for attempt in in_page.attempts], in_page.body) == ([404], "")
    assert await documents.delivery_log.get("msg_none") is None


async def test_what_has_ended_is_queued_again(documents: Documents) -> None:
    """It keeps its id and attempts, is due at once, and its schedule begins anew behind what waits."""
    ended: dict[str, Any] = {"ended_at": at(9), "attempts": [ATTEMPT.document()], "attempts_made": 10, "lost_leases": 3}
    for number, state in enumerate(("delivered", "failed")):
        [webhook_id] = await put(documents, [logged(number, state, reason="http_500", **ended)])
        redelivery = await documents.delivery_log.redeliver(webhook_id)
        assert redelivery is not None
        assert (redelivery.queued, redelivery.state) == (True, "delayed")
        assert await documents.deliveries.leases.promote() == 1
        [held] = await documents.deliveries.claim(1)
        assert (held.webhook_id, held.attempts_made, held.attempts, held.reason) == (webhook_id, 0, [ATTEMPT], None)
        assert held.rank > NOON + 1
        assert await documents.deliveries.record([Ending(held, ATTEMPT, "delivered")]) == [True]
        log = await documents.delivery_log.get(webhook_id)
        assert log is not None
        assert (log.state, len(log.attempts), log.attempts_made) == ("delivered", 2, 1)


async def test_what_waits_for_its_next_attempt_is_sent_at_once(documents: Documents) -> None:
    """By its id, or with all that wait so; what was only put off would be put off again, and is left."""
    later = datetime.now(UTC) + timedelta(hours=1)
    waits: dict[str, Any] = {"next_attempt_at": later, "attempts": [ATTEMPT.document()]}
    tried = await put(documents, [logged(number, "delayed", attempts_made=4, **waits) for number in range(5)])
    others = await put(
        documents,
        [
            logged(5, "delayed", attempts_made=0, **waits),
            logged(6, "pending", attempts_made=4, rank=9e9),
            logged(7, "failed", attempts_made=4, ended_at=at(9)),
        ],
    )
    log = documents.delivery_log
    assert await log.redeliver(tried[0]) == Redelivery(queued=True, state="delayed")
    assert await log.redeliver(tried[0]) == Redelivery(queued=False, state="delayed")
    chunk = await log.redeliver_some(DeliveryFilter(state="delayed"), 3)
    assert chunk.behind is not None
    assert (
        chunk.queued + (await log.redeliver_some(DeliveryFilter(state="delayed"), 9, behind=chunk.behind)).queued == 4
    )
    assert await documents.deliveries.leases.promote() == 5
    held = await documents.deliveries.claim(5)
    assert {(one.webhook_id, one.attempts_made) for one in held} == {(one, 0) for one in tried}
    assert await documents.deliveries.record([Ending(one, ATTEMPT, "delivered") for one in held]) == [True] * 5
    assert [len(one.attempts) for webhook_id in tried if (one := await log.get(webhook_id))] == [2] * 5
    left = [await log.get(webhook_id) for webhook_id in others]
    assert [one and (one.state, one.attempts_made) for one in left] == [("delayed", 0), ("pending", 4), ("failed", 4)]


async def test_asking_twice_is_asking_once(documents: Documents) -> None:
    """What waits for its turn or is attempted now is left as it is, and that is said."""
    for number, (state, made) in enumerate((("pending", 4), ("delayed", 0), ("processing", 4))):
        [webhook_id] = await put(documents, [logged(number, state, next_attempt_at=at(99), attempts_made=made)])
        before = await documents.mongo.collection("deliveries").find_one({"_id": webhook_id})
        redelivery = await documents.delivery_log.redeliver(webhook_id)
        assert redelivery is not None
        assert (redelivery.queued, redelivery.state) == (False, state)
        assert await documents.mongo.collection("deliveries").find_one({"_id": webhook_id}) == before
    assert await documents.delivery_log.redeliver("msg_none") is None
    [ended] = await put(documents, [logged(9, "failed", ended_at=at(9))])
    assert [getattr(await documents.delivery_log.redeliver(ended), "queued", None) for _ in range(2)] == [True, False]


async def test_a_holder_that_slept_does_not_end_what_was_queued_again(documents: Documents) -> None:
    """Its lease passed to another, which ended the delivery; queued again, it is nobody's."""
    await put(documents, [logged(0, "pending")])
    [slept] = await documents.deliveries.claim(1)
    collection = documents.mongo.collection("deliveries")
    await collection.update_many({}, [{"$set": {"lease.until": {"$subtract": ["$$NOW", 1]}}}])
    assert await documents.deliveries.leases.reap() == 1
    [held] = await documents.deliveries.claim(1)
    assert await documents.deliveries.record([Ending(held, ATTEMPT, "failed", reason="http_500")]) == [True]
    assert await documents.delivery_log.redeliver(held.webhook_id)
    before = await collection.find_one({})
    assert await documents.deliveries.record([Ending(slept, ATTEMPT, "delivered")]) == [False]
    assert await collection.find_one({}) == before


async def test_a_delivery_that_is_held_anew_gets_the_ending_of_its_new_lease_alone(documents: Documents) -> None:
    """Though that of the lease that was lost is written together with it."""
    await put(documents, [logged(0, "pending")])
    [slept] = await documents.deliveries.claim(1)
    await documents.deliveries.leases.release({slept.token}, [slept.webhook_id])
    [held] = await documents.deliveries.claim(1)
    stale = Ending(slept, ATTEMPT, "failed", reason="http_500")
    assert await documents.deliveries.record([stale, Ending(held, None, "delayed", 9)]) == [False, True]
    log = await documents.delivery_log.get(held.webhook_id)
    assert log is not None
    assert (log.state, log.reason, log.attempts, log.ended_at) == ("delayed", None, [], None)
    assert log.next_attempt_at is not None


async def test_what_a_receiver_says_is_no_part_of_the_update(documents: Documents) -> None:
    """Names and values that mean something to the server are written down as they are."""
    said = replace(ATTEMPT, detail="$$ROOT", response=Answer([("$where", "$_id")], "$body"))
    await put(documents, [logged(0, "pending")])
    [held] = await documents.deliveries.claim(1)
    assert await documents.deliveries.record([Ending(held, said, "failed", reason="$rank")]) == [True]
    log = await documents.delivery_log.get(held.webhook_id)
    assert log is not None
    assert (log.reason, log.attempts) == ("$rank", [said])


async def test_the_last_twenty_attempts_are_kept(documents: Documents) -> None:
    """Of however many there were."""
    many = [{**ATTEMPT.document(), "status": 500 + number} for number in range(20)]
    await put(documents, [logged(0, "pending", attempts=many)])
    [held] = await documents.deliveries.claim(1)
    assert await documents.deliveries.record([Ending(held, replace(ATTEMPT, status=599), "delivered")]) == [True]
    log = await documents.delivery_log.get(held.webhook_id)
    assert log is not None
    assert [attempt.status for attempt in log.attempts] == [*range(501, 520), 599]


async def test_of_many_all_that_have_ended_are_queued_in_chunks(documents: Documents) -> None:
    """Each once, by as many calls as it takes; what is under way, newer or not asked for stays as it is."""
    await put(documents, [logged(n, "failed", ended_at=at(n)) for n in range(30)])
    await put(documents, [logged(n, "delivered", ended_at=at(n)) for n in range(30, 35)])
    await put(documents, [logged(n, "processing") for n in range(35, 40)])
    wanted, queued, behind = DeliveryFilter(failed_since=at(8)), 0, None
    chunks = 0
    while chunks == 0 or behind:
        chunk = await documents.delivery_log.redeliver_some(wanted, 10, behind=behind)
        queued, behind, chunks = queued + chunk.queued, chunk.behind, chunks + 1
        # As fast as that they fail again, and others with them.
        await documents.mongo.collection("deliveries").update_many(
            {"state": "delayed"}, [{"$set": {"state": "failed", "ended_at": "$$NOW"}}]
        )
        await put(documents, [logged(1000 + chunks, "failed", ended_at=datetime.now(UTC) + timedelta(seconds=chunks))])
    assert (queued, chunks) == (22, 3)
    assert (await documents.delivery_log.redeliver_some(DeliveryFilter(state="processing"), 10)).queued == 0
    both = await documents.delivery_log.redeliver_some(DeliveryFilter(since=at(28), until=at(40)), 500)
    assert (both.queued, both.behind) == (7, None)


async def test_what_an_endpoint_would_not_get_is_left_as_it_is(documents: Documents) -> None:
    """A delivery that arrived has not failed because its endpoint is disabled or gone since; and that is said."""
    disabled, deleted, stays = [await documents.endpoints.create(NewEndpoint("http://h/hook")) for _ in range(3)]
    await documents.endpoints.update(disabled.id, enabled=False)
    await documents.endpoints.delete(deleted.id)
    of_disabled = logged(0, "delivered", endpoint_id=disabled.id, ended_at=at(0))
    of_deleted = logged(1, "failed", endpoint_id=deleted.id, ended_at=at(1))
    waits = logged(2, "pending", endpoint_id=disabled.id)
    ids = await put(documents, [of_disabled, of_deleted, waits, logged(3, "failed", endpoint_id=stays.id)])
    redeliveries = [await documents.delivery_log.redeliver(webhook_id) for webhook_id in ids]
    assert redeliveries == [
        Redelivery(queued=False, state="delivered", barred="endpoint_disabled"),
        Redelivery(queued=False, state="failed", barred="endpoint_deleted"),
        Redelivery(queued=False, state="pending"),
        Redelivery(queued=True, state="delayed"),
    ]
    await documents.mongo.collection("deliveries").update_one({"_id": ids[3]}, {"$set": {"state": "failed"}})
    chunk = await documents.delivery_log.redeliver_some(DeliveryFilter(since=at(0)), 10)
    assert (chunk.queued, chunk.behind) == (1, None)
    found = [await documents.mongo.collection("deliveries").find_one({"_id": webhook_id}) for webhook_id in ids[:3]]
    assert found == [of_disabled, of_deleted, waits]


async def test_a_delivery_of_an_older_version_is_listed(documents: Documents) -> None:
    """It has neither an endpoint's id nor a reason."""
    document = logged(0, "delivered")
    del document["endpoint_id"], document["reason"]
    await put(documents, [document])
    [found] = await listed(documents, ALL)
    assert (found.endpoint_id, found.reason) == (None, None)
    assert await documents.delivery_log.get(found.webhook_id)
    assert await documents.delivery_log.redeliver(found.webhook_id) == Redelivery(queued=True, state="delayed")


async def test_a_place_may_be_one_where_nothing_stands(documents: Documents) -> None:
    """It is a bound, and no delivery has to be there any more."""
    await put(documents, [logged(n, "failed") for n in range(4)])
    page = await documents.delivery_log.page(ALL, 9, behind=Place(at(2), ""))
    assert [found.created_at for found in page.deliveries] == [at(1), at(0)]
