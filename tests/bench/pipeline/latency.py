"""How long one image takes from POST to webhook, at five a second, against its bare parts one after the other."""

import asyncio
import io
import json
import statistics
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeVar
from uuid import uuid4

from PIL import Image

from libs.mongo import Collection, Mongo
from tests.bench.bare_loop import QUALITY
from tests.bench.pipeline.bench import Bench
from tests.bench.uploads import upload

ResultT = TypeVar("ResultT")
MOST_TIMES_BARE = 2.0
PER_SECOND = 5
BLOCK = 25


@dataclass(frozen=True, slots=True)
class Posted:
    """One upload of one image: when its POST began and when it was answered, in seconds of the epoch."""

    request_id: str
    began: float
    answered: float


@dataclass(frozen=True, slots=True)
class Bare:
    """Seconds of the bare parts of one image."""

    download: float
    pillow: float
    insert: float
    post: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.download + self.pillow + self.insert + self.post


class Latency:
    """Blocks of both by turns, at the same pace."""

    def __init__(self, bench: Bench, collection: Collection) -> None:
        self._bench = bench
        self._collection = collection
        self._posted: list[Posted] = []
        self._bare: list[Bare] = []
        self._arrived: dict[str, float] = {}

    async def block(self) -> None:
        """One block of each."""
        darkroom = self._bench.darkroom
        links = self._bench.photographs(BLOCK).links
        self._posted += await _paced(self._post, links)
        await darkroom.webhooks(BLOCK)
        for received in darkroom.receiver.received[-BLOCK:]:
            self._arrived[json.loads(received.body)["request_id"]] = received.moment
        self._bare += await _paced(self._do_bare, links)

    async def _post(self, link: str) -> Posted:
        darkroom = self._bench.darkroom
        began = time.time()
        request_id = await upload(darkroom.client, darkroom.url, [link], darkroom.receiver.url)
        return Posted(request_id, began, time.time())

    async def _do_bare(self, link: str) -> Bare:
        darkroom, moments = self._bench.darkroom, [time.perf_counter()]
        async with darkroom.client.get(link) as answer:
            data = await answer.read()
        moments.append(time.perf_counter())
        output = io.BytesIO()
        Image.open(io.BytesIO(data)).save(output, "JPEG", quality=QUALITY)
        moments.append(time.perf_counter())
        await self._collection.insert_one({"_id": str(uuid4()), "url": link, "state": "completed"})
        moments.append(time.perf_counter())
        async with darkroom.client.post(darkroom.receiver.url, json={"status": "completed"}) as answer:
            answer.raise_for_status()
        moments.append(time.perf_counter())
        await darkroom.webhooks(1)
        return Bare(*(after - before for before, after in pairwise(moments)))

    async def report(self) -> bool:
        """Prints it; true when the target is met."""
        whole = [self._arrived[posted.request_id] - posted.began for posted in self._posted]
        bare = [one.total for one in self._bare]
        ratio = statistics.median(whole) / statistics.median(bare)
        print(f"\none image, {PER_SECOND} a second, {len(whole)} of each:")
        print(f"  POST to webhook: {_percentiles(whole)}")
        print(f"  bare parts, one after the other: {_percentiles(bare)}")
        parts = {name: statistics.median(getattr(one, name) for one in self._bare) for name in Bare.__slots__}
        print("    of these, p50: " + ", ".join(f"{name} {1000 * part:.2f} ms" for name, part in parts.items()))
        held = ratio <= MOST_TIMES_BARE
        print(f"  p50 {ratio:.2f} times the bare parts, at most {MOST_TIMES_BARE}{'' if held else ': MISSED'}")
        steps = [await self._steps(posted) for posted in self._posted]
        means = {name: statistics.mean(step[name] for step in steps) for name in steps[0]}
        print("  step by step, on average: " + ", ".join(f"{name} {value:.2f} ms" for name, value in means.items()))
        return held

    async def _steps(self, posted: Posted) -> dict[str, float]:
        """Milliseconds of an image from one step to the next; they add up to the whole."""
        status = await self._bench.darkroom.status(posted.request_id)
        [[facts]] = [row["facts"] for row in status["details"]]
        created, completed = (
            datetime.fromisoformat(status[name]).timestamp() for name in ("created_at", "completed_at")
        )
        stages: dict[str, float] = dict(facts["milliseconds"])
        between = 1000 * (completed - created) - sum(stages.values())
        return {
            "upload (to its transaction)": 1000 * (created - posted.began),
            **stages,
            "hand-overs and completion": between,
            "completion to webhook": 1000 * (self._arrived[posted.request_id] - completed),
        }


async def _paced(work: Callable[[str], Coroutine[Any, Any, ResultT]], links: Sequence[str]) -> list[ResultT]:
    """Begins the work on one link after the other at the pace, whether the one before is done or not."""
    began, tasks = time.monotonic(), []
    async with asyncio.TaskGroup() as group:
        for number, link in enumerate(links):
            await asyncio.sleep(began + number / PER_SECOND - time.monotonic())
            tasks.append(group.create_task(work(link), name=link))
    return [task.result() for task in tasks]


def _percentiles(seconds: Sequence[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return ", ".join(f"p{share} {1000 * cuts[share - 1]:.1f} ms" for share in (50, 95, 99))


async def time_single_images(bench: Bench, images: int) -> bool:
    """Times at least so many; true when the target is met."""
    mongo = Mongo.connect(bench.darkroom.mongo_uri, "bare")
    latency = Latency(bench, mongo.collection("images"))
    try:
        for _ in range(-(-images // BLOCK)):
            await latency.block()
        return await latency.report()
    finally:
        mongo.close()
