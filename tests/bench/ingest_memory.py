"""How ingest bears a million rows, and how it refuses two gigabytes: `python -m tests.bench.ingest_memory [rows]`.

Prints the memory that the ingest process takes above its idle state, and rows per second. Exits 1 when a promise is
broken: 150 MiB above idle, 413 for the 2 GB, nothing stored of it.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp

from libs.mongo import EmbeddedMongo, Mongo
from tests.ingests import HEADER
from tests.processes import environment, memory_of, started

MIB = 2**20
MOST_ABOVE_IDLE = 150 * MIB
TWO_GIGABYTES = 2 * 10**9
FORM = {"Content-Type": "multipart/form-data; boundary=b0undary"}
HEAD = f'--b0undary\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n{HEADER}'.encode()
TAIL = b"\r\n--b0undary--\r\n"


async def rows(count: int) -> AsyncIterator[bytes]:
    """A form with a catalogue of `count` rows."""
    yield HEAD
    for first in range(0, count, 1_000):
        numbers = range(first, min(first + 1_000, count))
        yield "".join(f"{n},Product {n},https://img{n % 50}.example.com/{n}/a.jpg\n" for n in numbers).encode()
    yield TAIL


async def endless() -> AsyncIterator[bytes]:
    """A form of two gigabytes that does not say so; its URLs are long, so that bytes run out before images do."""
    yield HEAD
    row = b"1,Product,https://img.example.com/" + b"a" * 7_000 + b"\n"
    for _ in range(TWO_GIGABYTES // len(row)):
        yield row
    yield TAIL


async def peak_of(pid: int, post: Callable[[], AsyncIterator[bytes]], url: str) -> tuple[int, int, float]:
    """Status, highest memory so far and seconds of one upload."""
    begun = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        client.post(f"{url}/api/upload", data=post(), headers=FORM) as answer,
    ):
        await answer.read()
        return answer.status, memory_of(pid, "VmHWM"), time.monotonic() - begun


async def main(count: int) -> int:
    """Runs both uploads against a real process and a real MongoDB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedMongo(folder / "mongo") as mongod:
            env = environment(mongod.uri, folder, DATABASE_NAME="bench", DARKROOM_MAX_UPLOAD_BYTES=str(512 * MIB))
            async with started("ingest", env, folder) as ingest:
                pid = ingest.process.pid
                idle = memory_of(pid, "VmRSS")
                status, peak, seconds = await peak_of(pid, lambda: rows(count), ingest.url)
                print(f"{count:,} rows: {status}, {(peak - idle) / MIB:.0f} MiB above idle ({idle / MIB:.0f} MiB)")
                print(f"{count / seconds:,.0f} rows/s from the first byte to the majority commit")
                broken = status != 200 or peak - idle > MOST_ABOVE_IDLE
                status, peak, seconds = await peak_of(pid, endless, ingest.url)
                print(f"2 GB, unannounced: {status} after {seconds:.1f} s, {(peak - idle) / MIB:.0f} MiB above idle")
                broken |= status != 413 or peak - idle > MOST_ABOVE_IDLE
            mongo = Mongo.connect(mongod.uri, "bench")
            stored = await mongo.collection("images").count_documents({})
            mongo.close()
            print(f"{stored:,} images stored")
    return int(broken or stored != count)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)))
