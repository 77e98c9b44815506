"""Claims deliveries as slots come free, attempts them side by side, and decides what comes of each."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import structlog
from pymongo.errors import PyMongoError

from libs.documents import Deliveries, Delivery, Ending, NewDelivery, endpoint_of
from libs.leases import Holdings, Settle
from libs.mongo import patiently
from libs.runtime import metrics
from libs.runtime.lifecycle import Stop
from libs.runtime.trace import trace_id
from libs.webhooks import jittered, next_attempt_seconds
from services.notifier.breaker import Breaker
from services.notifier.credit import Credit
from services.notifier.directory import Directory
from services.notifier.ledger import Ledger
from services.notifier.recipient import Recipient
from services.notifier.reputation import Reputation
from services.notifier.room import Beginning, Room
from services.notifier.sender import INTERNAL, Outcome, Sender
from services.notifier.throttle import Throttle

_log = structlog.get_logger()
_CLEARING_SECONDS = 0.5
_CLEARED_AT_ONCE = 1_000
_PACE_SECONDS = 0.01
_WORTH_A_CLAIM = 16


class Courier:
    """Delivers what there is `room` for in `holdings`.

    No host gets more attempts at once than `credit` gives it, so one that hangs leaves the others their slots.
    `schedule` has the pauses in seconds between attempts. What may not be attempted yet, by `breaker` or `throttle`, is
    put off and charged nothing.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        ledger: Ledger,
        holdings: Holdings[Delivery],
        room: Room,
        *,
        directory: Directory,
        throttle: Throttle,
        breaker: Breaker,
        reputation: Reputation,
        credit: Credit,
        schedule: Sequence[float],
        stop: Stop,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._ledger = ledger
        self._holdings = holdings
        self._room = room
        self._directory = directory
        self._throttle = throttle
        self._breaker = breaker
        self._reputation = reputation
        self._credit = credit
        self._schedule = schedule
        self._stop = stop
        self._jitter = jitter
        self._filling = asyncio.Lock()
        self._clear_at = 0.0
        self._claim_at = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fills slots as they come free until the stop, so that a drain need not wait for them."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._refill(), name="refilling")
            yield

    async def _refill(self) -> None:
        seconds: float | None = None
        while not self._stop.is_set:
            await self._holdings.wait(seconds)
            # Put off, and not left out: what it was woken for may have come behind the last look.
            seconds = self._room.idle_seconds or None
            if seconds is None:
                await patiently(self.fill)

    @asynccontextmanager
    async def begin(self, new: Sequence[NewDelivery]) -> AsyncIterator[Beginning]:
        """Keeps room for those of `new` that may be attempted at once, and starts in the end what of them is held then.

        From the stop on nothing is started: it is given back.
        """
        with self._room.kept([] if self._stop.is_set else new) as beginning:
            yield beginning
            if self._stop.is_set:
                await self._give_back(beginning.held)
            else:
                self._start(beginning.held)

    async def fill(self) -> bool:
        """Starts deliveries until none is left, every slot is taken or every host has its share; true when any."""
        found = False
        async with self._filling:
            while self._room.free > 0 and not self._stop.is_set:
                await self._clear()
                await self._let_slots_gather()
                free, taken = self._room.free, self._room.taken
                if free <= 0:  # kept meanwhile for what is being announced
                    break
                self._room.looking()
                claimed = await self._deliveries.claim(free, each=self._room.each, running=taken)
                if not claimed:
                    self._room.looked(taken)
                    break
                found = True
                self._start(claimed)
        return found

    async def _give_back(self, held: Sequence[Delivery]) -> None:
        tokens, ids = {delivery.token for delivery in held}, [delivery.webhook_id for delivery in held]
        try:
            metrics.LEASES_RELEASED.labels("deliveries").inc(await self._deliveries.leases.release(tokens, ids))
        except PyMongoError as error:  # their leases end
            _log.warning("lease.release_failed", collection="deliveries", error=repr(error)[:300])

    def _start(self, claimed: Iterable[Delivery]) -> None:
        for delivery in claimed:
            self._holdings.start(delivery, self._deliver, name=f"delivery {delivery.webhook_id}")

    async def _let_slots_gather(self) -> None:
        """Under load, waits up to a hundredth of a second: a claim costs about the same for one as for sixteen."""
        now = time.monotonic()
        if self._room.free < _WORTH_A_CLAIM and now < self._claim_at:
            await asyncio.sleep(self._claim_at - now)
        self._claim_at = time.monotonic() + _PACE_SECONDS

    async def _clear(self) -> None:
        """Gets deliveries to silent hosts out of the way, so that claims need not read past them each time."""
        hosts = self._breaker.closed_to_all
        if not hosts or time.monotonic() < self._clear_at:
            return
        # What is older than all pauses of the schedule would not be tried again either if it had been tried.
        give_up_seconds = jittered(sum(self._schedule), 1.0)
        put_off = await self._deliveries.clearing.put_off(hosts, give_up_seconds=give_up_seconds, most=_CLEARED_AT_ONCE)
        metrics.WEBHOOKS_PUT_OFF.labels("silent").inc(put_off.delayed)
        metrics.WEBHOOKS_PUT_OFF.labels("moved").inc(put_off.moved)
        for host, count in put_off.failed.items():
            _, code = hosts[host]
            metrics.WEBHOOKS_FAILED.labels(code).inc(count)
            _log.warning("deliveries.given_up", endpoint=host, code=code, deliveries=count)
        if put_off.moved + put_off.delayed + sum(put_off.failed.values()) < _CLEARED_AT_ONCE:
            self._clear_at = time.monotonic() + _CLEARING_SECONDS

    async def _deliver(self, delivery: Delivery, settle: Settle) -> None:
        # For good: a task has a context of its own.
        structlog.contextvars.bind_contextvars(
            request_id=delivery.request_id, trace_id=trace_id(delivery.trace), webhook_id=delivery.webhook_id
        )
        ending = await self._ending(delivery)
        settle()
        await self._ledger.note(ending)

    async def _ending(self, delivery: Delivery) -> Ending:
        recipient = await self._directory.recipient(delivery)
        if recipient.barred:
            return Ending(delivery, None, "failed", reason=recipient.barred)
        if recipient.url != delivery.url:
            host = endpoint_of(recipient.url)
            delivery, moved = replace(delivery, url=recipient.url, endpoint=host), host != delivery.endpoint
            if moved:  # of the new host it is to have the share, and the circuit
                return _put_off(delivery, 0.0, "moved")
        with self._breaker.passing(delivery.endpoint) as attempt:
            if attempt.seconds:
                return _put_off(delivery, jittered(attempt.seconds, self._jitter()), "silent")
            if seconds := await self._throttle.wait_seconds(recipient):
                return _put_off(delivery, seconds, "throttled")
            with self._credit.attempt(delivery.endpoint) as answered:
                outcome = await self._sender.send(delivery, recipient)
                attempt.ended(outcome.attempt.error)
                if attempt.answered:
                    answered()
        await self._learn(recipient, outcome)
        return self._judged(delivery, outcome)

    async def _learn(self, recipient: Recipient, outcome: Outcome) -> None:
        """Draws from an attempt what it means for all else that the recipient is to get."""
        if outcome.busy and outcome.retry_after_seconds:
            await self._throttle.pause(recipient, min(outcome.retry_after_seconds, max(self._schedule, default=0.0)))
        if recipient.endpoint_id is None:
            return
        good = outcome.verdict == "delivered"
        if outcome.attempt.error != INTERNAL:  # which says nothing of the receiver
            self._reputation.note(recipient.endpoint_id, outcome.attempt.started_at, good=good)
        if outcome.refusal:
            await patiently(partial(self._reputation.disable, recipient.endpoint_id, outcome.refusal))
        if outcome.refusal or outcome.busy:
            self._directory.forget(recipient.endpoint_id)

    def _judged(self, delivery: Delivery, outcome: Outcome) -> Ending:
        if outcome.verdict == "delivered":
            return Ending(delivery, outcome.attempt, "delivered")
        seconds = self._pause_seconds(delivery, outcome)
        if seconds is None:
            return Ending(delivery, outcome.attempt, "failed", reason=outcome.attempt.error)
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


def _put_off(delivery: Delivery, seconds: float, cause: str) -> Ending:
    metrics.WEBHOOKS_PUT_OFF.labels(cause).inc()
    return Ending(delivery, None, "delayed", seconds)
