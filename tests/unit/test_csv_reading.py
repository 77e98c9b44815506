import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from threading import Event

import pytest

from libs.egress import CanonicalUrl, EgressPolicy
from services.ingest.catalogue import InvalidCatalogueError
from services.ingest.reading import Reading
from tests.unit.catalogues import HEADER

GOOD = f"{HEADER}1,SKU,https://a.example/1.jpg\n2,SKU,https://a.example/2.jpg\n".encode()


@dataclass(frozen=True)
class Gate(EgressPolicy):
    """A policy that holds the reading thread at its first URL until the test lets it go on."""

    reached: Event = field(default_factory=Event)
    opened: Event = field(default_factory=Event)

    def check(self, url: str) -> CanonicalUrl:
        """Waits at the gate."""
        self.reached.set()
        self.opened.wait()
        return super().check(url)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """One thread."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_a_file_is_read_in_the_thread(executor: ThreadPoolExecutor) -> None:
    """What comes out has the images, the size and the hash of all chunks."""
    async with Reading(executor, EgressPolicy(), max_images=10) as reading:
        for start in range(0, len(GOOD), 7):
            await reading.feed(GOOD[start : start + 7])
        read = await reading.finish()

        assert (read.spool.images, read.bytes, read.sha256) == (2, len(GOOD), sha256(GOOD).hexdigest())
        [images] = read.spool.batches()
    assert [image.url for image in images] == ["https://a.example/1.jpg", "https://a.example/2.jpg"]
    with pytest.raises(Exception, match="closed"):
        list(read.spool.batches())


async def test_a_problem_comes_out_with_the_chunk_that_has_it(executor: ThreadPoolExecutor) -> None:
    """The next chunk need not arrive for the client to be told."""
    async with Reading(executor, EgressPolicy(), max_images=10) as reading:
        with pytest.raises(InvalidCatalogueError):
            await reading.feed(b"no,header\n")


@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_cancelled_upload_waits_for_its_thread(executor: ThreadPoolExecutor, cancellations: int) -> None:
    """However often it is cancelled, nothing is closed under the thread, which ends at its next checkpoint."""
    gate = Gate()

    async def upload() -> None:
        async with Reading(executor, gate, max_images=10) as reading:
            await reading.feed(GOOD)

    uploading = asyncio.create_task(upload(), name="upload")
    await asyncio.to_thread(gate.reached.wait)
    for _ in range(cancellations):
        uploading.cancel()
        await asyncio.wait([uploading], timeout=0)
        await asyncio.sleep(0)
    assert not uploading.done()

    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    assert await asyncio.wrap_future(executor.submit(lambda: True))  # the one thread is free


async def test_a_reading_left_early_ends(executor: ThreadPoolExecutor) -> None:
    """Leaving without a chunk, and with half a file, ends the thread."""
    async with Reading(executor, EgressPolicy(), max_images=10):
        pass
    async with Reading(executor, EgressPolicy(), max_images=10) as reading:
        await reading.feed(GOOD[:-5])

    assert await asyncio.wrap_future(executor.submit(lambda: True))
