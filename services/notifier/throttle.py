"""Holds deliveries back that a receiver does not want yet: by its rate limit, or since it asked for time."""

import random
import time
from collections.abc import Callable
from functools import partial

from libs.documents import Addressees
from libs.mongo import patiently
from libs.webhooks import jittered
from services.notifier.recipient import Recipient

_LONGEST_SECONDS = 300.0
_KEPT = 10_000


class Throttle:
    """Says how long a delivery is to wait, which costs it no attempt.

    A rate limit holds for all notifiers together, by one update in MongoDB for each attempt (endpoints without a limit
    cost nothing). Those that come too early are put off to turns of their own, one behind the other, so that they do
    not come back together; for five minutes at most, as the limit may be raised.

    What a receiver asks by Retry-After holds for all that it is to get: of a standing endpoint for every notifier,
    within a second; of an upload's own URL for this one.
    """

    def __init__(
        self,
        addressees: Addressees,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._addressees = addressees
        self._clock = clock
        self._jitter = jitter
        self._paused: dict[str, float] = {}
        self._early: dict[str, float] = {}
        self._turns: dict[str, float] = {}

    async def wait_seconds(self, recipient: Recipient) -> float:
        """How long to put a delivery off; 0: its attempt may be made, and must be, as its turn is taken by that."""
        now = self._clock()
        paused = recipient.paused_seconds
        if recipient.endpoint_id is None:
            paused = self._paused.get(recipient.url, now) - now
        if paused > 0:
            return jittered(paused, self._jitter())
        if recipient.endpoint_id is None or recipient.rate_limit is None:
            return 0.0
        return await self._until_its_turn(recipient.endpoint_id, recipient.rate_limit)

    async def pause(self, recipient: Recipient, seconds: float) -> None:
        """Leaves the recipient alone for so long."""
        if recipient.endpoint_id is not None:
            await patiently(partial(self._addressees.pause, recipient.endpoint_id, seconds))
            return
        if len(self._paused) > _KEPT:
            now = self._clock()
            self._paused = {url: until for url, until in self._paused.items() if until > now}
        self._paused[recipient.url] = max(self._paused.get(recipient.url, 0.0), self._clock() + seconds)

    async def _until_its_turn(self, endpoint_id: str, per_second: float) -> float:
        if self._clock() >= self._early.get(endpoint_id, 0.0):
            wait = await patiently(partial(self._addressees.wait_seconds, endpoint_id, per_second))
            if not wait:
                return 0.0
            if len(self._early) > _KEPT:
                self._early.clear()  # it is learned anew; and so are the turns
                self._turns.clear()
            self._early[endpoint_id] = self._clock() + wait
        now = self._clock()
        turn = max(self._turns.get(endpoint_id, 0.0), self._early[endpoint_id])
        self._turns[endpoint_id] = turn + 1 / per_second
        if turn - now > _LONGEST_SECONDS:
            self._turns[endpoint_id] = turn
            return jittered(_LONGEST_SECONDS, self._jitter())
        return turn - now
