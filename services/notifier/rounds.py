"""The notifier's drain: round after round until nothing is left to start."""

import random
import time
from collections.abc import Callable

import structlog
from pymongo.errors import PyMongoError

from libs.changestream import Wake
from libs.documents import Deliveries
from libs.runtime.lifecycle import Stop
from services.notifier.announcer import Announcer
from services.notifier.courier import Courier
from services.notifier.room import Room

_log = structlog.get_logger()


class Rounds:
    """A drain for `libs.changestream.Consumer`; `progressed` is called after each round that found something to do.

    A drain ends when nothing can be started, not when the last attempt has ended: a new event finds the notifier
    listening while every endpoint hangs, and what is closed meanwhile is announced for other notifiers to deliver.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        announcer: Announcer,
        courier: Courier,
        room: Room,
        *,
        sweep_seconds: float,
        stop: Stop,
        progressed: Callable[[], None],
    ) -> None:
        self._deliveries = deliveries
        self._announcer = announcer
        self._courier = courier
        self._room = room
        self._sweep_seconds = sweep_seconds
        self._stop = stop
        self._progressed = progressed
        self._next_sweep = 0.0

    async def drain(self, wake: Wake) -> bool:
        """Starts and announces deliveries until none is left, sweeping now and then; true when it found anything."""
        if wake.cause in {"start", "due", "sweep"}:
            self._next_sweep = 0.0
            self._announcer.look_around()
        found = False
        # One of many that only look whether there is new work leaves the sweep to the others.
        while not self._stop.is_set and await self._round(sweeps=found or wake.cause != "poll"):
            found = True
            self._progressed()
        return found

    async def end(self) -> None:
        """Gives back what was announced and not begun, once no drain comes any more; what it cannot, expires."""
        try:
            await self._deliveries.doubts.settle()
        except PyMongoError as error:
            _log.warning("lease.release_failed", collection="deliveries", error=repr(error)[:300])

    async def _round(self, *, sweeps: bool) -> bool:
        tended = await self._deliveries.doubts.settle()
        if sweeps and time.monotonic() >= self._next_sweep:
            tended += await self._sweep()
        if tended:
            self._room.left_some()
        # What is announced is started at once: what was there before is being started whenever a slot comes free.
        announced = await self._announcer.announce()
        # Mostly by its announcement: nothing is left then.
        started = not (announced and self._room.idle_seconds) and await self._courier.fill()
        told = await self._announcer.tell()
        if told:
            self._room.left_some()
        return bool(tended or announced or started or told)

    async def _sweep(self) -> int:
        """Takes back what was lost and promotes what is due, all of it before the next sweep is due."""
        tended = await self._deliveries.leases.tend()
        if not tended:
            jitter = random.uniform(0.75, 1.25)  # noqa: S311 (spreads the replicas)
            self._next_sweep = time.monotonic() + self._sweep_seconds * jitter
        return tended
