"""The loop of a consumer: drain, listen, drain once more, then wait for an event, the sweep interval or the stop.

Documents are the truth and a stream only wakes: whatever an event would trigger is also found by the draining query,
so a lost event, a dead stream or lost history cost time and never work, and no resume token is stored. (The shape of a
Kubernetes informer: list, watch, list again when the history is gone.) A replica that gets no permit to listen drains
about every second instead.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import structlog
from pymongo.errors import ConnectionFailure, PyMongoError

from libs.changestream.permits import Permit, Permits
from libs.changestream.stream import Batch, ChangeStream, Event, HistoryLostError
from libs.runtime import metrics
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop

_log = structlog.get_logger()
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_POLL_SECONDS = 1.0
_ASK_SECONDS = 3.0  # for a permit, after a refusal
_RARER = 4
_DUE_SECONDS = 0.2
_AWAY_SECONDS = 0.5  # short, since a MongoDB that is away makes every try wait as well, and work should soon go on


@dataclass(frozen=True, slots=True)
class Wake:
    """Why the consumer is to drain, and the events that say so.

    `start`: the consumer begins or comes back after an error. `listen`: the stream is open from now on. `due`: delayed
    work is due. `sweep`: nothing has happened for the sweep interval. `poll`: a replica without a stream looks whether
    there is new work; many do so every second, so it must cost next to nothing.
    """

    cause: Literal["start", "listen", "event", "due", "sweep", "poll"]
    events: Sequence[Event] = ()


Drain: TypeAlias = Callable[[Wake], Awaitable[bool]]
"""Does all the work there is and says whether there was any; raises PyMongoError when the database does not answer."""


class Consumer:
    """Runs a drain whenever there may be work.

    Of its replicas those with one of the `permits` listen to the stream. `next_due_seconds` says when delayed work is
    due next, so that it need not wait for the sweep. `on_ready` is called once, when the consumer first waits, so that
    new work wakes it, or when it has found so much to do that it does not come to wait.
    """

    def __init__(
        self,
        name: str,
        open_stream: Callable[[], ChangeStream],
        permits: Permits,
        *,
        sweep_seconds: float,
        next_due_seconds: Callable[[], Awaitable[float | None]],
        stop: Stop,
        health: Health,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._open_stream = open_stream
        self._permits = permits
        self._sweep_seconds = sweep_seconds
        self._next_due_seconds = next_due_seconds
        self._stop = stop
        self._health = health
        self._on_ready = on_ready
        self._pause_seconds = 0.0
        self._ask_at = 0.0
        self._due_from = 0.0
        self._sweep_at = 0.0

    async def run(self, drain: Drain) -> None:
        """Returns after the stop; waits out errors of the database, being not ready meanwhile."""
        wake = Wake("start")
        while not self._stop.is_set:
            try:
                wake = await self._turn(drain, wake)
            except HistoryLostError as error:
                metrics.STREAM_RELISTS.labels(self._name).inc()
                _log.warning("changestream.relist", consumer=self._name, reason=str(error))
                wake = Wake("start")
                self._health.beat()
                await self._pause()
            except PyMongoError as error:
                self._health.set_unready("MongoDB does not answer")
                _log.warning("changestream.database_away", consumer=self._name, error=repr(error)[:500])
                wake = Wake("start")
                self._health.beat()
                if isinstance(error, ConnectionFailure) or error.timeout:
                    await self._sleep(_AWAY_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
                else:
                    await self._pause()

    def progressed(self) -> None:
        """A drain calls this after each step that the database took: the replica is alive, and ready unless stopping.

        A drain may last for hours, and only its own steps tell that it gets on.
        """
        self._gets_on()
        self._is_ready()

    def _gets_on(self) -> None:
        self._health.beat()
        if not self._stop.is_set:
            self._health.set_ready()

    def _is_ready(self) -> None:
        if self._on_ready is not None:
            self._on_ready()
            self._on_ready = None

    async def _turn(self, drain: Drain, wake: Wake) -> Wake:
        await self._drained(drain, wake)
        if time.monotonic() < self._ask_at:
            return await self._poll()
        async with self._permits.one() as permit:
            if permit is None:
                self._ask_at = time.monotonic() + _jittered(_ASK_SECONDS)
                return await self._poll()
            async with self._open_stream() as stream:
                wake = Wake("listen")
                # While it drains nobody reads the stream or renews the permit: a long drain lets others listen.
                while not self._stop.is_set and await permit.lasts():
                    await self._drained(drain, wake)
                    self._is_ready()
                    wake = await self._next(stream, permit)
        return wake

    async def _drained(self, drain: Drain, wake: Wake) -> None:
        metrics.WAKEUPS.labels(self._name, wake.cause).inc()
        if wake.cause != "poll":
            # For those that poll: the others sweep already.
            self._sweep_at = time.monotonic() + _jittered(_RARER * self._sweep_seconds)
        found = await drain(wake)
        if found and wake.cause == "sweep":
            metrics.SWEEP_FINDS.labels(self._name).inc()
        self._gets_on()

    async def _poll(self) -> Wake:
        self._is_ready()
        self._pause_seconds = 0.0
        await self._sleep(_jittered(_POLL_SECONDS))
        return Wake("sweep" if time.monotonic() >= self._sweep_at else "poll")

    async def _next(self, stream: ChangeStream, permit: Permit) -> Wake:
        until = time.monotonic() + _jittered(self._sweep_seconds)
        while not self._stop.is_set and (left := until - time.monotonic()) > 0:
            # Asked anew behind each read, since work is put off while the consumer waits, here and elsewhere.
            due = await self._next_due_seconds()
            if due is not None:
                due = max(due, self._due_from - time.monotonic())
                if due <= 0:
                    # Soon it is asked again; but what is locked stays due, and must not keep the loop busy.
                    self._due_from = time.monotonic() + _DUE_SECONDS
                    return Wake("due")
            resumes = stream.resumes
            batch = await stream.read(left if due is None else min(due, left))
            self._health.beat()
            self._measure(batch)
            if stream.resumes != resumes:
                await self._resumed()
            else:
                self._pause_seconds = 0.0
            if batch.events:
                return Wake("event", batch.events)
            if not await permit.lasts():
                return Wake("poll")
        return Wake("sweep")

    async def _resumed(self) -> None:
        """Pauses, and longer each time until a read succeeds, so that a stream that keeps breaking is not hot."""
        metrics.STREAM_RESUMES.labels(self._name).inc()
        _log.info("changestream.resumed", consumer=self._name)
        await self._pause()

    def _measure(self, batch: Batch) -> None:
        metrics.STREAM_EVENTS.labels(self._name).inc(len(batch.events))
        if batch.cluster_time is not None:
            age = (datetime.now(UTC) - batch.cluster_time).total_seconds()
            metrics.STREAM_LAG_SECONDS.labels(self._name).set(max(0.0, age))

    async def _pause(self) -> None:
        self._pause_seconds = min(max(_FIRST_PAUSE_SECONDS, self._pause_seconds * 2), _LONGEST_PAUSE_SECONDS)
        await self._sleep(self._pause_seconds * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)

    async def _sleep(self, seconds: float) -> None:
        """Returns after that time, or at the stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 (spreads the replicas)
