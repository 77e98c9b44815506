"""Claims deliveries as slots come free, attempts them side by side, and writes down what came of each."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import structlog

from libs.documents import Deliveries, Delivery
from libs.mongo import patiently
from libs.runtime import metrics
from libs.runtime.lifecycle import Stop
from libs.runtime.trace import trace_id
from libs.webhooks import next_attempt_seconds
from services.notifier.holdings import Holdings
from services.notifier.sender import Outcome, Sender
from services.notifier.turns import NoTurnError, Turns, endpoint_of

_log = structlog.get_logger()
_SHORTEST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 5.0


class Courier:
    """Delivers with at most `in_flight` deliveries in hand.

    No endpoint gets more than a quarter of that many attempts at once, so one that hangs leaves the others their slots.
    The work runs as tasks of `tasks`; `schedule` has the pauses in seconds between attempts. A delivery that lost two
    leases is claimed by itself but attempted beside others: nothing of it is decoded here, so it is not what ended its
    holders.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        *,
        in_flight: int,
        schedule: Sequence[float],
        tasks: asyncio.TaskGroup,
        stop: Stop,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._schedule = schedule
        self._tasks = tasks
        self._stop = stop
        self._jitter = jitter
        self._holdings = Holdings(deliveries.leases, in_flight)
        self._turns = Turns(max(1, in_flight // 4))

    @property
    def free(self) -> int:
        """Slots that are free."""
        return self._holdings.free

    async def run_renewals(self) -> None:
        """Keeps the leases of what is held, until cancelled."""
        await self._holdings.run_renewals()

    async def claim(self) -> bool:
        """Claims as many deliveries as there are free slots and starts them; false when there was none or no slot.

        One whose endpoint has its share of attempts running is put off, at no charge.
        """
        if self._stop.is_set or not self.free:
            return False
        _, claimed = await self._deliveries.claim(self.free)
        if self._stop.is_set:
            await self._holdings.release(claimed)
            return False
        for delivery in claimed:
            task = self._tasks.create_task(self._deliver(delivery), name=f"delivery {delivery.webhook_id}")
            self._holdings.add(delivery, task)
        return bool(claimed)

    async def wait_for_slot(self, seconds: float) -> None:
        """Returns when an attempt has ended, at the stop, or after `seconds`."""
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({*self._holdings.tasks, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    async def finish(self, deadline: float) -> None:
        """Lets what runs end before `deadline`, by the event loop's clock, and gives the rest back.

        Ends a third of a lease later at the latest, for outcomes that are being written down, and one operation that
        releases.
        """
        left_seconds = deadline - asyncio.get_running_loop().time()
        if self._holdings.tasks:
            await asyncio.wait(self._holdings.tasks, timeout=max(0.0, left_seconds))
        await self._holdings.give_back()

    async def _deliver(self, delivery: Delivery) -> None:
        with structlog.contextvars.bound_contextvars(
            request_id=delivery.request_id, trace_id=trace_id(delivery.trace), webhook_id=delivery.webhook_id
        ):
            try:
                async with self._turns.taken(endpoint_of(delivery.url)):
                    outcome: Outcome | NoTurnError = await self._sender.send(delivery)
            except NoTurnError as error:
                outcome = error
            self._holdings.settled(delivery)
            # However long MongoDB takes to answer: an outcome that is not written down is an attempt made again.
            async for attempt in patiently():
                with attempt:
                    await self._write(delivery, outcome)
            self._holdings.drop(delivery)

    async def _write(self, delivery: Delivery, outcome: Outcome | NoTurnError) -> None:
        if isinstance(outcome, NoTurnError):
            await self._put_off(delivery, outcome.full_seconds)
        else:
            await self._record(delivery, outcome)

    async def _put_off(self, delivery: Delivery, full_seconds: float) -> None:
        """For about as long as the endpoint has been full: briefly at first, longer while it hangs."""
        seconds = min(max(full_seconds, _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS) * (0.75 + self._jitter() / 2)
        await self._deliveries.leases.delay(delivery.token, delivery.webhook_id, seconds, {})
        metrics.DELIVERIES_PUT_OFF.inc()

    async def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        attempt = outcome.attempt
        facts = {
            "endpoint": endpoint_of(delivery.url),
            "status": attempt.status,
            "attempts": delivery.attempts_made + 1,
            "milliseconds": round(attempt.seconds * 1000),
        }
        if outcome.verdict == "delivered":
            if _noted(await self._deliveries.delivered(delivery, attempt), "delivered", ""):
                metrics.WEBHOOK_AGE_SECONDS.observe(max(0.0, time.time() - delivery.rank))
                _log.info("delivery.delivered", **facts)
            return
        code = attempt.error or ""
        seconds = self._pause_seconds(delivery, outcome)
        if seconds is None:
            if _noted(await self._deliveries.failed(delivery, attempt), "failed", code):
                _log.warning("delivery.failed", code=code, detail=attempt.detail, **facts)
        elif _noted(await self._deliveries.retry(delivery, attempt, seconds), "retry", code):
            _log.info("delivery.retry", code=code, detail=attempt.detail, seconds=round(seconds, 3), **facts)

    def _pause_seconds(self, delivery: Delivery, outcome: Outcome) -> float | None:
        """Until the next attempt; None: there is none."""
        if outcome.verdict == "failed":
            return None
        return next_attempt_seconds(
            self._schedule,
            delivery.attempts_made + 1,
            jitter=self._jitter(),
            retry_after_seconds=outcome.retry_after_seconds,
        )


def _noted(written: bool, outcome: str, code: str) -> bool:
    """Counts the attempt, as fenced when the lease had passed to another notifier. Passes `written` on."""
    metrics.WEBHOOK_ATTEMPTS.labels(outcome if written else "fenced", code).inc()
    if not written:
        _log.warning("delivery.fenced", outcome=outcome)
    return written
