"""Machines whose clocks are five minutes off: nothing changes, since only the server's clock is asked."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from tests.notifiers import delivery_in
from tests.processes import SECRET, Service, started
from tests.scenes import SHORT_LEASES, Scene, scene
from tests.skewed import skewed
from tests.sources import photograph, served
from tests.waiting import until
from tests.webhook_server import Received, receiving

SKEW_SECONDS = 300.0
CLOCKS = (SKEW_SECONDS, -SKEW_SECONDS)
IMAGES = {f"{n}.jpg": photograph(64, 48, shade=n) for n in range(16)}
PAUSES = {"DARKROOM_RETRY_SECONDS": "2", "DARKROOM_WEBHOOK_SCHEDULE": "1"}
LEAST_PAUSE_SECONDS = 1.0  # half of DARKROOM_RETRY_SECONDS is jitter


def ahead(service: Service) -> bool:
    """Whether the process sees a later time than there is, by half the skew at least; false: an earlier one."""
    seen = datetime.fromisoformat(service.events[-1]["timestamp"])
    seconds = (seen - datetime.now(UTC)).total_seconds()
    assert abs(seconds) > SKEW_SECONDS / 2
    return seconds > 0


async def outlived_first_leases(place: Scene) -> None:
    """Returns when the leases that are held now would all be over, had nobody renewed them."""
    images = place.documents.mongo.collection("images")
    ends = [image["lease"]["until"] async for image in images.find({"state": "processing"})]

    async def over() -> bool:
        return await images.count_documents({"$expr": {"$gt": ["$$NOW", max(ends)]}}) > 0

    await until(over, "the first leases would be over")


async def test_clocks_five_minutes_off_change_nothing(mongo_uri: str, tmp_path: Path) -> None:
    """Of two watchers and two notifiers one is early and one is late: each does its share, and loses no lease.

    Every image is refused once and every webhook too. They are tried again when the pause is over, neither at once nor
    in five minutes, and receivers take the signatures, whose time they compare with their own.
    """
    refused: set[str] = set()
    gate = asyncio.Event()

    async def answer(received: Received) -> web.StreamResponse:
        await gate.wait()
        is_first = received.webhook_id not in refused
        refused.add(received.webhook_id)
        return web.Response(status=503 if is_first else 204)

    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **SHORT_LEASES, **PAUSES))
        sources = await stack.enter_async_context(served(IMAGES))
        receiver = await stack.enter_async_context(receiving(answer))
        services = await asyncio.gather(
            *[
                stack.enter_async_context(
                    started(name, place.env | skewed(seconds), tmp_path, number=number),
                )
                for name in ("watcher", "notifier")
                for number, seconds in enumerate(CLOCKS)
            ]
        )
        assert [ahead(service) for service in services] == [True, False, True, False]
        sources.close()
        sources.refusals.update(list(IMAGES))
        links = [sources.link(path) for path in IMAGES]
        requests = [await place.submit(links[first : first + 2], receiver.url) for first in range(0, len(links), 2)]
        await sources.waiting_for(len(IMAGES))  # eight are held by each
        await outlived_first_leases(place)
        sources.open()
        for request_id in requests:
            assert (await place.closed(request_id)).status == "completed"
            await place.assert_counted_once(request_id)
        await receiver.first(len(requests))  # four are held by each
        gate.set()
        deliveries = [await delivery_in(place.documents, request_id, "delivered") for request_id in requests]
        images = await place.documents.mongo.collection("images").find().to_list(None)
        assert [await service.stop() for service in services] == [0] * len(services)

    assert {(image["attempts"], image["lost_leases"]) for image in images} == {(1, 0)}
    for first, second in sources.moments.values():
        assert second - first >= LEAST_PAUSE_SECONDS
    assert {delivery.attempts_made for delivery in deliveries} == {2}
    assert len(receiver.received) == 2 * len(requests)
    for received in receiver.received:
        assert received.verified(SECRET)["request_id"] in requests
    for service in services:
        events = [line["event"] for line in service.events]
        assert "lease.expired" not in events
        assert not {"image.compressed", "request.announced", "delivery.delivered"}.isdisjoint(events)
