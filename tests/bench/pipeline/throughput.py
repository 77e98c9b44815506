"""Images per second from the first POST to the last webhook, against the bare loop on the same photographs."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench.bare_loop import BareLoop, Looped
from tests.bench.darkroom import Done
from tests.bench.pipeline.bench import Bench, Photographs

LEAST_RATIO = 1.0
REQUESTS = (1, 20)


@dataclass(slots=True)
class Throughput:
    """What came of all rounds with one number of requests; CPU and stages in milliseconds of an image."""

    requests: int
    rates: list[float] = field(default_factory=list)
    loops: list[Looped] = field(default_factory=list)
    cpu: list[Mapping[str, float]] = field(default_factory=list)
    stages: list[Mapping[str, float]] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Of the rates, round by round."""
        return [rate / loop.per_second for rate, loop in zip(self.rates, self.loops, strict=True)]

    async def measure(self, bench: Bench, loop: BareLoop, images: int, *, loop_first: bool) -> None:
        """One round: both on the same new photographs."""
        photographs = bench.photographs(images)
        if loop_first:
            self.loops.append(await loop.run(photographs.folder))
        await self._run(bench, photographs)
        if not loop_first:
            self.loops.append(await loop.run(photographs.folder))
        print(
            f"{self.requests:2} requests: {self.rates[-1]:6.1f} images/s, bare loop "
            f"{self.loops[-1].per_second:6.1f}: {self.ratios[-1]:.3f}",
            flush=True,
        )

    async def _run(self, bench: Bench, photographs: Photographs) -> None:
        links, images = photographs.links, len(photographs.links)
        meter = bench.darkroom.meter(server=bench.server.pid)
        done = await bench.darkroom.finish(links[first :: self.requests] for first in range(self.requests))
        self.cpu.append({name: 1000 * seconds / images for name, seconds in meter.seconds().items()})
        self.rates.append(images / done.seconds)
        facts = await _facts(bench, done)
        if len(facts) != images or any(fact["reused"] for fact in facts):
            raise RuntimeError("not every image was compressed")
        self.stages.append(_means(fact["milliseconds"] for fact in facts))
        self.sizes.append(sum(fact["bytes_out"] for fact in facts) / photographs.bytes)

    def report(self) -> bool:
        """Prints it all; true when the target is met."""
        median = statistics.median(self.ratios)
        loop_cpu = statistics.median(1000 * loop.cpu_seconds / loop.images for loop in self.loops)
        print(f"\n{self.requests} request{'s' * (self.requests > 1)}:")
        print(
            f"  Darkroom {statistics.median(self.rates):.1f} images/s, bare loop "
            f"{statistics.median(loop.per_second for loop in self.loops):.1f}; ratio {median:.3f} "
            f"({min(self.ratios):.3f} to {max(self.ratios):.3f}), at least {LEAST_RATIO}"
            f"{'' if median >= LEAST_RATIO else ': MISSED'}"
        )
        print(f"  bytes out: {statistics.median(self.sizes):.3f} of the bytes in")
        medians = {name: statistics.median(given[name] for given in self.cpu) for name in self.cpu[0]}
        others = medians.pop("others")
        print(f"  CPU per image, bare loop: {loop_cpu:.2f} ms; Darkroom and what is around it: {_listed(medians)},")
        print(f"    {sum(medians.values()):.2f} ms together, beside {others:.2f} ms of the machine's other processes")
        stages = {name: statistics.median(given[name] for given in self.stages) for name in self.stages[0]}
        print(f"  an image's time by stage, on average: {_listed(stages)}")
        return median >= LEAST_RATIO


async def _facts(bench: Bench, done: Done) -> list[dict[str, Any]]:
    statuses = [await bench.darkroom.status(request_id) for request_id in done.request_ids]
    return [fact for status in statuses for row in status["details"] for fact in row["facts"] if fact]


def _means(facts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    given = list(facts)
    return {stage: statistics.mean(fact[stage] for fact in given) for stage in given[0]}


def _listed(milliseconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f} ms" for name, value in milliseconds.items())


async def compare(bench: Bench, loop: BareLoop, images: int, rounds: int) -> bool:
    """Both sides by turns, the other one first in every second round; true when all targets are met."""
    await loop.run(bench.photographs(len(loop.processes) * 16).folder)
    found = [Throughput(requests) for requests in REQUESTS]
    for number in range(rounds):
        for throughput in found:
            await throughput.measure(bench, loop, images, loop_first=number % 2 == 0)
    reports = [throughput.report() for throughput in found]
    return all(reports)
