"""Claims deliveries as slots come free, attempts them side by side, and decides what comes of each."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from libs.documents import Deliveries, Delivery, Ending
from libs.leases import Holdings, Settle
from libs.mongo import patiently
from libs.runtime.lifecycle import Stop
from libs.runtime.trace import trace_id
from libs.webhooks import next_attempt_seconds
from services.notifier.ledger import Ledger
from services.notifier.sender import Outcome, Sender


class Courier:
    """Delivers what `holdings` has slots for.

    No endpoint gets more than `each` attempts at once, so one that hangs leaves the others their slots. `schedule` has
    the pauses in seconds between attempts.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        ledger: Ledger,
        holdings: Holdings[Delivery],
        *,
        each: int,
        schedule: Sequence[float],
        stop: Stop,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._ledger = ledger
        self._holdings = holdings
        self._each = each
        self._schedule = schedule
        self._stop = stop
        self._jitter = jitter
        self._filling = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fills slots as they come free until the stop, so that a drain need not wait for them."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._refill(), name="refilling")
            yield

    async def _refill(self) -> None:
        while not self._stop.is_set:
            await self._holdings.wait()
            await patiently(self.fill)

    async def fill(self) -> bool:
        """Starts deliveries until none is left, every slot is taken or every endpoint has its share; true when any."""
        found = False
        async with self._filling:
            while self._holdings.free and not self._stop.is_set:
                claimed = await self._deliveries.claim(
                    self._holdings.free, each=self._each, held=self._holdings.working
                )
                if not claimed:
                    break
                found = True
                for delivery in claimed:
                    self._holdings.start(delivery, self._deliver, name=f"delivery {delivery.webhook_id}")
        return found

    async def _deliver(self, delivery: Delivery, settle: Settle) -> None:
        with structlog.contextvars.bound_contextvars(
            request_id=delivery.request_id, trace_id=trace_id(delivery.trace), webhook_id=delivery.webhook_id
        ):
            outcome = await self._sender.send(delivery)
            settle()
            await self._ledger.note(self._ending(delivery, outcome))

    def _ending(self, delivery: Delivery, outcome: Outcome) -> Ending:
        if outcome.verdict == "delivered":
            return Ending(delivery, outcome.attempt, "delivered")
        seconds = self._pause_seconds(delivery, outcome)
        if seconds is None:
            return Ending(delivery, outcome.attempt, "failed")
        return Ending(delivery, outcome.attempt, "delayed", seconds)

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
