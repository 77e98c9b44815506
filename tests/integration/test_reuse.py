"""The same URL, and the same bytes under other URLs: downloaded or compressed once."""

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from libs.documents import Documents, Output
from libs.egress import Download
from libs.imaging import Compressed, ImageError, Options
from libs.mongo import Mongo
from libs.storage import open_storage
from tests.ingests import HEADER, ingesting
from tests.integration.test_watcher import closed, env_of, rows, states, submit
from tests.processes import Service, started
from tests.sources import photograph, served
from tests.waiting import until
from tests.watchers import Copying, Downloads, draining

REUSED = re.compile(r"^darkroom_images_reused_total ([0-9.]+)$", re.MULTILINE)
FORMATS = 'format="jpeg",kept="false",larger_than_source="false",source_format="jpeg"'
MEASURED = {
    f'darkroom_image_outputs_total{{animated="false",{FORMATS}}} 4.0',
    'darkroom_image_source_megapixels_bucket{le="0.01"} 0.0',
    'darkroom_image_source_megapixels_bucket{le="0.1"} 4.0',
    'darkroom_image_quality_bucket{format="jpeg",le="10.0"} 0.0',
    'darkroom_image_quality_bucket{format="jpeg",le="20.0"} 1.0',
    'darkroom_image_quality_bucket{format="jpeg",le="40.0"} 1.0',
    'darkroom_image_quality_bucket{format="jpeg",le="50.0"} 4.0',
}


class SameBytes:
    """Downloads that give what stands behind the host of a URL."""

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """The first part of its path as a body."""
        assert max_bytes
        assert total_seconds
        return Download(url.split("/")[3].encode(), url, "image/jpeg")


class Counting(Copying):
    """A codec that notes what it was given; the first call waits for `gate` and raises `error` if there is one."""

    def __init__(self, error: ImageError | None = None) -> None:
        self.calls: asyncio.Queue[bytes] = asyncio.Queue()
        self.gate = asyncio.Event()
        self._error = error

    async def compress(self, data: bytes, options: Options, *, flow: str) -> Compressed:
        """The data itself."""
        self.calls.put_nowait(data)
        await self.gate.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return await super().compress(data, options, flow=flow)


async def outputs_of(documents: Documents, request_id: str) -> list[Output | None]:
    """The outputs of a request, once it is closed."""
    request = await closed(documents, request_id)
    return [image.output for row in await rows(documents, request) for image in row.images]


async def measured(watcher: Service) -> str:
    """The watcher's metrics."""
    async with aiohttp.ClientSession() as client, client.get(f"{watcher.url}/metrics") as answer:
        return await answer.text()


async def shows_facts(watcher: Service) -> bool:
    """Whether the metrics of the watcher's outputs are as expected."""
    return {*(await measured(watcher)).splitlines()} >= MEASURED


async def reused(watcher: Service) -> int:
    """How many images the watcher says it has not compressed."""
    found = REUSED.search(await measured(watcher))
    assert found is not None
    return int(float(found[1]))


def facts(output: Output | None) -> dict[str, Any]:
    """What is known of an output and does not depend on who asked for it."""
    assert output is not None
    return {name: value for name, value in output.facts().items() if name not in {"milliseconds", "reused"}}


async def test_identical_bytes_are_compressed_once(
    mongo: Mongo, mongo_uri: str, documents: Documents, tmp_path: Path
) -> None:
    """Under two URLs, in two requests, by another watcher; but anew for other options and where the output is gone."""
    env, source = env_of(mongo, mongo_uri, tmp_path), photograph()
    storage = open_storage(env["DARKROOM_STORAGE"])
    async with served(dict.fromkeys(("a", "b", "c", "d", "e"), source)) as sources:
        async with started("watcher", env, tmp_path) as watcher:
            first = await outputs_of(documents, await submit(documents, [sources.link("a"), sources.link("b")]))
            assert sorted(output.reused for output in first if output) == [False, True]
            assert facts(first[0]) == facts(first[1])
            [again] = await outputs_of(documents, await submit(documents, [sources.link("c")]))
            assert again is not None
            assert (again.reused, set(again.milliseconds), facts(again)) == (
                True,
                {"queue", "download"},
                facts(first[0]),
            )
            assert await reused(watcher) == 2
            [other] = await outputs_of(documents, await submit(documents, [sources.link("d")], quality=20))
            assert other is not None
            assert (other.reused, other.name == again.name) == (False, False)
            await until(partial(shows_facts, watcher), "the watcher has measured what it has written")
        async with started("watcher", env, tmp_path, number=1) as watcher:
            [later] = await outputs_of(documents, await submit(documents, [sources.link("e")]))
            assert later is not None
            assert (later.reused, facts(later)) == (True, facts(again))
            path = storage.path(again.name)
            assert path is not None
            path.unlink()
            [anew] = await outputs_of(documents, await submit(documents, [sources.link("a")]))
            assert anew is not None
            assert (anew.reused, facts(anew), path.is_file()) == (False, facts(again), True)
            assert await reused(watcher) == 1


async def test_identical_bytes_at_the_same_time_wait_for_one_another(documents: Documents, tmp_path: Path) -> None:
    """One is compressed, and all of them have its output."""
    codec = Counting()
    request_id = await submit(documents, [f"http://h/same/{n}" for n in range(5)] + ["http://h/other"])
    async with draining(documents, tmp_path, SameBytes(), codec=codec):
        assert {await codec.calls.get() for _ in range(2)} == {b"same", b"other"}
        codec.gate.set()
        outputs = await outputs_of(documents, request_id)
    assert codec.calls.empty()
    assert sum(output.reused for output in outputs if output) == 4
    assert len({output.name for output in outputs[:5] if output}) == 1


async def test_a_url_that_stands_ten_thousand_times_in_a_file_is_downloaded_once(
    documents: Documents, tmp_path: Path
) -> None:
    """Within a row and in other rows; each of them is completed and shows the output."""
    url, downloads = "https://one.example/a.jpg", Downloads()
    downloads.gate.set()
    cell = ", ".join([url] * 100)
    async with ingesting(documents, tmp_path) as ingest:
        request_id = await ingest.accepted(HEADER + "".join(f'{n},SKU,"{cell}"\n' for n in range(100)))
        async with draining(documents, tmp_path, downloads):
            outputs = await outputs_of(documents, request_id)
        status = await ingest.status(request_id, details="false")
    assert (status["completed"], status["total"]) == (10_000, 10_000)
    assert {output and output.bytes for output in outputs} == {len(url)}
    assert (downloads.started.get_nowait(), downloads.started.empty()) == (url, True)


async def test_a_failure_is_not_remembered(documents: Documents, tmp_path: Path) -> None:
    """One that kills its worker is tried again; the one that waited for it is compressed by itself, at once."""
    codec = Counting(ImageError("worker_crashed", "the worker process ended with -9", retryable=True))
    codec.gate.set()
    request_id = await submit(documents, ["http://h/same/1", "http://h/same/2"])

    async def one_is_put_off() -> bool:
        return sorted((await states(documents)).values()) == ["completed", "delayed"]

    async with draining(documents, tmp_path, SameBytes(), codec=codec, retry_seconds=1e-3):
        await until(one_is_put_off, "one is completed and the other put off")
    async with draining(documents, tmp_path, SameBytes(), codec=codec):
        outputs = await outputs_of(documents, request_id)
    assert [codec.calls.get_nowait() for _ in range(codec.calls.qsize())] == [b"same"] * 2
    assert sorted(output.reused for output in outputs if output) == [False, True]
