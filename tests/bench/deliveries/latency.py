"""From the completion of a request to its receiver, at 200 per second, beside the bare loop at the same pace."""

import asyncio
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.bench.deliveries.stage import Stage, stage
from tests.completions import Completions

RUNS = 10
PER_SECOND = 200.0
COUNT = 800
WARM_UP = 200
LONGEST_P95_SECONDS = 0.127
LONGEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one run, in seconds."""

    p50: float
    p95: float
    p99: float

    @staticmethod
    def of(seconds: Iterable[float]) -> "Percentiles":
        """Of these latencies."""
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        return Percentiles(cuts[49], cuts[94], cuts[98])


async def latency(endpoints: int) -> bool:
    """Prints the percentiles of the notifier and of the loop by turns; true when the notifier's p95 is short enough."""
    ours, theirs = list[Percentiles](), list[Percentiles]()
    async with stage(endpoints) as on:
        print(f"document complete to receiver: {PER_SECOND:g}/s to {endpoints} endpoint(s), {RUNS} runs of {COUNT}")
        for _ in range(RUNS):
            ours.append(Percentiles.of(await notified(on)))
            theirs.append(Percentiles.of(await _looped(on)))
    for name in ("p50", "p95", "p99"):
        mine, plain = [getattr(run, name) for run in ours], [getattr(run, name) for run in theirs]
        ratio = statistics.median(mine) / statistics.median(plain)
        print(f"  {name}: {in_milliseconds(mine)}; loop {in_milliseconds(plain)}; ratio {ratio:.0f}", flush=True)
    return statistics.median(run.p95 for run in ours) < LONGEST_P95_SECONDS


async def notified(on: Stage, *, silent: int = 0) -> list[float]:
    """Seconds from completion to receiver, by a notifier of its own, of what goes to all but the first `silent` ports.

    Raises:
        TimeoutError: some of it did not come.
    """
    completions = Completions(on.documents, on.receiver.urls)
    await completions.prepare(WARM_UP + COUNT)
    await on.receiver.take()
    async with on.notifier():
        completed = await completions.complete(PER_SECOND, WARM_UP + COUNT)
        arrived = dict[str, float]()
        collection = on.documents.mongo.collection("deliveries")
        wanted = {"request_id": {"$in": list(completed)}, "url": {"$in": on.receiver.urls[silent:]}}
        most = sum(number % len(on.receiver.urls) >= silent for number in range(WARM_UP + COUNT))
        async with asyncio.timeout(LONGEST_SECONDS):
            while len(arrived) < most:
                arrived |= {one.webhook_id: one.at for one in await on.receiver.take() if one.port >= silent}
                await asyncio.sleep(0.05)
        requests = {one["_id"]: one["request_id"] async for one in collection.find(wanted, {"request_id": 1})}
    first = set(list(completed)[:WARM_UP])
    return [
        arrived[webhook_id] - completed[request_id]
        for webhook_id, request_id in requests.items()
        if request_id not in first
    ]


async def _looped(on: Stage) -> list[float]:
    begun = await on.loop.paced(PER_SECOND, WARM_UP + COUNT)
    arrived = {one.webhook_id: one.at for one in await on.receiver.take()}
    return [arrived[webhook_id] - at for webhook_id, at in list(begun.items())[WARM_UP:]]


def in_milliseconds(seconds: Sequence[float]) -> str:
    """The median and the spread."""
    return f"{statistics.median(seconds) * 1e3:.1f} ms ({min(seconds) * 1e3:.1f} to {max(seconds) * 1e3:.1f})"
