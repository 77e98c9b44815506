"""Claims images as slots come free, and tends what is due, lost or left open."""

import asyncio
import random
import time
from collections.abc import Callable

import structlog

from libs.changestream import Wake
from libs.documents import Documents, HeldImage
from libs.leases import Claim, Holdings
from libs.runtime import metrics
from libs.runtime.lifecycle import Stop
from services.watcher.attempts import Attempts
from services.watcher.briefs import Briefs
from services.watcher.frontier import Frontier
from services.watcher.hosts import Hosts

_log = structlog.get_logger()
_TURN_SECONDS = 10.0
# Behind a claim that found fewer than it wanted: to look again at once would take the processors from what has begun.
_LULL_SECONDS = 0.01


class Crew:
    """The watcher's work.

    `progressed` is called after each step of it, at the latest every ten seconds; `on_claim` is told of each claim.
    """

    def __init__(
        self,
        documents: Documents,
        attempts: Attempts,
        holdings: Holdings[HeldImage],
        hosts: Hosts,
        frontier: Frontier,
        *,
        briefs: Briefs,
        sweep_seconds: float,
        stop: Stop,
        progressed: Callable[[], None],
        on_claim: Callable[[Claim], None] = lambda _: None,
    ) -> None:
        self._documents = documents
        self._attempts = attempts
        self._holdings = holdings
        self._hosts = hosts
        self._briefs = briefs
        self._sweep_seconds = sweep_seconds
        self._stop = stop
        self._progressed = progressed
        self._on_claim = on_claim
        self._frontier = frontier
        self._next_sweep = 0.0
        self._runs_suspect = False

    async def drain(self, wake: Wake) -> bool:
        """Claims until nothing is left that could be claimed, sweeping now and then; true when it found anything."""
        self._look_where(wake)
        if wake.cause in {"start", "sweep"}:
            self._next_sweep = 0.0
        elif wake.cause == "due" and await self._documents.images.leases.tend():
            self._frontier.reset()
        found = False
        while not self._stop.is_set:
            # One of many that are idle and only look whether there is new work leaves the sweep to the others.
            is_poll = wake.cause == "poll" and not self._holdings.items
            if time.monotonic() >= self._next_sweep and not is_poll:
                await self._sweep()
            limit = self._hosts.limit(self._holdings.free, self._holdings.working) if self._may_claim else 0
            claim = await self._claim(limit) if limit > 0 else None
            if claim is None or (claim.alone and not claim.documents):
                if self._holdings.items:  # every slot or share is taken, or a suspect runs or waits until nothing is
                    await self._holdings.wait(self._pause_seconds)
            elif claim.documents:
                found = True
                await self._hosts.make_way(claim, self._holdings.working)
                # What is over at once gives its slot back before more is claimed.
                await asyncio.sleep(_LULL_SECONDS if claim.exhausted else 0)
            elif not (claim.outrun or await self._hosts.make_way(claim, self._holdings.working)):
                if not claim.withheld:
                    break
                await self._holdings.wait(self._pause_seconds)
            self._progressed()
        return found

    @property
    def _may_claim(self) -> bool:
        return not (self._runs_suspect and self._holdings.items)

    @property
    def _pause_seconds(self) -> float:
        """How long to wait for a change of what is held."""
        seconds = min(_TURN_SECONDS, self._next_sweep - time.monotonic())
        return min(seconds, self._hosts.look_seconds or seconds) if self._may_claim else seconds

    def _look_where(self, wake: Wake) -> None:
        if wake.cause in {"start", "listen", "sweep", "poll"}:
            self._frontier.reset()
        for event in wake.events:
            self._frontier.lower(float(event["rank"]))
            self._briefs.told(event["request_id"], event["request"])

    async def _sweep(self) -> None:
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 (spreads the replicas)
        self._next_sweep = time.monotonic() + self._sweep_seconds * jitter
        await self._documents.images.leases.tend()
        for request_id, status in await self._documents.requests.sweep():
            metrics.REQUESTS_CLOSED.labels(status).inc()
            _log.info("request.closed", request_id=request_id, status=status, by="sweep")
        self._frontier.reset()

    async def _claim(self, limit: int) -> Claim:
        claim, images = await self._documents.images.claim(
            limit,
            start=self._frontier.start,
            beside=len(self._holdings.items),
            shares=self._hosts.shares(self._holdings.working),
        )
        self._runs_suspect = claim.alone and bool(images)
        for image in images:
            self._holdings.start(image, self._attempts.work, name=f"image {image.request_id}/{image.position}")
        metrics.IMAGES_CLAIMED.inc(len(images))
        self._on_claim(claim)
        if claim.first is not None:
            self._frontier.claimed(claim.first)
        return claim
