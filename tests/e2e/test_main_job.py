"""The main job over real processes: a CSV goes in by HTTP, images and a signed webhook come out."""

import asyncio
import io
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image
from standardwebhooks.webhooks import Webhook

from tests.processes import SECRET, environment, started
from tests.receivers import receiving
from tests.sources import photograph, served
from tests.waiting import until

HEADER = "S. No.,Product Name,Input Image Urls\n"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def upload(client: aiohttp.ClientSession, url: str, csv: str, webhook_url: str | None = None) -> str:
    """Uploads a CSV as curl would, and gives the request's id."""
    form = aiohttp.FormData()
    form.add_field("file", csv.encode(), filename="test.csv", content_type="text/csv")
    if webhook_url:
        form.add_field("webhook_url", webhook_url)
    async with client.post(f"{url}/api/upload", data=form, headers={"traceparent": TRACEPARENT}) as answer:
        body = await answer.json()
        assert answer.status == 200, body
        assert body["status"] == "pending"
        return str(body["request_id"])


async def status_of(client: aiohttp.ClientSession, url: str, request_id: str) -> dict[str, Any]:
    """The answer of GET /api/status."""
    async with client.get(f"{url}/api/status", params={"request_id": request_id}) as answer:
        assert answer.status == 200
        body: dict[str, Any] = await answer.json()
        return body


async def reached(client: aiohttp.ClientSession, url: str, request_id: str, status: str) -> dict[str, Any]:
    """The answer of GET /api/status once it says `status`."""

    async def probe() -> dict[str, Any] | None:
        body = await status_of(client, url, request_id)
        return body if body["status"] == status else None

    return await until(probe, f"the request is {status}")


async def test_a_csv_becomes_images_and_a_verified_webhook(mongo_uri: str, tmp_path: Path) -> None:
    """Upload → pending → processing → completed → files served, smaller, right size and colours → webhook verified."""
    images = {f"{n}.jpg": photograph(shade=n) for n in range(3)}
    env = environment(mongo_uri, tmp_path)
    async with AsyncExitStack() as stack:
        sources = await stack.enter_async_context(served(images))
        receiver = await stack.enter_async_context(receiving())
        client = await stack.enter_async_context(aiohttp.ClientSession())
        ingest = await stack.enter_async_context(started("ingest", env, tmp_path))
        env["DARKROOM_PUBLIC_URL"] = ingest.url
        csv = (
            HEADER + f"1,SKU1,{sources.link('0.jpg')}, {sources.link('1.jpg')}\n" + f"2,SKU2,{sources.link('2.jpg')}\n"
        )
        request_id = await upload(client, ingest.url, csv, receiver.url)
        assert (await status_of(client, ingest.url, request_id))["status"] == "pending"

        sources.close()
        watcher = await stack.enter_async_context(started("watcher", env, tmp_path))
        notifier = await stack.enter_async_context(started("notifier", env, tmp_path))
        await reached(client, ingest.url, request_id, "processing")
        sources.open()
        done = await reached(client, ingest.url, request_id, "completed")
        assert (done["total"], done["completed"], done["failed"]) == (3, 3, 0)
        assert [row["serial_number"] for row in done["details"]] == [1, 2]
        assert [row["input_image_urls"] for row in done["details"]] == [
            [sources.link("0.jpg"), sources.link("1.jpg")],
            [sources.link("2.jpg")],
        ]
        for row in done["details"]:
            assert row["errors"] == []
            for source, output in zip(row["input_image_urls"], row["output_image_urls"], strict=True):
                async with client.get(output) as answer:
                    assert (answer.status, answer.content_type) == (200, "image/jpeg")
                    compare(images[source.rpartition("/")[2]], await answer.read())

        [received] = await receiver.wait(1)
        payload = Webhook(SECRET).verify(received.body, dict(received.headers))
        assert payload == json.loads(received.body)
        assert (payload["type"], payload["request_id"], payload["status"]) == (
            "request.completed",
            request_id,
            "completed",
        )
        assert received.headers["traceparent"].split("-")[1] == TRACEPARENT.split("-")[1]

        assert [await service.stop() for service in (ingest, watcher, notifier)] == [0, 0, 0]
        for service in (ingest, watcher, notifier):
            about = [event for event in service.events if event.get("request_id") == request_id]
            assert about, f"{service.name} says nothing of the request"
            assert {event["trace_id"] for event in about if "trace_id" in event} == {TRACEPARENT.split("-")[1]}


def compare(source: bytes, output: bytes) -> None:
    """The output is smaller, of the same size in pixels and of nearly the same colours."""
    assert len(output) < len(source)
    with Image.open(io.BytesIO(source)) as before, Image.open(io.BytesIO(output)) as after:
        assert after.size == before.size
        small = before.convert("RGB").resize((2, 1)), after.convert("RGB").resize((2, 1))
        for x in range(2):
            expected, found = (picture.getpixel((x, 0)) for picture in small)
            assert isinstance(expected, tuple)
            assert isinstance(found, tuple)
            assert all(abs(a - b) <= 6 for a, b in zip(expected, found, strict=True))


async def test_two_watchers_and_two_notifiers_do_nothing_twice(mongo_uri: str, tmp_path: Path) -> None:
    """Forty images and five requests: every image is fetched and compressed once, every webhook sent once."""
    images = {f"{n}.jpg": photograph(96, 64, shade=n) for n in range(40)}
    env = environment(mongo_uri, tmp_path)
    async with AsyncExitStack() as stack:
        sources = await stack.enter_async_context(served(images))
        receiver = await stack.enter_async_context(receiving())
        client = await stack.enter_async_context(aiohttp.ClientSession())
        ingest = await stack.enter_async_context(started("ingest", env, tmp_path))
        watchers = [await stack.enter_async_context(started("watcher", env, tmp_path, number=n)) for n in range(2)]
        notifiers = [await stack.enter_async_context(started("notifier", env, tmp_path, number=n)) for n in range(2)]
        sources.close()
        requests = [
            await upload(
                client,
                ingest.url,
                HEADER + "".join(f"{n},SKU{n},{sources.link(f'{n}.jpg')}\n" for n in range(first, first + 8)),
                receiver.url,
            )
            for first in range(0, 40, 8)
        ]
        # One watcher holds eight images; sixteen waiting fetches prove that both have work.
        await sources.waiting_for(16)
        sources.open()
        received = await receiver.wait(5)
        for request_id in requests:
            await reached(client, ingest.url, request_id, "completed")
        async with asyncio.TaskGroup() as group:
            stops = [group.create_task(service.stop()) for service in (*watchers, *notifiers)]
        assert [stop.result() for stop in stops] == [0, 0, 0, 0]

    assert set(sources.fetched.values()) == {1}
    assert len(sources.fetched) == 40
    compressed = [
        [(event["request_id"], event["position"]) for event in watcher.events if event["event"] == "image.compressed"]
        for watcher in watchers
    ]
    assert len(compressed[0]) + len(compressed[1]) == len({*compressed[0], *compressed[1]}) == 40
    assert all(compressed)
    assert sorted(json.loads(one.body)["request_id"] for one in received) == sorted(requests)
    assert len(receiver.received) == 5


async def test_a_request_is_cancelled_while_a_watcher_works_on_it(mongo_uri: str, tmp_path: Path) -> None:
    """What was done stays, the rest is cancelled, downloads that hang are dropped, and the webhook says so."""
    images = {f"{n}.jpg": photograph(96, 64, shade=n) for n in range(20)}
    env = environment(mongo_uri, tmp_path, DARKROOM_LEASE_SECONDS="3", DARKROOM_OPERATION_SECONDS="0.9")
    async with AsyncExitStack() as stack:
        sources = await stack.enter_async_context(served(images))
        receiver = await stack.enter_async_context(receiving())
        client = await stack.enter_async_context(aiohttp.ClientSession())
        ingest, watcher, _ = [
            await stack.enter_async_context(started(name, env, tmp_path)) for name in ("ingest", "watcher", "notifier")
        ]
        sources.close()
        csv = HEADER + "".join(f"{n},SKU{n},{sources.link(f'{n}.jpg')}\n" for n in range(20))
        request_id = await upload(client, ingest.url, csv, receiver.url)
        await sources.waiting_for(8)
        async with client.delete(f"{ingest.url}/api/requests/{request_id}") as answer:
            assert (answer.status, (await answer.json())["status"]) == (200, "cancelled")
        [received] = await receiver.wait(1)
        assert json.loads(received.body)["type"] == "request.cancelled"
        done = await status_of(client, ingest.url, request_id)
        assert (done["status"], done["completed"], done["cancelled"]) == ("cancelled", 0, 20)
        async with client.delete(f"{ingest.url}/api/requests/{request_id}") as answer:
            assert answer.status == 409

        # The renewal notices that the leases are gone, and the watcher is free for the next request.
        second = await upload(client, ingest.url, HEADER + f"1,SKU1,{sources.link('1.jpg')}\n")
        await sources.waiting_for(9)
        sources.open()
        await reached(client, ingest.url, second, "completed")
        assert await watcher.stop() == 0
    assert not [event for event in watcher.events if event.get("request_id") == request_id and "bytes_out" in event]
