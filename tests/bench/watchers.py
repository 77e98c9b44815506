"""Whether more watchers complete more of one request: `python -m tests.bench.watchers [images] [rounds]`.

1, 2, 4 and 8 real watcher processes with default settings, whose download, codec and store do nothing, work on one
request: what is left is claim, completion and their logs. Completed images per second over some seconds, after the
request is loaded; by turns, upwards and downwards. Exits 1 when the median rate falls with the number of watchers by
more than a tenth, the scatter of such a measurement where the processes share the cores with MongoDB.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from libs.documents import Documents
from libs.mongo import EmbeddedMongo, Mongo
from tests.bench.catalogue import accept
from tests.bench.cpu import Meter
from tests.processes import environment, started

MODULE = "tests.bench.noop_watcher"
WATCHERS = (1, 2, 4, 8)
WARM_UP_SECONDS = 2.0
WINDOW_SECONDS = 6.0
LEAST_RATIO = 0.9


async def rate_of(watchers: int, mongod: EmbeddedMongo, folder: Path, images: int) -> float:
    """Completed images per second of so many watchers."""
    async with AsyncExitStack() as stack:
        mongo = Mongo.connect(mongod.uri, folder.name, operation_seconds=30)
        stack.callback(mongo.close)
        stack.push_async_callback(mongo.client.drop_database, folder.name)
        documents = Documents(mongo)
        await documents.ensure_indexes()
        env = environment(mongod.uri, folder, DATABASE_NAME=folder.name)
        running = [
            await stack.enter_async_context(started("watcher", env, folder, number=number, module=MODULE))
            for number in range(watchers)
        ]
        request_id = str(await accept(documents, images))
        await asyncio.sleep(WARM_UP_SECONDS)
        before, since = (await documents.progress.total(request_id)).finished, time.monotonic()
        server = mongod.running[0].process
        assert server is not None
        meter = Meter({"mongod": [server.pid], "watchers": [watcher.process.pid for watcher in running]})
        await asyncio.sleep(WINDOW_SECONDS)
        after, until = (await documents.progress.total(request_id)).finished, time.monotonic()
        cores = meter.read()
        if after == images:
            raise RuntimeError("the request was done before the time; give more images")
        rate = (after - before) / (until - since)
        shares = ", ".join(f"{name} {taken:.2f}" for name, taken in cores.items())
        print(f"{watchers} watchers: {rate:,.0f} images/s; cores: {shares}", flush=True)
        return rate


async def main(images: int = 40_000, rounds: int = 2) -> int:
    """Measures each number of watchers, upwards and downwards by turns."""
    rates: dict[int, list[float]] = {watchers: [] for watchers in WATCHERS}
    with tempfile.TemporaryDirectory() as name:
        async with EmbeddedMongo(Path(name) / "mongo") as mongod:
            for number in range(rounds):
                for watchers in WATCHERS if number % 2 == 0 else reversed(WATCHERS):
                    folder = Path(name) / f"bench_{number}_{watchers}"
                    folder.mkdir()
                    rates[watchers].append(await rate_of(watchers, mongod, folder, images))
    medians = {watchers: statistics.median(given) for watchers, given in rates.items()}
    for watchers, median in medians.items():
        print(f"{watchers} watchers: median {median:,.0f} images/s, {median / medians[1]:.2f} of one watcher's")
    best, broken = 0.0, False
    for median in medians.values():
        broken = broken or median < LEAST_RATIO * best
        best = max(best, median)
    return int(broken)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*(int(given) for given in sys.argv[1:]))))
