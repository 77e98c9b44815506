"""What a claim costs, and how claims grow with claimers: `python -m tests.bench.claims [few] [many]`.

Claims of eight images as the watcher makes them, by turns in a collection with few (1,000) and in one with many
(1,000,000) images pending. In both, 100,000 images are delayed and 200,000 are claimed just before. Then one to eight
claimers, each a process, claim from the large one. Exits 1 when the median claim among many costs more than 1.2 times
the one among few, when eight claimers together claim no more than one, or when a claim's find does without the index.
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
from services.watcher.frontier import Frontier
from tests.bench.catalogue import insert_delayed, insert_pending
from tests.bench.children import child, say, told
from tests.query_plans import Recorder, plan_of, statements

MODULE = "tests.bench.claims"
IN_FLIGHT = 8
ROUNDS = 3
CLAIMED_BEFORE = 200_000
DELAYED = 100_000
CLAIMS = 200
PRELUDE_CLAIM = 500
SETTLING_CLAIMS = 300
TOP_UP_CLAIMS = 10
CLAIMERS = (1, 2, 4, 8)
CLAIMING_SECONDS = 5.0
MOST_RATIO = 1.2


class Claimer:
    """Claims as a watcher's crew does whose slots are all free each time."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._frontier = Frontier()

    async def claim(self, limit: int = IN_FLIGHT) -> int:
        """How many images one claim got."""
        claim, images = await self._documents.images.claim(limit, start=self._frontier.start)
        if claim.first is not None:
            self._frontier.claimed(claim.first)
        return len(images)


class Backlog:
    """A database with `pending` images pending, when 200,000 of a round have been claimed."""

    def __init__(self, uri: str, pending: int) -> None:
        self.name = f"{pending:,} pending"
        self.mongo = Mongo.connect(uri, f"bench_{pending}", operation_seconds=60)
        self.documents = Documents(self.mongo, lease_seconds=3600)
        self.claimer = Claimer(self.documents)
        self.seconds: list[float] = []
        self._pending = pending
        self._inserted = 0

    async def fill(self) -> None:
        """What is there from the beginning."""
        await self.documents.ensure_indexes()
        await insert_delayed(self.documents, DELAYED)
        await self.add(self._pending)

    async def add(self, count: int) -> None:
        """More pending images, behind those that are there."""
        await insert_pending(self.documents, count, rank=self._inserted)
        self._inserted += count

    async def measure(self) -> None:
        """One claim, timed."""
        begun = time.perf_counter()
        claimed = await self.claimer.claim()
        self.seconds.append(time.perf_counter() - begun)
        assert claimed == IN_FLIGHT


async def compare(few: Backlog, many: Backlog) -> float:
    """The median over the rounds of what a claim costs among many, over what it costs among few."""
    ratios = []
    for _ in range(ROUNDS):
        for backlog in (few, many):
            await backlog.add(CLAIMED_BEFORE)
            backlog.seconds.clear()
        for _ in range(CLAIMED_BEFORE // PRELUDE_CLAIM):
            await few.claimer.claim(PRELUDE_CLAIM)
            await many.claimer.claim(PRELUDE_CLAIM)
        for number in range(SETTLING_CLAIMS + CLAIMS):
            for backlog in (few, many) if number % 2 else (many, few):
                if number % TOP_UP_CLAIMS == 0:
                    await backlog.add(TOP_UP_CLAIMS * IN_FLIGHT)
                await backlog.measure()
        costs = [statistics.median(backlog.seconds[SETTLING_CLAIMS:]) for backlog in (few, many)]
        ratios.append(costs[1] / costs[0])
        shown = ", ".join(
            f"{backlog.name} {cost * 1000:.2f} ms" for backlog, cost in zip((few, many), costs, strict=True)
        )
        print(f"a claim of {IN_FLIGHT}: {shown}, ratio {ratios[-1]:.2f}", flush=True)
    print(f"a claim of {IN_FLIGHT}: median ratio {statistics.median(ratios):.2f}", flush=True)
    return statistics.median(ratios)


async def uses_index(backlog: Backlog, uri: str) -> bool:
    """Whether the find of a claim reads the index of pending images and no more of it than it gives."""
    recorder = Recorder()
    mongo = Mongo.connect(uri, backlog.mongo.database.name, listeners=[recorder])
    documents = Documents(mongo)
    _, images = await documents.images.claim(IN_FLIGHT)
    await documents.images.claim(IN_FLIGHT, start=images[0].rank)
    mongo.close()
    held = True
    for command in [command for command in recorder.commands if command["name"] in {"find", "update"}]:
        for statement in statements(command):
            plan = await plan_of(backlog.mongo, command["name"], statement)
            print(f"explain {command['name']}: {sorted(plan.stages)} by {sorted(plan.indexes)}, reads {plan.read}")
            held = held and "COLLSCAN" not in plan.stages
    return held


async def claim_for_a_while(uri: str, database: str, seconds: float) -> None:
    """The child: claims for so long once it is told, and says how many it got."""
    mongo = Mongo.connect(uri, database)
    claimer = Claimer(Documents(mongo, lease_seconds=3600))
    await claimer.claim()
    say(ready=True)
    await told()
    claimed = claims = empty = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        got = await claimer.claim()
        claimed, claims, empty = claimed + got, claims + 1, empty + (got == 0)
    say(claimed=claimed, claims=claims, empty=empty)
    mongo.close()


async def grow(backlog: Backlog, uri: str) -> list[float]:
    """Images claimed per second by one, two, four and eight claimers."""
    rates = []
    for claimers in CLAIMERS:
        async with AsyncExitStack() as stack:
            arguments = ("claim", uri, backlog.mongo.database.name, str(CLAIMING_SECONDS))
            children = [await stack.enter_async_context(child(MODULE, *arguments)) for _ in range(claimers)]
            for claimer in children:
                await claimer.answer()
            for claimer in children:
                await claimer.tell("go")
            answers = [await claimer.answer() for claimer in children]
        claimed, claims, empty = (sum(answer[name] for answer in answers) for name in ("claimed", "claims", "empty"))
        rates.append(claimed / CLAIMING_SECONDS)
        shown = (
            f"{rates[-1]:,.0f} images/s, {claims / CLAIMING_SECONDS:,.0f} claims/s, {empty / claims:.0%} of them empty"
        )
        print(f"{claimers} claimers: {shown}", flush=True)
    return rates


async def main(few: int = 1000, many: int = 1_000_000) -> int:
    """Fills both collections, then measures."""
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedMongo(Path(folder)) as mongod:
            backlogs = Backlog(mongod.uri, few), Backlog(mongod.uri, many)
            for backlog in backlogs:
                await backlog.fill()
            ratio = await compare(*backlogs)
            indexed = await uses_index(backlogs[1], mongod.uri)
            rates = await grow(backlogs[1], mongod.uri)
            for backlog in backlogs:
                backlog.mongo.close()
    return int(ratio > MOST_RATIO or rates[-1] <= rates[0] or not indexed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["claim"]:
        asyncio.run(claim_for_a_while(sys.argv[2], sys.argv[3], float(sys.argv[4])))
    else:
        sys.exit(asyncio.run(main(*(int(given) for given in sys.argv[1:]))))
