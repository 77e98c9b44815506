"""Claims images as slots come free, and tends what is due, lost or left open."""

import asyncio
import random
import time
from contextlib import suppress

import structlog
from pymongo.errors import PyMongoError

from libs.changestream import Consumer, Wake
from libs.documents import Documents, HeldImage
from libs.runtime import metrics
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop
from services.watcher.attempts import Attempts
from services.watcher.completion import Completion
from services.watcher.frontier import Frontier
from services.watcher.holdings import Holdings
from services.watcher.pipeline import Pipeline
from services.watcher.settings import WatcherSettings

_log = structlog.get_logger()


class Crew:
    """The watcher's work."""

    def __init__(
        self, settings: WatcherSettings, documents: Documents, pipeline: Pipeline, *, stop: Stop, health: Health
    ) -> None:
        self._settings = settings
        self._documents = documents
        self._stop = stop
        self._health = health
        self._frontier = Frontier()
        self._completion = Completion(documents)
        self._attempts = Attempts(settings, documents, pipeline, self._completion)
        self._holdings = Holdings(documents.images.leases, settings.in_flight)
        self._next_sweep = 0.0

    async def run(self, consumer: Consumer) -> None:
        """Works until the stop, then lets what is held finish within `shutdown_seconds` and gives the rest back."""
        async with asyncio.TaskGroup() as group:
            side_tasks = [
                group.create_task(self._completion.run(), name="completion"),
                group.create_task(self._holdings.run_renewals(), name="renewals"),
                group.create_task(self._notice_stop(), name="stop"),
            ]
            self._group = group
            await consumer.run(self._drain)
            await self._finish()
            for task in side_tasks:
                task.cancel()

    async def _notice_stop(self) -> None:
        await self._stop.wait()
        self._health.set_unready("stopping")
        self._holdings.nudge()

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(self._settings.shutdown_seconds):
                await self._holdings.wait_until_empty()
        except TimeoutError:
            with suppress(PyMongoError):  # then the leases expire by themselves
                await self._holdings.give_back()

    async def _drain(self, wake: Wake) -> bool:
        self._look_where(wake)
        found = False
        while not self._stop.is_set:
            if time.monotonic() >= self._next_sweep or wake.cause in {"start", "due", "sweep"}:
                await self._sweep()
                wake = Wake("busy")
            if not self._holdings.free:
                await self._holdings.wait_for_change()
            elif await self._claim():
                found = True
                self._health.beat()
            else:
                break
        return found

    def _look_where(self, wake: Wake) -> None:
        if wake.cause in {"start", "listen", "sweep"}:
            self._frontier.reset()
        for event in wake.events:
            self._frontier.lower(float(event["rank"]))

    async def _sweep(self) -> None:
        leases = self._documents.images.leases
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 (spreads the replicas)
        self._next_sweep = time.monotonic() + self._settings.sweep_seconds * jitter
        if reaped := await leases.reap():
            metrics.LEASES_EXPIRED.labels("images").inc(reaped)
            _log.warning("lease.expired", images=reaped)
        await leases.promote()
        for request_id, status in await self._documents.requests.sweep():
            metrics.REQUESTS_CLOSED.labels(status).inc()
            _log.info("request.closed", request_id=request_id, status=status, by="sweep")
        self._frontier.reset()

    async def _claim(self) -> bool:
        claim, images = await self._documents.images.claim(self._holdings.free, start=self._frontier.start)
        if not images:
            return False
        metrics.IMAGES_CLAIMED.inc(len(images))
        self._frontier.claimed(images[0].rank)
        for image in images:
            work = self._work_alone(image) if claim.alone else self._attempts.work(image)
            self._holdings.add(image, work, self._group)
        while claim.alone and not self._holdings.is_empty and not self._stop.is_set:
            await self._holdings.wait_for_change()
        return True

    async def _work_alone(self, image: HeldImage) -> None:
        await self._holdings.wait_until_alone()
        await self._attempts.work(image)
