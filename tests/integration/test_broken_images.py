"""Images that end their codec process, and downloads that stall before it, in a watcher with real codec processes."""

import asyncio
from pathlib import Path

from libs.documents import Documents
from libs.egress import Download
from libs.imaging import CodecPool
from tests.integration.test_watcher import closed, rows, states, submit
from tests.unit.codec_tasks import misbehave
from tests.waiting import until
from tests.watchers import draining

MEMORY_BYTES = 1 << 30
TRIES = 3


class Orders:
    """Downloads that give the path of a URL as a body, which says what a codec process is to do; `stall` never comes.

    `asked` has every URL as often as it was asked for.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """The path as a body."""
        assert max_bytes
        assert total_seconds
        self.asked.append(url)
        order = url.split("/")[3]
        if order.startswith("stall"):
            await asyncio.Event().wait()
        return Download(order.encode(), url, "image/jpeg")


async def test_an_image_that_kills_its_worker_fails_after_its_tries_and_no_other(
    documents: Documents, tmp_path: Path
) -> None:
    """A crash is tried again as often as it may be, an overrun is not, and all images around them are completed."""

    async def settled() -> bool:
        return not {"pending", "processing"} & {*(await states(documents)).values()}

    orders = ["a", "crash", "b", "xcpu", "c", "fail", "d"]
    downloads = Orders()
    async with CodecPool(2, MEMORY_BYTES, 30.0, task=misbehave) as codec:
        request_id = await submit(documents, [f"http://host/{order}" for order in orders])
        for tried in range(TRIES):
            if tried:
                await until(documents.images.leases.promote, "the image that is tried again is due")
            async with draining(documents, tmp_path, downloads, codec=codec, max_attempts=TRIES, retry_seconds=0.05):
                await until(settled, "every image is done or waits for its next try")
    request = await closed(documents, request_id)
    errors = [row.images[0].error for row in await rows(documents, request)]
    found = {order: error.code for order, error in zip(orders, errors, strict=True) if error is not None}
    assert found == {"crash": "worker_crashed", "xcpu": "too_complex", "fail": "corrupt"}
    assert downloads.asked.count("http://host/crash") == TRIES
    assert downloads.asked.count("http://host/xcpu") == 1


async def test_a_download_that_stalls_holds_no_codec_process(documents: Documents, tmp_path: Path) -> None:
    """One codec process serves what has arrived, while more downloads than it could take are still on their way."""
    stalled = [f"http://host{number}/stall{number}" for number in range(3)]
    arriving = [f"http://host/{letter}" for letter in "abc"]
    downloads = Orders()
    async with CodecPool(1, MEMORY_BYTES, 30.0, task=misbehave) as codec:
        await submit(documents, [*stalled, *arriving])
        async with draining(documents, tmp_path, downloads, codec=codec, shutdown_seconds=0.1):

            async def probe() -> bool:
                found = await states(documents)
                return {found[url] for url in arriving} == {"completed"}

            await until(probe, "what has arrived is completed")
            found = await states(documents)
            assert [found[url] for url in stalled] == ["processing"] * len(stalled)
