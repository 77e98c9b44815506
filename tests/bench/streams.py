"""What reading a change stream costs, against PyMongo's own: `python -m tests.bench.streams [events] [rounds]`.

Events per second of CPU of the reading process: `libs.changestream.ChangeStream` beside a bare `async for` over
`AsyncMongoClient.watch()`, on the same pipeline and the same number of equal events, by turns. Once with all events
there before the reading begins, so that batches are full, and once event by event, each written when the one before was
read. Exits 1 when the median ratio of the full batches is under 0.9.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from pymongo import AsyncMongoClient

from libs.changestream import ChangeStream
from libs.mongo import Collection, EmbeddedMongo, Mongo
from tests.bench.children import Child, child, say, told

MODULE = "tests.bench.streams"
READERS = ("darkroom", "pymongo")
LEAST_RATIO = 0.9
SINGLE_EVENTS = 1000
WARM_UP_EVENTS = 100
DATABASE, COLLECTION = "bench", "requests"
Measure: TypeAlias = Callable[[Child, Collection, int], Awaitable[float]]
PIPELINE: list[dict[str, Any]] = [
    {"$match": {"operationType": "insert"}},
    {"$project": {"operationType": 1, "clusterTime": 1, "rank": "$fullDocument.rank"}},
]


async def read(reader: str, uri: str) -> None:
    """The child: for each number it is told, reads that many events and says what CPU time they took."""
    async with AsyncExitStack() as stack:
        if reader == "darkroom":
            mongo = Mongo.connect(uri, DATABASE)
            stack.callback(mongo.close)
            stream = await stack.enter_async_context(ChangeStream(mongo, mongo.collection(COLLECTION), PIPELINE))
            take = partial(take_batches, stream)
        else:
            client: AsyncMongoClient[dict[str, Any]] = await stack.enter_async_context(AsyncMongoClient(uri))
            watching = await client[DATABASE][COLLECTION].watch(PIPELINE)
            take = partial(take_events, await stack.enter_async_context(watching))
        say(ready=True)
        while count := int(await told() or 0):
            begun = time.process_time()
            await take(count)
            say(cpu_seconds=time.process_time() - begun)


async def take_batches(stream: ChangeStream, count: int) -> None:
    """Reads `count` events as the consumers do."""
    while count > 0:
        for _ in (await stream.read()).events:
            count -= 1


async def take_events(stream: AsyncIterable[Any], count: int) -> None:
    """Reads `count` events as PyMongo's documentation shows."""
    async for _ in stream:
        count -= 1
        if not count:
            return


async def cost_of(reader: Child, events: int) -> float:
    """CPU seconds for events that it has been told of."""
    return float((await reader.answer())["cpu_seconds"]) / events


async def full_batches(reader: Child, requests: Collection, events: int) -> float:
    """CPU seconds per event when all were there before the reading begins."""
    await requests.insert_many([{"rank": float(number)} for number in range(events)])
    await reader.tell(str(events))
    return await cost_of(reader, events)


async def single_events(reader: Child, requests: Collection, events: int) -> float:
    """CPU seconds per event when they come one by one."""
    await reader.tell(str(events))
    for number in range(events):
        await requests.insert_one({"rank": float(number)})
    return await cost_of(reader, events)


async def main(events: int, rounds: int) -> int:
    """Measures both readers by turns, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedMongo(Path(folder)) as mongod:
            mongo = Mongo.connect(mongod.uri, DATABASE, operation_seconds=60)
            requests = mongo.collection(COLLECTION)
            await requests.create_index("rank")
            full = await ratio(mongod.uri, requests, full_batches, events, rounds)
            await ratio(mongod.uri, requests, single_events, SINGLE_EVENTS, rounds)
            mongo.close()
    return int(full < LEAST_RATIO)


async def ratio(uri: str, requests: Collection, measure: Measure, events: int, rounds: int) -> float:
    """The median over the rounds of our events per CPU second, over PyMongo's."""
    name: str = measure.__name__
    ratios: list[float] = []
    for number in range(rounds + 1):
        cost = {}
        for reader in READERS if number % 2 else reversed(READERS):
            async with child(MODULE, "read", reader, uri) as process:
                await process.answer()
                await measure(process, requests, WARM_UP_EVENTS)
                cost[reader] = await measure(process, requests, events)
        if not number:  # the first round warms mongod up
            continue
        ratios.append(cost["pymongo"] / cost["darkroom"])
        rates = ", ".join(f"{reader} {1 / cost[reader]:,.0f}" for reader in READERS)
        print(f"{name}: {rates} events per CPU second, ratio {ratios[-1]:.2f}", flush=True)
    print(f"{name}: median ratio {statistics.median(ratios):.2f}", flush=True)
    return statistics.median(ratios)


if __name__ == "__main__":
    if sys.argv[1:2] == ["read"]:
        asyncio.run(read(*sys.argv[2:]))
    else:
        sys.exit(asyncio.run(main(*(int(given) for given in (*sys.argv[1:], *("50000", "7")[len(sys.argv) - 1 :])))))
