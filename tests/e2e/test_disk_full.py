"""A full disk under the blob store: what does not fit is tried again and then fails; no part of it is ever served."""

import io
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from libs.mongo import Document
from tests.full_disks import ROOM, Disk, Limit, file_system_command, small_file_system
from tests.processes import Service, started
from tests.scenes import Scene, scene
from tests.sources import photograph, served


def noise() -> bytes:
    """A JPEG that stays large, since there is nothing in it but noise."""
    buffer = io.BytesIO()
    Image.effect_noise((600, 400), 100).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


IMAGES = {"small.jpg": photograph(64, 48), "large.jpg": noise()}
FILE_SYSTEM = file_system_command()
# Where no file system can be mounted, the limit alone has to do: it needs no rights.
DISKS = ["file size limit", *(["small file system"] if FILE_SYSTEM else [])]


async def image_at(place: Scene, request_id: str, position: int) -> Document:
    """The document of an image."""
    found = await place.documents.mongo.collection("images").find_one({"_id": {"r": request_id, "n": position}})
    assert found is not None
    return found


async def served_status(ingest: Service, name: str) -> int:
    """What ingest answers for an output."""
    async with aiohttp.ClientSession() as client, client.get(f"{ingest.url}/compressed_images/{name}") as answer:
        await answer.read()
        return answer.status


def outputs(root: Path) -> list[str]:
    """The names of all files in the store, those that are being written too."""
    return sorted(path.name for path in root.rglob("*") if path.is_file() and path.name != "filler")


@pytest.mark.parametrize("kind", DISKS)
async def test_what_does_not_fit_into_the_store_fails_with_a_reason(kind: str, mongo_uri: str, tmp_path: Path) -> None:
    """It is tried as often as images are and fails with `storage_error`, beside another that fits and is completed.

    Ingest knows nothing of it, nothing is left in the store, and with room again the same image is completed.
    """
    async with AsyncExitStack() as stack:
        disk: Disk = Limit(tmp_path / "images")
        if FILE_SYSTEM and kind == "small file system":
            disk = await stack.enter_async_context(small_file_system(FILE_SYSTEM))
        settings = {
            "DARKROOM_STORAGE": disk.root.as_uri(),
            "DARKROOM_MAX_ATTEMPTS": "2",
            "DARKROOM_RETRY_SECONDS": "0.1",
            "DARKROOM_SWEEP_SECONDS": "0.2",
        }
        place = await stack.enter_async_context(scene(mongo_uri, tmp_path, **settings))
        sources = await stack.enter_async_context(served(IMAGES))
        ingest = await stack.enter_async_context(started("ingest", place.env, tmp_path))
        watcher = await stack.enter_async_context(started("watcher", place.env, tmp_path))
        small, large = (sources.link(path) for path in IMAGES)

        before = await place.submit([large])
        assert (await place.closed(before)).status == "completed"
        output = (await image_at(place, before, 0))["output"]
        assert output["bytes"] > ROOM
        assert await served_status(ingest, output["name"]) == 200
        (disk.root / output["name"][:2] / output["name"]).unlink()

        await disk.fill(watcher.process.pid)
        request_id = await place.submit([small, large])
        assert (await place.closed(request_id)).status == "completed_with_errors"
        await place.assert_counted_once(request_id)
        fits, failed = [await image_at(place, request_id, position) for position in range(2)]
        assert (failed["state"], failed["error"]["code"]) == ("failed", "storage_error")
        tries = [line["event"] for line in watcher.events if line.get("code") == "storage_error"]
        assert tries == ["image.retry", "image.failed"]
        assert await served_status(ingest, fits["output"]["name"]) == 200
        assert await served_status(ingest, output["name"]) == 404
        assert outputs(disk.root) == [fits["output"]["name"]]

        disk.empty(watcher.process.pid)
        again = await place.submit([large])
        assert (await place.closed(again)).status == "completed"
        assert await served_status(ingest, output["name"]) == 200
        assert [await service.stop() for service in (watcher, ingest)] == [0, 0]
