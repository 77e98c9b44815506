"""Whether endpoints that hang slow the others: from completion to receiver with and without them, by turns."""

import statistics

from tests.bench.deliveries.latency import Percentiles, in_milliseconds, notified
from tests.bench.deliveries.stage import stage

RUNS = 10


async def hanging(endpoints: int) -> bool:
    """Prints the percentiles of the healthy endpoints; true when p50 and p95 are within the spread of the unhurt runs.

    A tenth of the endpoints accepts, reads and never answers. Each run has a new notifier, which knows nothing of them.
    """
    unhurt, hurt = list[Percentiles](), list[Percentiles]()
    silent = max(1, endpoints // 10)
    async with stage(endpoints) as on:
        print(f"{silent} of {endpoints} endpoints hang: {RUNS} runs with them and {RUNS} without")
        for _ in range(RUNS):
            unhurt.append(Percentiles.of(await notified(on, silent=silent)))
            await on.receiver.behave(hanging=silent)
            hurt.append(Percentiles.of(await notified(on, silent=silent)))
            await on.receiver.behave()
    within = True
    for name in ("p50", "p95", "p99"):
        before, beside = [getattr(run, name) for run in unhurt], [getattr(run, name) for run in hurt]
        print(
            f"  {name}: unhurt {in_milliseconds(before)}; beside those that hang {in_milliseconds(beside)}", flush=True
        )
        within &= name == "p99" or statistics.median(beside) <= max(before)
    return within
