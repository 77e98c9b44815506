"""Whether more replicas do more: `python -m tests.bench.scaling [watchers|notifiers]`.

1, 2, 4 and 8 real watchers fetch tiny images from a host that takes 200 ms for each, with default settings: 8 images in
flight and so at best 40 images/s per watcher. Then the same watchers fetch other images from the same host without its
pause: that is the ceiling of the machine, which they share with MongoDB and the host. Counted at the host. The same for
notifiers with 8 in flight, on deliveries that are announced already (announcing tens of thousands beside it would take
what the cores have left), and a receiver with 32 endpoints, since a notifier gives none more than some of its slots.

Prints the rate, the efficiency against the best possible and against one replica, and the cores that each part takes
and that the rest of the machine has taken beside it. Exits 1 when two, four or eight replicas make less than 0.9 of
what they would make linearly, or of the ceiling where that is lower, each the median of three windows. What so many
processes take from each other is in the ceiling too.
"""

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from libs.documents import Documents, NewImage, NewRequest
from libs.mongo import EmbeddedMongo, Mongo
from tests.bench.cpu import Meter
from tests.bench.deliveries.news import store
from tests.bench.slow_host import SlowHost, slow_host
from tests.processes import environment, started

PAUSE_MILLISECONDS = 200
REPLICAS = (1, 2, 4, 8)
WARM_UP_SECONDS = 6.0
WINDOW_SECONDS = 8.0
WINDOWS = 3
WITHOUT_A_PAUSE = 60_000  # for that long, at a thousand a second and more
ENDPOINTS = 32
LEAST_EFFICIENCY = 0.9
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is scaled: a service, its slots, what it is told beside its defaults, and how work for it is made."""

    service: str
    in_flight: int
    settings: Mapping[str, str]
    unit: str
    ports: int
    load: Callable[[Documents, SlowHost, int, range], Awaitable[Callable[[], Awaitable[None]]]]


async def load_images(
    documents: Documents, host: SlowHost, milliseconds: int, numbers: range
) -> Callable[[], Awaitable[None]]:
    """One request of the host's images of these numbers; what it gives cancels it."""
    request_id, count = uuid4(), len(numbers)
    images = [
        NewImage(at, at, at + 1, f"SKU{n}", f"{host.urls[0]}/{milliseconds}/{n}", "127.0.0.1")
        for at, n in enumerate(numbers)
    ]
    new = NewRequest(None, "bench.csv", 1, "0" * 64, count, TRACE)
    await documents.requests.accept(new, (images[at : at + 1000] for at in range(0, count, 1000)), request_id)

    async def cancel() -> None:
        await documents.requests.cancel(str(request_id))

    return cancel


async def load_deliveries(
    documents: Documents, host: SlowHost, milliseconds: int, numbers: range
) -> Callable[[], Awaitable[None]]:
    """Pending deliveries, one to each endpoint by turns."""
    await store(documents, (f"{host.urls[n % ENDPOINTS]}/{milliseconds}/hook" for n in numbers))

    async def forget() -> None:
        await documents.mongo.collection("deliveries").update_many({"state": "pending"}, {"$set": {"state": "failed"}})

    return forget


WATCHERS = Kind("watcher", 8, {}, "images", 1, load_images)
NOTIFIERS = Kind("notifier", 8, {"DARKROOM_WEBHOOK_IN_FLIGHT": "8"}, "webhooks", ENDPOINTS, load_deliveries)


class Bench:
    """One MongoDB, one host, and replicas that become more."""

    def __init__(self, kind: Kind, env: dict[str, str], folder: Path, host: SlowHost, mongod: int) -> None:
        self._kind = kind
        self._env = env
        self._folder = folder
        self._host = host
        self._mongod = mongod
        self._stack = AsyncExitStack()
        self._pids: list[int] = []

    async def grow(self, count: int) -> None:
        """Starts replicas until there are `count`."""
        for number in range(len(self._pids), count):
            service = await self._stack.enter_async_context(
                started(self._kind.service, self._env, self._folder, number=number)
            )
            self._pids.append(service.process.pid)

    async def measure(self) -> list[tuple[float, int, dict[str, float]]]:
        """Answers per second, most at once and cores, of each window."""
        await asyncio.sleep(WARM_UP_SECONDS)
        return [await self._window() for _ in range(WINDOWS)]

    async def _window(self) -> tuple[float, int, dict[str, float]]:
        meter = Meter({"replicas": self._pids, "mongod": [self._mongod], "host": [self._host.pid]})
        await self._host.counted()
        await asyncio.sleep(WINDOW_SECONDS)
        counted = await self._host.counted()
        if not counted.answers:
            raise RuntimeError("there was no work left; give more")
        return counted.per_second, counted.most_at_once, meter.read()

    async def close(self) -> None:
        """Ends the replicas."""
        await self._stack.aclose()


async def scale(kind: Kind) -> bool:
    """Measures one kind of replica; true when it scales."""
    best = kind.in_flight * 1000 / PAUSE_MILLISECONDS
    work = max(20_000, round(best * sum(REPLICAS) * (WARM_UP_SECONDS + WINDOWS * WINDOW_SECONDS)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedMongo(folder / "mongo") as embedded, slow_host(kind.ports) as host:
            env = environment(embedded.uri, folder, DARKROOM_LOG_LEVEL="warning", **kind.settings)
            mongo = Mongo.connect(embedded.uri, env["DATABASE_NAME"], operation_seconds=60)
            documents = Documents(mongo)
            await documents.ensure_indexes()
            process = embedded.running[0].process
            assert process is not None
            bench = Bench(kind, env, folder, host, process.pid)
            print(f"{kind.service}s, {PAUSE_MILLISECONDS} ms, {kind.in_flight} in flight: at best {best:g}/s each")
            try:
                end = await kind.load(documents, host, PAUSE_MILLISECONDS, range(work))
                rates = {}
                for count in REPLICAS:
                    await bench.grow(count)
                    windows = await bench.measure()
                    rates[count] = statistics.median(rate for rate, _, _ in windows)
                    for rate, most, taken in windows:
                        print(f"{count}: {rate:6.1f} {kind.unit}/s, {most} at once; {_cores(taken)}", flush=True)
                    print(
                        f"{count}: median {rates[count]:.1f}; {rates[count] / best / count:.2f} of the best, "
                        f"{rates[count] / rates[1] / count:.2f} of linear",
                        flush=True,
                    )
                await end()
                # Not again the same images: what was compressed before is not compressed again.
                await kind.load(documents, host, 0, range(work, work + WITHOUT_A_PAUSE))
                ceilings = []
                for rate, _, taken in await bench.measure():
                    ceilings.append(rate)
                    print(f"ceiling, {REPLICAS[-1]} without the pause: {rate:6.1f} {kind.unit}/s; {_cores(taken)}")
            finally:
                await bench.close()
                mongo.close()
    ceiling = statistics.median(ceilings)
    of_possible = {count: rates[count] / min(count * rates[1], ceiling) for count in REPLICAS[1:]}
    shares = ", ".join(f"{count}: {share:.2f}" for count, share in of_possible.items())
    print(f"of linear, or of the ceiling where that is lower: {shares}; at least {LEAST_EFFICIENCY}")
    return all(share >= LEAST_EFFICIENCY for share in of_possible.values())


def _cores(taken: dict[str, float]) -> str:
    return "cores: " + ", ".join(f"{name} {value:.2f}" for name, value in taken.items())


async def main(names: list[str]) -> int:
    """Measures what is named, or both."""
    scales = [await scale(kind) for kind in (WATCHERS, NOTIFIERS) if not names or f"{kind.service}s" in names]
    return 0 if all(scales) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
