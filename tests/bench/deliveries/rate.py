"""Deliveries per second of one notifier that has enough to do, beside POSTs per second of the bare loop."""

import statistics

from tests.bench.cpu import Meter
from tests.bench.deliveries.stage import Stage, stage

LEAST_RATIO = 0.5
ROUNDS = 5
STORED = 10_000
WARM_UP = 500
LOOP_SECONDS = 3.0


async def rate(endpoints: int) -> bool:
    """Prints both by turns; true when the notifier's median is at least half of the loop's."""
    ours, theirs = list[float](), list[float]()
    async with stage(endpoints) as on:
        print(f"deliveries per second to {endpoints} endpoint(s)")
        for _ in range(ROUNDS):
            theirs.append(await on.loop.per_second(LOOP_SECONDS))
            ours.append(await _delivered(on))
            print(
                f"  notifier {ours[-1]:6.0f}/s, loop {theirs[-1]:6.0f}/s, ratio {ours[-1] / theirs[-1]:.2f}", flush=True
            )
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"  medians: {statistics.median(ours):.0f}/s and {statistics.median(theirs):.0f}/s, ratio {ratio:.2f}")
    return ratio >= LEAST_RATIO


async def _delivered(on: Stage) -> float:
    await on.receiver.take()
    await on.store(STORED)
    async with on.notifier() as notifier:
        meter = Meter(
            {"notifier": [notifier.process.pid], "mongod": [on.mongod], "receiver": [on.receiver.process.process.pid]}
        )
        await on.received(STORED)
        cores = meter.read()
    arrived = await on.receiver.take()
    assert len({one.webhook_id for one in arrived}) == len(arrived) == STORED
    print("  cores: " + ", ".join(f"{name} {value:.2f}" for name, value in cores.items()))
    return (STORED - WARM_UP) / (arrived[-1].at - arrived[WARM_UP].at)
