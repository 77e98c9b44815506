"""Whether an image costs more the more there are: `python -m tests.bench.scale [--only PART]`.

Each figure is of a new `darkroom up` with the settings it has by itself, on the same photographs. waiting: CPU and wall
clock for an image with 100, 1,000, 10,000 and 100,000 images in the system, in one request: from when that is accepted
until 600 more images are completed. The 100 are six requests or seven, one after the other, and bear the start and end
of each, so the ratio to 1,000 is told as well. history: the same for 1,000 images with 1,000 and with 100,000 finished
requests in the database, each with an image and a delivered webhook. Sizes go upwards and downwards by turns. Exits 1
when the last of either costs more than 1.1 times the first.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from libs.documents import Documents
from libs.mongo import Mongo
from tests.bench.darkroom import Darkroom, running
from tests.bench.file_server import serving_files
from tests.bench.history import multiply
from tests.bench.photographs import Crops
from tests.bench.uploads import upload
from tests.waiting import until

PARTS = ("waiting", "history")
MOST_RATIO = 1.1
PHOTOGRAPHS = 2_500
"""Enough that none comes again before the measurement is over: it would not be compressed again."""
_WARM_UP = 64
_DATABASE, _REQUESTS = "darkroom", "requests"


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds for an image: by the clock, and of CPU by process."""

    wall: float
    cpu: Mapping[str, float]

    @property
    def whole(self) -> float:
        """CPU of all processes of Darkroom and of its MongoDB."""
        return sum(taken for name, taken in self.cpu.items() if name not in {"client", "others"})

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {taken:.2f}" for name, taken in self.cpu.items())
        return f"{self.wall:.2f} ms by the clock, {self.whole:.2f} ms of CPU ({parts})"


@dataclass(slots=True)
class Scene:
    """A new Darkroom, and links that it has not seen."""

    darkroom: Darkroom
    mongo: Mongo
    documents: Documents
    links: list[str]
    _given: int = field(default=0)

    async def warm_up(self) -> None:
        """Has the codec processes started."""
        await self.darkroom.finish([self._take(_WARM_UP)])

    async def finished(self, requests: int) -> None:
        """Puts so many finished requests into the database."""
        done = await self.darkroom.finish([self._take(1)])
        [request_id] = done.request_ids

        async def delivered() -> bool:
            wanted = {"request_id": request_id, "state": "delivered"}
            return await self.mongo.collection("deliveries").find_one(wanted) is not None

        await until(delivered, "the webhook is delivered")
        await multiply(self.mongo, _REQUESTS, request_id, requests)

    async def cost(self, size: int, window: int) -> Cost:
        """Of `window` images while about `size` are in the system."""
        meter, spent = self.darkroom.meter(), dict[str, float]()
        seconds, images = 0.0, 0
        while images < window:
            request_id = await upload(self.darkroom.client, self.darkroom.url, self._take(size))
            meter.seconds()
            begun, before = time.perf_counter(), await self._completed(request_id)
            last = min(size, before + window)

            async def completed(request_id: str = request_id, last: int = last) -> int | None:
                count = await self._completed(request_id)
                return count if count >= last else None

            images += await until(completed, f"{last} images are completed", seconds=120) - before
            seconds += time.perf_counter() - begun
            spent = {name: spent.get(name, 0.0) + taken for name, taken in meter.seconds().items()}
        if await self.mongo.collection("images").count_documents({"state": "completed", "output.reused": True}):
            raise RuntimeError("photographs came again; give fewer images")
        return Cost(1000 * seconds / images, {name: 1000 * taken / images for name, taken in spent.items()})

    async def _completed(self, request_id: str) -> int:
        request = await self.documents.requests.get(request_id)
        if request is not None and request.counts is not None:
            return request.counts.completed
        return (await self.documents.progress.total(request_id)).completed

    def _take(self, count: int) -> list[str]:
        first, self._given = self._given, self._given + min(count, PHOTOGRAPHS)
        # What stands behind the question mark makes another URL of it, which a request would else have once.
        return [f"{self.links[(first + n) % PHOTOGRAPHS]}?{n}" for n in range(count)]


@dataclass(frozen=True, slots=True)
class Bench:
    """Photographs on a server, and how much of them is measured."""

    folder: Path
    links: list[str]
    window: int

    async def cost(self, size: int, *, finished: int = 0) -> Cost:
        """What an image costs in a new Darkroom."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            async with running(Path(name)) as darkroom:
                mongo = Mongo.connect(darkroom.mongo_uri, _DATABASE, operation_seconds=60)
                try:
                    scene = Scene(darkroom, mongo, Documents(mongo), self.links)
                    await scene.warm_up()
                    if finished:
                        await scene.finished(finished)
                    return await scene.cost(size, self.window)
                finally:
                    mongo.close()

    async def compare(self, what: str, sizes: Sequence[int], rounds: int) -> bool:
        """Measures each of `sizes`, and tells the last from the first; true when it costs hardly more."""
        costs: dict[int, list[Cost]] = {size: [] for size in sizes}
        for number in range(rounds):
            for size in sizes if number % 2 == 0 else reversed(sizes):
                cost = await (self.cost(1_000, finished=size) if what == "finished requests" else self.cost(size))
                costs[size].append(cost)
                print(f"{size:,} {what}: {cost}", flush=True)
        walls = {size: statistics.median(cost.wall for cost in given) for size, given in costs.items()}
        cpus = {size: statistics.median(cost.whole for cost in given) for size, given in costs.items()}
        for size in sizes[1:]:
            print(f"{size:,} {what}: {_ratios(walls, cpus, size, sizes[0])}")
        if len(sizes) > 2:
            print(f"{sizes[-1]:,} {what}: {_ratios(walls, cpus, sizes[-1], sizes[1])}")
        held = max(given[sizes[-1]] / given[sizes[0]] for given in (walls, cpus)) <= MOST_RATIO
        print(f"at most {MOST_RATIO} times{'' if held else ': MISSED'}")
        return held


def _ratios(walls: Mapping[int, float], cpus: Mapping[int, float], size: int, first: int) -> str:
    return (
        f"{walls[size] / walls[first]:.3f} of the wall clock and {cpus[size] / cpus[first]:.3f} of the CPU of {first:,}"
    )


async def main(asked: argparse.Namespace) -> int:
    """Runs the parts that were asked for."""
    parts, held = asked.only or PARTS, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = folder / "photographs"
        root.mkdir()
        for number, photograph in enumerate(Crops().take(PHOTOGRAPHS)):
            (root / f"{number}.jpg").write_bytes(photograph)
        async with serving_files(root, folder) as server:
            bench = Bench(folder, [f"{server.url}/{number}.jpg" for number in range(PHOTOGRAPHS)], asked.window)
            if "waiting" in parts:
                held.append(await bench.compare("images in the system", asked.sizes, asked.rounds))
            if "history" in parts:
                held.append(await bench.compare("finished requests", asked.finished, asked.rounds))
    return int(not all(held))


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part to run instead of all")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each size (%(default)s)")
    parser.add_argument("--window", type=int, default=600, help="images of each measurement (%(default)s)")
    sizes = [100, 1_000, 10_000, 100_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="images in the system (%(default)s)")
    finished = [1_000, 100_000]
    parser.add_argument("--finished", type=int, nargs="+", default=finished, help="finished requests (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(arguments())))
