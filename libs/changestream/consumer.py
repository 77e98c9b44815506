"""The loop of a consumer: drain, listen, drain once more, then wait for an event, the sweep interval or the stop.

Documents are the truth and a stream only wakes: whatever an event would trigger is also found by the draining query,
so a lost event, a dead stream or lost history cost time and never work, and no resume token is stored. (The shape of a
Kubernetes informer: list, watch, list again when the history is gone.)
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import structlog
from pymongo.errors import PyMongoError

from libs.changestream.stream import Batch, ChangeStream, Event, HistoryLostError
from libs.runtime import metrics
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop

_log = structlog.get_logger()
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Wake:
    """Why the consumer is to drain, and the events that say so.

    `start`: the consumer begins or comes back after an error. `listen`: the stream is open from now on. `busy`: the
    drain before found work. `due`: delayed work is due. `sweep`: nothing has happened for the sweep interval.
    """

    cause: Literal["start", "listen", "busy", "event", "due", "sweep"]
    events: Sequence[Event] = ()


Drain: TypeAlias = Callable[[Wake], Awaitable[bool]]
"""Does all the work there is and says whether there was any; raises PyMongoError when the database does not answer."""


class Consumer:
    """Runs a drain whenever there may be work.

    `next_due_seconds` says when delayed work is due next, so that it need not wait for the sweep. `on_listening` is
    called once, at the first drain behind which the stream is open: from then on an event wakes the consumer.
    """

    def __init__(
        self,
        name: str,
        open_stream: Callable[[], ChangeStream],
        *,
        sweep_seconds: float,
        next_due_seconds: Callable[[], Awaitable[float | None]],
        stop: Stop,
        health: Health,
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._open_stream = open_stream
        self._sweep_seconds = sweep_seconds
        self._next_due_seconds = next_due_seconds
        self._stop = stop
        self._health = health
        self._on_listening = on_listening
        self._pause_seconds = 0.0

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
                await self._pause()

    def progressed(self) -> None:
        """A drain calls this after each step that the database took: the replica is alive, and ready unless stopping.

        A drain may last for hours, and only its own steps tell that it gets on.
        """
        self._health.beat()
        if not self._stop.is_set:
            self._health.set_ready()

    async def _turn(self, drain: Drain, wake: Wake) -> Wake:
        await self._drained(drain, wake)
        async with self._open_stream() as stream:
            wake = Wake("listen")
            while not self._stop.is_set:
                if await self._drained(drain, wake):
                    return Wake("busy")
                if self._on_listening is not None:
                    self._on_listening()
                    self._on_listening = None
                wake = await self._next(stream)
                if wake.cause == "event":
                    return wake
        return wake

    async def _drained(self, drain: Drain, wake: Wake) -> bool:
        metrics.WAKEUPS.labels(self._name, wake.cause).inc()
        found = await drain(wake)
        if found and wake.cause == "sweep":
            metrics.SWEEP_FINDS.labels(self._name).inc()
        self.progressed()
        return found

    async def _next(self, stream: ChangeStream) -> Wake:
        due = await self._next_due_seconds()
        sweep = self._sweep_seconds * random.uniform(0.75, 1.25)  # noqa: S311 (jitter)
        is_due_first = due is not None and due < sweep
        until = time.monotonic() + (due if due is not None and is_due_first else sweep)
        while not self._stop.is_set and (left := until - time.monotonic()) > 0:
            resumes = stream.resumes
            batch = await stream.read(left)
            self._health.beat()
            self._measure(batch)
            if batch.events:
                return Wake("event", batch.events)
            if stream.resumes == resumes:
                self._pause_seconds = 0.0
            else:
                await self._resumed()
        return Wake("due" if is_due_first else "sweep")

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
        jittered = self._pause_seconds * random.uniform(0.5, 1.0)  # noqa: S311 (jitter)
        try:
            async with asyncio.timeout(jittered):
                await self._stop.wait()
        except TimeoutError:
            return
