"""One run: a fleet at work, faults at random, and the oracle behind it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from libs.documents import Documents
from libs.mongo import EmbeddedMongo, Mongo
from tests import primaries
from tests.chaos import oracle
from tests.chaos.fleet import Replica
from tests.chaos.workload import Upload, World, outside, submit, uploads
from tests.processes import environment

REPLICAS = {"ingest": 2, "watcher": 3, "notifier": 2}
SETTINGS = {
    "DARKROOM_LEASE_SECONDS": "6",
    "DARKROOM_OPERATION_SECONDS": "1.9",
    "DARKROOM_SWEEP_SECONDS": "1",
    "DARKROOM_SHUTDOWN_SECONDS": "5",
    "DARKROOM_RETRY_SECONDS": "0.5",
    "DARKROOM_MAX_ATTEMPTS": "8",
    "DARKROOM_WEBHOOK_SCHEDULE": ",".join(["0.2", "0.5", *["1"] * 40]),
    "DARKROOM_LOG_LEVEL": "warning",
}
_FREEZE_SECONDS = 8.0  # longer than the lease
_FAULTS = ("kill",) * 6 + ("stop",) * 2 + ("freeze",)


@dataclass(slots=True)
class Report:
    """What a run did and found."""

    seed: int
    accepted: dict[str, Upload] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    webhooks: int = 0
    repeats: int = 0

    @property
    def images(self) -> int:
        """Image URLs in accepted requests."""
        return sum(upload.total for upload in self.accepted.values())


async def run(
    folder: Path,
    *,
    seed: int,
    images: int,
    kills: int,
    members: int = 1,
    settle_seconds: float = 180.0,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Uploads `images` URLs while `kills` faults hit the fleet, waits until all is settled, and asks the oracle.

    With three `members`, some of the faults hit MongoDB's primary. The seed fixes the uploads and the faults, not how
    the processes interleave.
    """
    rng = random.Random(seed)  # noqa: S311 (repeatable, not secret)
    report = Report(seed)
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedMongo(folder / "mongo", members=members))
        world = await stack.enter_async_context(outside(rng))
        client = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)))
        env = environment(embedded.uri, folder, **SETTINGS)
        mongo = Mongo.connect(embedded.uri, env["DATABASE_NAME"], operation_seconds=10)
        stack.callback(mongo.close)
        documents = Documents(mongo)
        fleet = [Replica(name, n, env, folder) for name, count in REPLICAS.items() for n in range(count)]
        keepers = [asyncio.create_task(replica.keep(), name=f"{replica.name}{replica.number}") for replica in fleet]
        try:
            work = uploads(rng, images, world.url)
            async with asyncio.TaskGroup() as group:
                group.create_task(_upload_all(client, fleet, work, world, report))
                group.create_task(_break_things(rng, fleet, embedded, kills, report))
            say(f"{len(report.accepted)} requests accepted, {dict(report.faults)}; settling")
            await _settled(documents, report, settle_seconds)
            report.problems += await oracle.problems(documents, report.accepted, world, folder / "images")
            report.problems += [
                f"{replica.name}{replica.number}: stops ended with {replica.unclean_stops}, not 0"
                for replica in fleet
                if replica.unclean_stops
            ]
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
    report.webhooks = len(world.received)
    report.repeats = len(world.received) - len({received.headers["webhook-id"] for received in world.received})
    report.seconds = time.monotonic() - started
    return report


async def _upload_all(
    client: aiohttp.ClientSession, fleet: list[Replica], work: list[Upload], world: World, report: Report
) -> None:
    for upload in work:
        request_id = None
        while request_id is None:
            ready = [replica.service for replica in fleet if replica.name == "ingest" and replica.service]
            for service in ready:
                request_id = await submit(client, service.url, upload, f"{world.url}/hook")
                if request_id:
                    report.accepted[request_id] = upload
                    break
            else:
                await asyncio.sleep(0.1)


async def _break_things(
    rng: random.Random, fleet: list[Replica], embedded: EmbeddedMongo, kills: int, report: Report
) -> None:
    async with asyncio.TaskGroup() as group:
        done = 0
        while done < kills:
            await asyncio.sleep(rng.uniform(0.1, 0.8))
            if len(embedded.running) > 1 and rng.random() < 0.05:
                await _kill_primary(embedded)
                report.faults["primary killed"] += 1
                done += 1
                continue
            replica, fault = rng.choice(fleet), rng.choice(_FAULTS)
            if replica.service is None:
                continue
            done += 1
            report.faults[f"{replica.name} {fault}"] += 1
            if fault == "kill":
                replica.kill()
            elif fault == "stop":
                group.create_task(replica.stop())
            else:
                group.create_task(replica.freeze(_FREEZE_SECONDS))


async def _kill_primary(embedded: EmbeddedMongo) -> None:
    member = await primaries.primary_of(embedded)
    await primaries.kill(member)
    await asyncio.sleep(4)
    await embedded.start_member(member)


async def _settled(documents: Documents, report: Report, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        requests = await oracle.open_requests(documents)
        deliveries = await oracle.open_deliveries(documents)
        if not requests and not deliveries:
            return
        await asyncio.sleep(0.5)
    report.problems.append(f"after {seconds:g} s {requests} requests and {deliveries} deliveries were still open")
