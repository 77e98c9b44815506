"""How soon work goes on when the primary is killed under load: `python -m tests.bench.failover [kills [watchers]]`.

Three members, an ingest, several watchers and a notifier, all real processes; thousands of tiny images from loopback.
For each kill -9 of the primary it prints the seconds until another one was elected, as that one's own log has it, and
from then on: until it took writes, until it had the first completion of its term in its oplog, and until a majority
had that. Exits 1 when anything was lost, counted wrongly or left leased, or when a completion stood later than a second
after an election.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from bson import Timestamp
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from libs.documents import Documents
from libs.mongo import EmbeddedMongo, Mongo
from libs.mongo.embedded import Member
from tests import primaries
from tests.chaos import oracle
from tests.chaos.workload import Upload, World, outside, submit, uploads
from tests.processes import Service, environment, started
from tests.waiting import until

LATEST_SECONDS = 1.0
BACKLOG = 600
BETWEEN_KILLS = 150
FINISHED = {"state": {"$in": ["completed", "failed"]}}
ELECTED, WRITABLE = 21450, 21331
"""The ids of two log lines: "Election succeeded, assuming primary role" and "Transition to primary complete; …"."""


@dataclass(frozen=True, slots=True)
class Failover:
    """One kill: when (seconds of this machine's clock), and what came after it."""

    killed: float
    elected: float
    writable: float
    written: float
    committed: float

    def __str__(self) -> str:
        since = [moment - self.elected for moment in (self.writable, self.written, self.committed)]
        return (
            f"elected {self.elected - self.killed:.2f} s after the kill; from then on: writable {since[0]:.2f} s, "
            f"first completion written {since[1]:.2f} s, in the hands of a majority {since[2]:.2f} s"
        )


@dataclass(slots=True)
class Load:
    """Uploads as many as keep a backlog."""

    url: str
    world: World
    documents: Documents
    accepted: dict[str, Upload] = field(default_factory=dict)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, rng: random.Random) -> None:
        """Keeps `BACKLOG` images waiting until there is enough."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client:
            while not self.enough.is_set():
                if await self._waiting() >= BACKLOG:
                    await asyncio.sleep(0.2)
                    continue
                for upload in uploads(rng, 300, self.world.url):
                    request_id = await submit(client, self.url, upload, f"{self.world.url}/hook")
                    if request_id:  # else nobody was told that it is accepted
                        self.accepted[request_id] = upload

    async def _waiting(self) -> int:
        try:
            return await self.documents.mongo.collection("images").count_documents({"state": "pending"})
        except PyMongoError:
            return BACKLOG

    @property
    def images(self) -> int:
        """Image URLs accepted so far."""
        return sum(upload.total for upload in self.accepted.values())


def logged(member: Member, number: int, since: float) -> float | None:
    """When the member last wrote the line `number` to its log, if that was after `since`."""
    lines = member.log.read_text(encoding="utf-8").splitlines()
    dates = [json.loads(line)["t"]["$date"] for line in lines if f'"id":{number},' in line and line.endswith("}")]
    moment = datetime.fromisoformat(dates[-1]).timestamp() if dates else 0.0
    return moment if moment > since else None


async def fail_over(embedded: EmbeddedMongo, database: str) -> Failover:
    """Kills the primary, waits for a completion under the next one, and starts the killed one again."""
    victim = await primaries.primary_of(embedded)
    killed = time.time()
    await primaries.kill(victim)
    others = [member for member in embedded.running if member is not victim]

    async def successor() -> tuple[Member, float, float] | None:
        for member in others:
            elected, writable = (logged(member, number, killed) for number in (ELECTED, WRITABLE))
            if elected and writable:
                return member, elected, writable
        return None

    member, elected, writable = await until(successor, "another primary is elected")
    written, committed = await first_completion(member, database, killed)
    await primaries.come_back(embedded, victim)
    return Failover(killed, elected, writable, written, committed)


async def first_completion(member: Member, database: str, since: float) -> tuple[float, float]:
    """When the first completion of the new primary's term was written there, and when it was seen to be committed."""
    async with primaries.connected_to(member) as mongo:
        status = await mongo.client.admin.command("replSetGetStatus")
        oplog = mongo.client.get_database("local").get_collection("oplog.rs", read_concern=ReadConcern("majority"))
        wanted = {
            "ts": {"$gte": Timestamp(int(since) - 1, 0)},
            "t": status["term"],
            "o.applyOps": {"$elemMatch": {"ns": f"{database}.images", "o.diff.u.state": "completed"}},
        }

        async def seen() -> Mapping[str, Any] | None:
            return await oplog.find_one(wanted, {"wall": 1})

        entry = await until(seen, "an image is completed under the new primary")
        return entry["wall"].timestamp(), time.time()


async def completed_per_second(documents: Documents) -> float:
    """The rate at which the next `BETWEEN_KILLS` images are completed, once they are."""
    images = documents.mongo.collection("images")
    before, begun = await images.count_documents(FINISHED), time.monotonic()

    async def worked() -> bool:
        return await images.count_documents(FINISHED) >= before + BETWEEN_KILLS

    await until(worked, f"{BETWEEN_KILLS} images are completed")
    return BETWEEN_KILLS / (time.monotonic() - begun)


async def measure(folder: Path, kills: int, watchers: int) -> tuple[list[Failover], list[str]]:
    """The failovers, and what does not hold after them."""
    rng = random.Random(1)  # noqa: S311 (repeatable, not secret)
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedMongo(folder / "mongo", members=3))
        world = await stack.enter_async_context(outside(rng))
        env = environment(embedded.uri, folder, DATABASE_NAME="bench", DARKROOM_WEBHOOK_SCHEDULE=",".join(["1"] * 40))
        mongo = Mongo.connect(embedded.uri, "bench", operation_seconds=20)
        stack.callback(mongo.close)
        documents = Documents(mongo)
        names = ["ingest", *["watcher"] * watchers, "notifier"]
        services = [
            await stack.enter_async_context(started(name, env, folder, number=n)) for n, name in enumerate(names)
        ]
        load = Load(services[0].url, world, documents)
        found: list[Failover] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(rng), name="load")
            for number in range(kills):
                rate = await completed_per_second(documents)
                found.append(await fail_over(embedded, mongo.database.name))
                print(f"kill {number + 1}, at {rate:.0f} images/s: {found[-1]}", flush=True)
            load.enough.set()
        await until(lambda: _is_settled(documents), "everything is closed and delivered", seconds=180)
        problems = await oracle.problems(documents, load.accepted, world, folder / "images")
        problems += [problem for service in services for problem in await _ended(service)]
        print(f"{load.images:,} images in {len(load.accepted)} requests, {len(world.received)} webhooks received")
    return found, problems


async def _is_settled(documents: Documents) -> bool:
    return not await oracle.open_requests(documents) and not await oracle.open_deliveries(documents)


async def _ended(service: Service) -> list[str]:
    code = await service.stop()
    return [] if code == 0 else [f"{service.name} ended with {code}"]


async def main(kills: int, watchers: int) -> int:
    """Runs it in a temporary folder, prints what did not hold and gives the exit code."""
    with tempfile.TemporaryDirectory() as name:
        failovers, problems = await measure(Path(name), kills, watchers)
    for problem in problems:
        print(f"LOST: {problem}")
    latest = max(failover.committed - failover.elected for failover in failovers)
    print(f"a completion stood {latest:.2f} s after an election at the latest (target {LATEST_SECONDS:g} s)")
    return int(bool(problems) or latest > LATEST_SECONDS)


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    sys.exit(asyncio.run(main(*(given + [6, 4][len(given) :]))))
