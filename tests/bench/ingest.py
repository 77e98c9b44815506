"""How ingest takes a million rows, and how it refuses two gigabytes: `python -m tests.bench.ingest [--only PART]`.

rate: by turns with a bare loop of `csv` and `insert_many` on the same file and the same MongoDB, rows per second from
the first byte to the majority commit; CPU for a row, and the memory of the ingest process above its idle state. first:
the same upload with a watcher at work beside it, on a thousand photographs over and over, and when it completes the
first image. refusal: 413 for two gigabytes that do not say so, and nothing stored of them. All without arguments.
Exits 1 when a target is missed.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from libs.mongo import EmbeddedMongo, Mongo
from tests.bench.children import Child, child
from tests.bench.cpu import Meter
from tests.bench.file_server import serving_files
from tests.bench.photographs import Crops
from tests.ingests import HEADER
from tests.processes import Service, environment, memory_of, started
from tests.waiting import until

PARTS = ("rate", "first", "refusal")
LEAST_RATIO = 0.6
MB = 10**6
MOST_ABOVE_IDLE = 150 * MB
MOST_UPLOAD = 512 * 2**20
TWO_GIGABYTES = 2 * 10**9
PHOTOGRAPHS = 1_000
FORM = {"Content-Type": "multipart/form-data; boundary=b0undary"}
HEAD = b'--b0undary\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
TAIL = b"\r\n--b0undary--\r\n"
_CHUNK = 256 * 1024


def write_catalogue(path: Path, rows: int, link: str) -> None:
    """A file of so many rows; `link` is what a row's number is put into."""
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        file.writelines(
            f"{n},Product {n},{link.format(n=n, host=n % 50, photograph=n % PHOTOGRAPHS)}\n" for n in range(rows)
        )


async def form_of(path: Path) -> AsyncIterator[bytes]:
    """A form with the file."""
    yield HEAD
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
    yield TAIL


async def endless() -> AsyncIterator[bytes]:
    """A form of two gigabytes that does not say so; its URLs are long, so that bytes run out before images do."""
    yield HEAD + HEADER.encode()
    row = b"1,Product,https://img.example.com/" + b"a" * 7_000 + b"\n"
    for _ in range(TWO_GIGABYTES // len(row)):
        yield row


async def post(form: AsyncIterable[bytes], url: str) -> tuple[int, float]:
    """Status and seconds of one upload."""
    begun = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        client.post(f"{url}/api/upload", data=form, headers=FORM) as answer,
    ):
        await answer.read()
        return answer.status, time.perf_counter() - begun


@dataclass(slots=True)
class Bench:
    """An ingest of its own database, and its MongoDB."""

    folder: Path
    env: dict[str, str]
    mongod: int
    mongo: Mongo
    ingest: Service
    idle: int

    def above_idle(self) -> int:
        """Bytes of memory that ingest had at the most above its idle state."""
        return memory_of(self.ingest.process.pid, "VmHWM") - self.idle

    def meter(self) -> Meter:
        """Measures the CPU of both."""
        return Meter({"ingest": [self.ingest.process.pid], "mongod": [self.mongod]})

    async def stored(self) -> int:
        """Images in the database."""
        return await self.mongo.collection("images").count_documents({})


@asynccontextmanager
async def fresh(embedded: EmbeddedMongo, folder: Path) -> AsyncIterator[Bench]:
    """Starts an ingest on an empty database, which is dropped behind it."""
    env = environment(
        embedded.uri, folder, DATABASE_NAME="bench", DARKROOM_MAX_UPLOAD_BYTES=str(MOST_UPLOAD), DARKROOM_WORKERS=""
    )
    process = embedded.running[0].process
    assert process is not None
    mongo = Mongo.connect(embedded.uri, "bench", operation_seconds=60)
    try:
        async with started("ingest", env, folder) as ingest:
            yield Bench(folder, env, process.pid, mongo, ingest, memory_of(ingest.process.pid, "VmRSS"))
        await mongo.client.drop_database("bench")
    finally:
        mongo.close()


@dataclass(frozen=True, slots=True)
class Taken:
    """What one upload took."""

    per_second: float
    above_idle: int


async def rate(embedded: EmbeddedMongo, folder: Path, rows: int, rounds: int) -> bool:
    """Both by turns; true when rate and memory keep what is promised."""
    path = folder / "catalogue.csv"
    write_catalogue(path, rows, "https://img{host}.example.com/{n}/a.jpg")
    ours: list[Taken] = []
    bare: list[float] = []
    async with child("tests.bench.bare_load", embedded.uri, str(path)) as loop:
        for _ in range(rounds):
            async with fresh(embedded, folder) as bench:
                bare.append(await _bare(bench, loop, rows))
                ours.append(await _accepted(bench, path, rows))
            print(f"{ours[-1].per_second:,.0f} rows/s, bare loop {bare[-1]:,.0f}", flush=True)
    ratios = [mine.per_second / its for mine, its in zip(ours, bare, strict=True)]
    median, above = statistics.median(ratios), max(mine.above_idle for mine in ours)
    print(
        f"{rows:,} rows: ratio {median:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), at least {LEAST_RATIO}"
        f"{'' if median >= LEAST_RATIO else ': MISSED'}"
    )
    print(
        f"ingest takes {above / MB:.0f} MB above idle, under {MOST_ABOVE_IDLE // MB}"
        f"{'' if above < MOST_ABOVE_IDLE else ': MISSED'}"
    )
    return median >= LEAST_RATIO and above < MOST_ABOVE_IDLE


async def _bare(bench: Bench, loop: Child, rows: int) -> float:
    meter = bench.meter()
    await loop.tell("bare")
    answer: dict[str, Any] = await loop.answer()
    assert answer["rows"] == rows
    _print_cpu("bare loop", {"loop": answer["cpu_seconds"], **meter.seconds()}, rows)
    await bench.mongo.client.drop_database("bare")
    return rows / float(answer["seconds"])


async def _accepted(bench: Bench, path: Path, rows: int) -> Taken:
    meter = bench.meter()
    status, seconds = await post(form_of(path), bench.ingest.url)
    _print_cpu("ingest", meter.seconds(), rows)
    if status != 200 or await bench.stored() != rows:
        raise RuntimeError(f"the upload was answered {status}, or is not stored whole")
    return Taken(rows / seconds, bench.above_idle())


def _print_cpu(name: str, seconds: dict[str, float], rows: int) -> None:
    shares = ", ".join(f"{part} {1e6 * taken / rows:.1f}" for part, taken in seconds.items())
    print(f"  {name}, microseconds of CPU for a row: {shares}", flush=True)


async def first(bench: Bench, rows: int) -> None:
    """Prints when the first image is completed, and the rate beside a watcher."""
    path, root = bench.folder / "photographs.csv", bench.folder / "photographs"
    root.mkdir()
    for number, photograph in enumerate(Crops().take(PHOTOGRAPHS)):
        (root / f"{number}.jpg").write_bytes(photograph)

    async def completed() -> bool:
        return await bench.mongo.collection("progress").find_one({"completed": {"$gt": 0}}) is not None

    async with (
        serving_files(root, bench.folder) as server,
        started("watcher", bench.env, bench.folder),
        asyncio.TaskGroup() as tasks,
    ):
        write_catalogue(path, rows, f"{server.url}/{{photograph}}.jpg?{{n}}")
        begun = time.perf_counter()
        upload = tasks.create_task(post(form_of(path), bench.ingest.url), name="upload")
        await until(completed, "an image is completed", seconds=300)
        print(f"beside a watcher: first image completed after {time.perf_counter() - begun:.2f} s", flush=True)
        status, seconds = await upload
        done = await bench.mongo.collection("images").count_documents({"state": "completed"})
        print(f"  {rows:,} rows: {status}, {rows / seconds:,.0f} rows/s; {done:,} images were completed by then")


async def refusal(bench: Bench) -> bool:
    """Whether it is refused in little memory and leaves nothing."""
    status, seconds = await post(endless(), bench.ingest.url)
    stored, above = await bench.stored(), bench.above_idle()
    print(f"2 GB: {status} after {seconds:.1f} s, {above / MB:.0f} MB above idle, {stored:,} images stored")
    return status == 413 and above < MOST_ABOVE_IDLE and not stored


async def main(asked: argparse.Namespace) -> int:
    """Runs the parts that were asked for."""
    parts, held = asked.only or PARTS, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedMongo(folder / "mongo") as embedded:
            if "rate" in parts:
                held.append(await rate(embedded, folder, asked.rows, asked.rounds))
            if "first" in parts:
                async with fresh(embedded, folder) as bench:
                    await first(bench, asked.rows)
            if "refusal" in parts:
                async with fresh(embedded, folder) as bench:
                    held.append(await refusal(bench))
    return int(not all(held))


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ingest")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part to run instead of all")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the catalogue (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="uploads by turns with the bare loop (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(arguments())))
