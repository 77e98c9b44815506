"""Attempts what is held, where it may be attempted now, and decides what comes of it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from libs.documents import Delivery, Ending, endpoint_of
from libs.mongo import patiently
from libs.runtime import metrics
from libs.webhooks import jittered, next_attempt_seconds
from services.notifier.breaker import Breaker
from services.notifier.credit import Credit
from services.notifier.directory import Directory
from services.notifier.recipient import Recipient
from services.notifier.reputation import Reputation
from services.notifier.sender import INTERNAL, Outcome, Sender
from services.notifier.throttle import Throttle


class Postman:
    """Makes one attempt at a delivery, and learns from it what it means for others.

    `schedule` has the pauses in seconds between attempts. What may not be attempted yet, by `breaker` or `throttle`, is
    put off and charged nothing.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        directory: Directory,
        throttle: Throttle,
        breaker: Breaker,
        reputation: Reputation,
        credit: Credit,
        schedule: Sequence[float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._sender = sender
        self._directory = directory
        self._throttle = throttle
        self._breaker = breaker
        self._reputation = reputation
        self._credit = credit
        self._schedule = schedule
        self._jitter = jitter

    async def attempt(self, delivery: Delivery) -> Ending:
        """What became of a held delivery, whose attempt was made unless the ending has none."""
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
