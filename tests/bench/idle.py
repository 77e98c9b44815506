"""What idle watchers cost MongoDB, and how soon one wakes: `python -m tests.bench.idle [cost|wake]`.

cost: mongod's CPU at 300 unrelated writes a second with 4 and with 64 idle replicas, by turns. wake: from the commit of
an upload of one image to its claim, with five idle replicas and with one, four being busy, by turns. Replicas are the
service's own composition, each with a client of its own, several in one process. Exits 1 when 64 cost more than
1.3 times what 4 do, or when the one idle replica takes more than twice as long.
"""

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from libs.documents import Documents, NewImage, NewRequest
from libs.mongo import EmbeddedMongo, Mongo
from tests.bench.children import child
from tests.bench.cpu import Meter
from tests.bench.replicas import SLOTS
from tests.waiting import until

FEW, MANY = 4, 64
PER_PROCESS = 8
WRITES_PER_SECOND = 300
SETTLE_SECONDS = 6.0
WINDOW_SECONDS = 15.0
COST_ROUNDS = 2
MOST_COST_RATIO = 1.3

REPLICAS = 5
LEASE_SECONDS = 15.0
WAKE_ROUNDS = 3
UPLOADS = 30
MOST_WAKE_RATIO = 2.0
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Writer:
    """Writes to a collection that nobody watches, at a steady pace."""

    def __init__(self, mongo: Mongo) -> None:
        self._collection = mongo.collection("unrelated")
        self.written = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        began, started = time.monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                while started < (time.monotonic() - began) * WRITES_PER_SECOND:
                    started += 1
                    tasks.create_task(self._write(started))
                await asyncio.sleep(0.01)

    async def _write(self, number: int) -> None:
        await self._collection.insert_one({"n": number, "state": "pending", "text": "x" * 200})
        self.written += 1


async def cost_of(count: int, uri: str, database: str, mongod: int, writer: Writer) -> float:
    """Cores that mongod takes beside `count` idle replicas."""
    async with AsyncExitStack() as stack:
        for first in range(0, count, PER_PROCESS):
            size = min(PER_PROCESS, count - first)
            process = await stack.enter_async_context(child("tests.bench.replicas", str(size), uri, database))
            await process.answer()
        await asyncio.sleep(SETTLE_SECONDS)
        meter, before = Meter({"mongod": [mongod]}), writer.written
        await asyncio.sleep(WINDOW_SECONDS)
        cores = meter.read()["mongod"]
        writes = (writer.written - before) / WINDOW_SECONDS
    print(f"{count:2} idle replicas: mongod {100 * cores:5.1f} % of a core, {writes:.0f} writes/s", flush=True)
    return cores


async def cost(embedded: EmbeddedMongo) -> bool:
    """Prints what idle replicas cost; true when it holds."""
    process = embedded.running[0].process
    assert process is not None
    mongo = Mongo.connect(embedded.uri, "cost")
    writer = Writer(mongo)
    writing = asyncio.create_task(writer.run(), name="writer")
    taken: dict[int, list[float]] = {FEW: [], MANY: []}
    try:
        for _ in range(COST_ROUNDS):
            for count, cores in taken.items():
                cores.append(await cost_of(count, embedded.uri, "cost", process.pid, writer))
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        mongo.close()
    ratio = statistics.median(taken[MANY]) / statistics.median(taken[FEW])
    print(
        f"mongod's CPU with {MANY} idle replicas: {ratio:.2f} times that with {FEW} (at most {MOST_COST_RATIO})",
        flush=True,
    )
    return ratio <= MOST_COST_RATIO


class Commits(CommandListener):
    """Notes when the last transaction was committed; called in the driver's threads."""

    def __init__(self) -> None:
        self.last = datetime.min.replace(tzinfo=UTC)

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing to note."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A commit is durable."""
        if event.command_name == "commitTransaction":
            self.last = datetime.now(UTC)

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to note."""


class Uploads:
    """Uploads straight into the documents, as ingest does."""

    def __init__(self, uri: str, database: str) -> None:
        self._commits = Commits()
        self._mongo = Mongo.connect(uri, database, listeners=[self._commits])
        self.documents = Documents(self._mongo, lease_seconds=LEASE_SECONDS)
        self._images = self._mongo.collection("images")

    async def upload(self, path: str, count: int) -> str:
        """A request of `count` images whose URLs begin with `path`."""
        request_id = uuid4()
        new = NewRequest(None, "bench.csv", 1, "0" * 64, count, TRACE)
        images = [NewImage(n, n, n + 1, "SKU", f"http://bench/{path}/{request_id}/{n}", "bench") for n in range(count)]
        await self.documents.requests.accept(new, [images], request_id)
        return str(request_id)

    async def claimed(self, count: int) -> None:
        """Returns once so many images are claimed."""

        async def probe() -> bool:
            return await self._images.count_documents({"state": "processing"}) >= count

        await until(probe, "the replicas are busy")

    async def wake_seconds(self) -> float:
        """From the commit of an upload to its claim, whose time is in the lease, in milliseconds of the same clock."""
        request_id = await self.upload("quick", 1)
        committed = self._commits.last
        while True:
            await asyncio.sleep(0.05)
            image = await self._images.find_one({"_id": {"r": request_id, "n": 0}})
            assert image is not None
            assert image["state"] in {"pending", "processing"}, "it must not end before it was seen"
            if image["state"] == "processing":
                return float((image["lease"]["until"] - committed).total_seconds()) - LEASE_SECONDS

    def close(self) -> None:
        """Closes the connection."""
        self._mongo.close()


async def wakes(uri: str, *, busy: int) -> list[float]:
    """Wake-ups of one upload after another, with five replicas of which `busy` have no free slot."""
    database = f"wake_{uuid4().hex[:8]}"
    uploads = Uploads(uri, database)
    await uploads.documents.ensure_indexes()
    try:
        async with AsyncExitStack() as stack:
            if busy:
                process = await stack.enter_async_context(child("tests.bench.replicas", str(busy), uri, database))
                await process.answer()
                await uploads.upload("slow", SLOTS * busy)
                await uploads.claimed(SLOTS * busy)
            process = await stack.enter_async_context(
                child("tests.bench.replicas", str(REPLICAS - busy), uri, database)
            )
            await process.answer()
            await asyncio.sleep(SETTLE_SECONDS)
            seconds = []
            for _ in range(UPLOADS):
                await asyncio.sleep(random.uniform(0.2, 0.6))  # noqa: S311 (no rhythm of the replicas' own)
                seconds.append(await uploads.wake_seconds())
    finally:
        uploads.close()
    ordered = sorted(1000 * value for value in seconds)
    p50, p95 = ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100]
    print(
        f"{REPLICAS - busy} of {REPLICAS} idle: {len(ordered)} wake-ups, "
        f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, longest {ordered[-1]:.0f} ms",
        flush=True,
    )
    return seconds


async def wake(embedded: EmbeddedMongo) -> bool:
    """Prints how soon idle replicas wake; true when it holds."""
    taken: dict[int, list[float]] = {0: [], REPLICAS - 1: []}
    for _ in range(WAKE_ROUNDS):
        for busy, seconds in taken.items():
            seconds.extend(await wakes(embedded.uri, busy=busy))
    all_idle, one_idle = (statistics.median(seconds) for seconds in taken.values())
    ratio = one_idle / all_idle
    print(
        f"wake-up p50: {1000 * all_idle:.1f} ms with all idle, {1000 * one_idle:.1f} ms with one, "
        f"{ratio:.2f} times that (at most {MOST_WAKE_RATIO:g})"
    )
    return ratio <= MOST_WAKE_RATIO


async def main(names: list[str]) -> int:
    """Measures what is named, or both."""
    os.environ["MOTOR_MAX_WORKERS"] = "64"  # for the replicas that share a process
    holds = True
    with tempfile.TemporaryDirectory() as name:
        async with EmbeddedMongo(Path(name)) as embedded:
            if not names or "cost" in names:
                holds &= await cost(embedded)
            if not names or "wake" in names:
                holds &= await wake(embedded)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
