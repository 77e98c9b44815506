"""Runs the fuzzer; see the package."""

import argparse
import asyncio
import hashlib
import json
import random
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.imaging import CodecPool, ImageError, Options
from tests.fuzz_imaging.measured import measured
from tests.fuzz_imaging.mutation import mutated
from tests.fuzz_imaging.seeds import seeds
from tests.unit.pictures import encoded, quarters

MAX_PIXELS = 12_000_000
MOST_BYTES = 512 << 20
# CPU seconds for an input, by the format asked for; AVIF has a bound of its own (`tests.bench.codec_costs`).
MOST_SECONDS = {"jpeg": 2.0, "webp": 2.0, "png": 2.0, "avif": 20.0}
WORKER_BYTES = 2 << 30
STALLED_SECONDS = 120.0

CHOICES: tuple[dict[str, Any], ...] = (
    *({},) * 12,
    {"format": "keep"},
    {"format": "keep", "metadata": "keep"},
    {"metadata": "copyright", "max_width": 50},
    {"format": "webp"},
    {"format": "png", "max_height": 40},
    {"format": "avif", "max_width": 64},
    {"quality": "auto"},
    {"target_ratio": 0.5},
)


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of one input: the format of a picture or a reason, CPU seconds and bytes, and what else is to be told.

    Of an input that ended its worker the seconds are those that went by, and the bytes are not known.
    """

    outcome: str
    seconds: float
    taken_bytes: int = 0
    detail: str = ""


@dataclass
class Tally:
    """What came of all inputs so far."""

    counts: Counter[str] = field(default_factory=Counter)
    worst_seconds: dict[str, float] = field(default_factory=dict)
    worst_bytes: int = 0
    broken: list[str] = field(default_factory=list)

    def note(self, form: str, ending: Ending) -> list[str]:
        """Counts one input; what it broke. A reason is no excuse where a worker died or tripped over our own code."""
        self.counts[ending.outcome] += 1
        self.worst_seconds[form] = max(ending.seconds, self.worst_seconds.get(form, 0.0))
        self.worst_bytes = max(ending.taken_bytes, self.worst_bytes)
        broken = []
        if ending.outcome == "worker_crashed":
            broken.append(ending.detail)
        if ending.seconds > MOST_SECONDS[form]:
            broken.append(f"{ending.seconds:.2f} s")
        if ending.taken_bytes > MOST_BYTES:
            broken.append(f"{ending.taken_bytes / 2**20:.0f} MiB")
        return broken


async def fuzz(minutes: float, seed: int, workers: int, kept: Path) -> Tally:
    """Feeds inputs to the pool for so long; those that broke a bound are written into `kept`."""
    whole = list(seeds().items())
    tally = Tally()
    end = time.monotonic() + 60 * minutes

    async def feed(pool: CodecPool, rng: random.Random) -> None:
        while time.monotonic() < end:
            name, data = rng.choice(whole)
            data = mutated(data, rng.choice(whole)[1], rng) if rng.random() < 0.98 else data
            asked = rng.choice(CHOICES)
            options = Options(max_pixels=MAX_PIXELS, **asked)
            form = form_of(options, name.split()[0])
            ending = await ended(pool, data, options)
            if broken := tally.note(form, ending):
                tally.broken.append(keep(kept, data, f"{name} {asked} {ending.outcome}: {', '.join(broken)}"))

    async with CodecPool(workers, WORKER_BYTES, STALLED_SECONDS, task=measured) as pool:
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(feed(pool, random.Random(seed + number)), name=f"fuzz {number}")  # noqa: S311
        last = await ended(pool, encoded(quarters(), "PNG"), Options())
        if last.outcome != "jpeg":
            tally.broken.append(f"the pool is dead: {last.outcome} {last.detail}")
    return tally


def form_of(options: Options, source: str) -> str:
    """The format of the output."""
    if options.format != "keep":
        return options.format
    return source if source in MOST_SECONDS else "png"


async def ended(pool: CodecPool, data: bytes, options: Options) -> Ending:
    """How an input ended."""
    began = time.monotonic()
    try:
        result = await pool.compress(data, options)
    except ImageError as error:
        raised = getattr(error.__cause__, "traceback", "")  # in the worker
        return Ending(error.code, time.monotonic() - began, detail=f"{error.detail} {raised}".strip())
    return Ending(**json.loads(result.data))


def keep(folder: Path, data: bytes, what: str) -> str:
    """Writes an input beside what it did; gives what is to be told of it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(f"{what}\n", encoding="utf-8")
    return f"{path}: {what}"


def main() -> int:
    """Runs it and prints what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_imaging", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path(".fuzz"), help="folder for inputs that broke a bound")
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.workers} workers, {asked.minutes:g} minutes", flush=True)
    tally = asyncio.run(fuzz(asked.minutes, asked.seed, asked.workers, asked.keep))
    total = sum(tally.counts.values())
    print(f"{total:,} inputs: {', '.join(f'{count:,} {what}' for what, count in tally.counts.most_common())}")
    worst = ", ".join(f"{form} {seconds:.2f} s" for form, seconds in sorted(tally.worst_seconds.items()))
    print(f"worst: {worst} of CPU; {tally.worst_bytes / 2**20:.0f} MiB")
    print(*tally.broken, sep="\n")
    return int(bool(tally.broken))


if __name__ == "__main__":
    sys.exit(main())
