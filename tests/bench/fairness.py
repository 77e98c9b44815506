"""Whether a small upload waits behind a big one: `python -m tests.bench.fairness [images] [probes] [rounds]`.

Uploads of one image each, one after the other, to a real ingest and two real watchers: by turns on an idle system and
while a request of 20,000 small photographs is running. Timed from the first byte of the upload until the change stream
of the database says that the request is closed. Exits 1 when the p95 beside the big request is more than twice the p95
of the idle system and one image's time (the median from download to store beside the big request, as the watchers log
it).
"""

import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from libs.changestream import ChangeStream
from libs.documents import Documents
from libs.mongo import EmbeddedMongo, Mongo
from tests.bench.cpu import Meter
from tests.bench.uploads import upload
from tests.processes import Service, environment, started
from tests.sources import Sources, photograph, served
from tests.waiting import until

PHOTOS = 64
RUNNING_IMAGES = 500
MOST_TIMES_IDLE = 2.0
CLOSED: list[Mapping[str, Any]] = [
    {"$match": {"updateDescription.updatedFields.closed": True}},
    {"$project": {"operationType": 1, "documentKey": 1}},
]


@dataclass(slots=True)
class Bench:
    """The running system and a client of it."""

    documents: Documents
    sources: Sources
    client: aiohttp.ClientSession
    ingest: Service
    watchers: list[Service]
    meter: Meter
    uploads: list[float] = field(default_factory=list)
    _closed: set[str] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def upload(self, urls: Iterable[str]) -> str:
        """Uploads a catalogue of these images."""
        return await upload(self.client, self.ingest.url, urls)

    async def closed(self, request_id: str) -> None:
        """Returns when the database has said that the request is closed."""
        async with self._changed:
            await self._changed.wait_for(lambda: request_id in self._closed)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hears of closed requests while the context lasts; to ask for them would take the machine's time."""
        requests = self.documents.requests.collection
        async with ChangeStream(self.documents.mongo, requests, CLOSED) as stream, asyncio.TaskGroup() as tasks:
            hearing = tasks.create_task(self._hear(stream), name="hearing")
            yield
            hearing.cancel()

    async def _hear(self, stream: ChangeStream) -> None:
        while True:
            events = (await stream.read()).events
            async with self._changed:
                self._closed.update(event["documentKey"]["_id"] for event in events)
                self._changed.notify_all()

    async def probe(self) -> float:
        """Seconds from the upload of one image until it is completed."""
        begun = time.perf_counter()
        request_id = await self.upload([self.sources.link("small")])
        self.uploads.append(time.perf_counter() - begun)
        await self.closed(request_id)
        return time.perf_counter() - begun

    async def probes(self, count: int) -> list[float]:
        """One probe after the other, with pauses in which an idle watcher listens again."""
        seconds = []
        for _ in range(count):
            await asyncio.sleep(random.uniform(0.05, 0.15))  # noqa: S311 (so that no rhythm is measured)
            seconds.append(await self.probe())
        return seconds

    @asynccontextmanager
    async def big_request(self, images: int) -> AsyncIterator[None]:
        """A request that is being worked on while the context lasts."""
        request_id = await self.upload(self.sources.link(f"{number}") for number in range(images))

        async def is_running() -> bool:
            return (await self.documents.progress.total(request_id)).finished >= RUNNING_IMAGES

        await until(is_running, "the big request is running")
        yield
        request = await self.documents.requests.get(request_id)
        if request is None or request.closed:
            raise RuntimeError("the big request was done before the probes; give more images")
        await self.documents.requests.cancel(request_id)
        await self.closed(request_id)

    def image_seconds(self) -> list[float]:
        """What the watchers have logged so far: seconds from download to store, of each image."""
        logged = (
            json.loads(line) for watcher in self.watchers for line in watcher.log.open() if "milliseconds" in line
        )
        return [entry["milliseconds"] / 1000 for entry in logged]


@asynccontextmanager
async def running(folder: Path, images: int) -> AsyncIterator[Bench]:
    """Starts everything."""
    photos = [photograph(1000, 750, shade=shade) for shade in range(PHOTOS)]
    async with (
        served({**{f"{number}": photos[number % PHOTOS] for number in range(images)}, "small": photos[0]}) as sources,
        EmbeddedMongo(folder / "mongo") as mongod,
        aiohttp.ClientSession() as client,
    ):
        sources.numbered = True  # or all but the first 64 were compressed before
        # As `darkroom up --watchers 2` divides the cores.
        workers = max(1, (os.cpu_count() or 1) // 2)
        env = environment(mongod.uri, folder, DATABASE_NAME="bench", DARKROOM_WORKERS=str(workers))
        server = mongod.running[0].process
        assert server is not None
        async with (
            started("ingest", env, folder) as ingest,
            started("watcher", env, folder, number=0) as first,
            started("watcher", env, folder, number=1) as second,
        ):
            mongo = Mongo.connect(mongod.uri, "bench")
            groups = {"mongod": [server.pid], "ingest": [ingest.process.pid]}
            meter = Meter({**groups, "watchers": [first.process.pid, second.process.pid]})
            bench = Bench(Documents(mongo), sources, client, ingest, [first, second], meter)
            async with bench.listening():
                yield bench
            mongo.close()


def p95(seconds: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(seconds, n=20, method="inclusive")[-1]


def shown(name: str, seconds: list[float]) -> str:
    """Median and p95 in milliseconds."""
    return f"{name} p50 {statistics.median(seconds) * 1000:.0f} ms, p95 {p95(seconds) * 1000:.0f} ms"


async def main(images: int = 20_000, probes: int = 60, rounds: int = 2) -> int:
    """Probes the idle and the busy system by turns."""
    idle: list[float] = []
    busy: list[float] = []
    image_seconds: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        async with running(Path(name), images) as bench:
            await bench.probes(5)
            for _ in range(rounds):
                bench.uploads.clear()
                idle += await bench.probes(probes)
                print(shown("idle:", idle[-probes:]), shown("of it the upload", bench.uploads), sep="; ", flush=True)
                before = len(bench.image_seconds())
                async with bench.big_request(images):
                    bench.meter.read()
                    bench.uploads.clear()
                    busy += await bench.probes(probes)
                    cores = ", ".join(f"{part} {taken:.2f}" for part, taken in bench.meter.read().items())
                image_seconds += bench.image_seconds()[before:]
                print(
                    shown("busy:", busy[-probes:]),
                    shown("of it the upload", bench.uploads),
                    cores,
                    sep="; ",
                    flush=True,
                )
    one_image = statistics.median(image_seconds)
    most = MOST_TIMES_IDLE * p95(idle) + one_image
    print(shown("idle:", idle))
    print(shown("busy:", busy))
    print(shown("one image beside the big request:", image_seconds))
    print(f"p95 {p95(busy) / p95(idle):.2f} times the idle one; {p95(busy) / most:.2f} of what it may be")
    return int(p95(busy) > most)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*(int(given) for given in sys.argv[1:]))))
