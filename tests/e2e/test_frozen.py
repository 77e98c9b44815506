"""SIGSTOP of a lease holder past its lease: another finishes, and what the sleeper writes when it wakes is refused."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from libs.mongo import Mongo
from tests.fail_points import held_command, short_transactions
from tests.notifiers import close_request, delivery_in
from tests.processes import SECRET, Service, started
from tests.scenes import SHORT_LEASES, scene
from tests.sources import photograph, served
from tests.waiting import until
from tests.webhook_server import receiving, waits_for


async def awake(service: Service, *events: str) -> str:
    """Wakes the process and gives the first of `events` that it logs."""
    service.process.send_signal(signal.SIGCONT)

    async def probe() -> str | None:
        return next((line["event"] for line in service.events if line["event"] in events), None)

    return await until(probe, f"{service.name} says {' or '.join(events)}")


async def metrics_of(service: Service) -> str:
    """What the process exposes."""
    async with aiohttp.ClientSession() as client, client.get(f"{service.url}/metrics") as answer:
        return await answer.text()


async def test_a_watcher_frozen_past_its_lease_changes_nothing(mongo_uri: str, tmp_path: Path) -> None:
    """It sleeps over a download; another completes the image; awake, it has its work taken away or its result thrown.

    The image is counted once, and the sleeper goes on with the next one.
    """
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **SHORT_LEASES))
        sources = await stack.enter_async_context(served({"0.jpg": photograph(64, 48), "1.jpg": photograph(64, 48)}))
        sleeper = await stack.enter_async_context(started("watcher", place.env, tmp_path, number=1))
        sources.close()
        first = await place.submit([sources.link("0.jpg")])
        await sources.waiting_for(1)
        sleeper.process.send_signal(signal.SIGSTOP)
        async with started("watcher", place.env, tmp_path, number=2) as other:
            await sources.waiting_for(2)  # the lease is over, and the other one has it
            sources.open()
            await place.closed(first)
            assert await other.stop() == 0
        # Cancelled by the renewal that found the lease gone, or else refused at the write.
        assert await awake(sleeper, "lease.lost", "image.fenced")
        await place.assert_counted_once(first)
        second = await place.submit([sources.link("1.jpg")])
        await place.closed(second)
        await place.assert_counted_once(second)
        assert await sleeper.stop() == 0
    done = [event["request_id"] for event in sleeper.events if event["event"] == "request.closed"]
    assert done == [second]


async def test_a_watcher_frozen_inside_its_transaction_counts_nothing(
    mongo: Mongo, mongo_uri: str, tmp_path: Path
) -> None:
    """It sleeps with the outcome written but not committed; awake, its transaction is gone and its result is thrown."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **SHORT_LEASES))
        photos = {path: photograph(64, 48, shade=shade) for shade, path in enumerate(("0.jpg", "1.jpg"))}
        sources = await stack.enter_async_context(served(photos))
        env = place.env | {"DARKROOM_IN_FLIGHT": "1"}
        sleeper = await stack.enter_async_context(started("watcher", env, tmp_path, number=1))
        await stack.enter_async_context(short_transactions(mongo, 2))
        counting = held_command(place.documents.mongo, "update", app="darkroom-watcher", collection="progress")
        async with counting as reached:
            request_id = await place.submit([sources.link(path) for path in photos])
            await reached()
            sleeper.process.send_signal(signal.SIGSTOP)
        async with started("watcher", place.env, tmp_path, number=2) as other:
            await place.closed(request_id)
            assert await other.stop() == 0
        assert await awake(sleeper, "image.fenced")
        # The image behind it, which it had claimed meanwhile, may have been taken away by a renewal or at the write.
        exposed = await metrics_of(sleeper)
        assert any(f"darkroom_images_fenced_total {fenced}.0" in exposed for fenced in (1, 2))
        await place.assert_counted_once(request_id)
        assert await sleeper.stop() == 0


async def test_a_notifier_frozen_past_its_lease_records_nothing(mongo_uri: str, tmp_path: Path) -> None:
    """It sleeps over a POST; another makes and records the delivery; awake, its own record is refused."""
    gate = asyncio.Event()
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **SHORT_LEASES))
        receiver = await stack.enter_async_context(receiving(waits_for(gate)))
        sleeper = await stack.enter_async_context(started("notifier", place.env, tmp_path, number=1))
        request_id = await close_request(place.documents, receiver.url)
        await receiver.first(1)
        sleeper.process.send_signal(signal.SIGSTOP)
        async with started("notifier", place.env, tmp_path, number=2) as other:
            first, second = await receiver.first(2)
            gate.set()
            delivery = await delivery_in(place.documents, request_id, "delivered")
            assert await other.stop() == 0
        assert await awake(sleeper, "lease.lost", "delivery.fenced")
        assert (await delivery_in(place.documents, request_id, "delivered")) == delivery
        assert delivery.attempts_made == 1
        assert first.webhook_id == second.webhook_id == delivery.webhook_id
        assert first.verified(SECRET) == second.verified(SECRET)
        assert await sleeper.stop() == 0
