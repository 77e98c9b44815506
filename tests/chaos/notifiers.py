"""`python -m tests.chaos.notifiers --seed S --deliveries N --kills K`: exits 0 only if every webhook came as promised.

Requests are completed while notifiers are killed at random, each frozen for a moment before, so that it is known what
it had in flight. In the end every delivery must have been made, under its one id and verified by the `standardwebhooks`
package, and none more often than once and once more for each kill that found it in flight.
"""

import asyncio
import random
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
from standardwebhooks.webhooks import Webhook

from libs.documents import Documents
from libs.mongo import EmbeddedMongo, Mongo
from tests.chaos import oracle
from tests.chaos.fleet import Replica
from tests.chaos.run import SETTINGS
from tests.completions import Completions
from tests.fail_points import short_transactions
from tests.processes import SECRET, environment
from tests.receivers import Received, receiving
from tests.waiting import until

REPLICAS = 3
_PER_SECOND = 500.0
_LONGEST_PAUSE_SECONDS = 0.25
_TRANSACTION_SECONDS = 3  # for which what a killed notifier was announcing stays locked


@dataclass(slots=True)
class Report:
    """What a run did and found; `in_flight` counts, by webhook-id, the kills that found it so."""

    seed: int
    deliveries: int = 0
    received: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def repeats(self) -> int:
        """POSTs beyond the first of each delivery."""
        return self.received - self.deliveries


async def run(folder: Path, *, seed: int, deliveries: int, kills: int) -> Report:
    """Completes `deliveries` requests, some between any two of `kills`, and judges when all is settled.

    The seed fixes who is killed and after which pause, not how the processes interleave.
    """
    rng = random.Random(seed)  # noqa: S311 (repeatable, not secret)
    report = Report(seed)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(EmbeddedMongo(folder / "mongo"))
        receiver = await stack.enter_async_context(receiving())
        env = environment(embedded.uri, folder, **SETTINGS)
        mongo = Mongo.connect(embedded.uri, env["DATABASE_NAME"], operation_seconds=60)
        stack.callback(mongo.close)
        await stack.enter_async_context(short_transactions(mongo, _TRANSACTION_SECONDS))
        documents = Documents(mongo, lease_seconds=3600)
        await documents.ensure_indexes()
        fleet = [Replica("notifier", number, env, folder) for number in range(REPLICAS)]
        keepers = [asyncio.create_task(replica.keep(), name=f"notifier{replica.number}") for replica in fleet]
        try:
            completions = Completions(documents, [receiver.url])
            await completions.prepare(deliveries)
            completed = set[str]()
            for number in range(kills):
                share = deliveries * (number + 1) // kills - len(completed)
                async with asyncio.TaskGroup() as both:
                    told = both.create_task(completions.complete(_PER_SECOND, share))
                    both.create_task(_kill_one(rng, fleet, documents, report))
                completed |= told.result().keys()
            await until(lambda: _settled(documents, len(completed)), "every delivery is made", seconds=180)
            report.problems += await _problems(documents, completed, receiver.received, report)
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
    report.seconds = time.monotonic() - began
    return report


async def _kill_one(rng: random.Random, fleet: Sequence[Replica], documents: Documents, report: Report) -> None:
    """Kills one of the notifiers that run, after a pause, and notes what it had in flight."""
    await asyncio.sleep(rng.uniform(0, _LONGEST_PAUSE_SECONDS))

    async def any_running() -> Replica | None:
        running = [one for one in fleet if one.service is not None and one.service.process.returncode is None]
        return rng.choice(running) if running else None

    replica = await until(any_running, "a notifier runs")
    service = replica.service
    assert service is not None
    service.process.send_signal(signal.SIGSTOP)
    # What its last command does yet, behind this look, it cannot have posted.
    held = {"state": "processing", "lease.holder": {"$regex": f"^{socket.gethostname()}/{service.process.pid}/"}}
    found = documents.mongo.collection("deliveries").find(held, {"_id": 1})
    report.in_flight.update([document["_id"] async for document in found])
    service.process.kill()
    report.kills += 1
    await service.process.wait()


async def _settled(documents: Documents, count: int) -> bool:
    if await oracle.open_requests(documents) or await oracle.open_deliveries(documents):
        return False
    return await documents.mongo.collection("deliveries").count_documents({}) == count


async def _problems(
    documents: Documents, completed: set[str], received: Sequence[Received], report: Report
) -> list[str]:
    made = {one["_id"]: one async for one in documents.mongo.collection("deliveries").find({})}
    posted: Counter[str] = Counter()
    found = []
    for one in received:
        webhook_id = one.headers["webhook-id"]
        body = Webhook(SECRET).verify(one.body, dict(one.headers))
        posted[webhook_id] += 1
        if webhook_id not in made or made[webhook_id]["request_id"] != body["request_id"]:
            found.append(f"{body['request_id']} came under {webhook_id}")
    report.deliveries, report.received = len(made), len(received)
    if {one["request_id"] for one in made.values()} != completed:
        found.append("the deliveries are not those of the completed requests")
    found += [f"{webhook_id} never came" for webhook_id in made.keys() - posted.keys()]
    found += [
        f"{webhook_id} came {count} times, in flight at {report.in_flight[webhook_id]} kills"
        for webhook_id, count in posted.items()
        if count > 1 + report.in_flight[webhook_id]
    ]
    found += [f"{webhook_id} is still leased" for webhook_id, one in made.items() if "lease" in one]
    return found


@click.command(help=__doc__)
@click.option("--seed", type=int, default=None, help="Fixes the kills.  [default: a random one]")
@click.option("--deliveries", type=int, default=5_000, show_default=True, help="Deliveries to be made.")
@click.option("--kills", type=int, default=100, show_default=True, help="Notifiers to be killed meanwhile.")
def main(seed: int | None, deliveries: int, kills: int) -> None:
    """Runs once and prints what happened."""
    seed = secrets.randbelow(10**6) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    click.echo(f"seed {seed}, {deliveries} deliveries, {kills} kills of {REPLICAS} notifiers, in {folder}")
    report = asyncio.run(run(folder, seed=seed, deliveries=deliveries, kills=kills))
    click.echo(
        f"{report.deliveries} deliveries, {report.repeats} repeats, {report.in_flight.total()} in flight at "
        f"{report.kills} kills, in {report.seconds:.0f} s"
    )
    for problem in report.problems:
        click.echo(f"PROBLEM {problem}")
    click.echo("all held" if not report.problems else f"{len(report.problems)} problems; seed {seed}")
    if not report.problems:
        shutil.rmtree(folder)
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
