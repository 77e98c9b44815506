"""Deliveries to silent hosts, out of the way of all others."""

import time
from collections.abc import Callable, Sequence

import structlog

from libs.documents import Deliveries
from libs.runtime import metrics
from libs.webhooks import jittered
from services.notifier.breaker import Breaker

_log = structlog.get_logger()
_SECONDS = 0.5
_AT_ONCE = 1_000


class Clearance:
    """Puts off what is queued for hosts that are silent by `breaker`, so that claims need not read past it each time.

    What is older than all pauses of `schedule` fails: it would not be tried again either if it had been tried.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        breaker: Breaker,
        schedule: Sequence[float],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deliveries = deliveries
        self._breaker = breaker
        self._schedule = schedule
        self._clock = clock
        self._next_at = 0.0

    async def make(self) -> None:
        """Puts off the first thousand; does nothing for half a second behind a call that found fewer.

        Raises:
            pymongo.errors.PyMongoError: some may be in the way still.
        """
        hosts = self._breaker.closed_to_all
        if not hosts or self._clock() < self._next_at:
            return
        give_up_seconds = jittered(sum(self._schedule), 1.0)
        put_off = await self._deliveries.clearing.put_off(hosts, give_up_seconds=give_up_seconds, most=_AT_ONCE)
        metrics.WEBHOOKS_PUT_OFF.labels("silent").inc(put_off.delayed)
        metrics.WEBHOOKS_PUT_OFF.labels("moved").inc(put_off.moved)
        for host, count in put_off.failed.items():
            _, code = hosts[host]
            metrics.WEBHOOKS_FAILED.labels(code).inc(count)
            _log.warning("deliveries.given_up", endpoint=host, code=code, deliveries=count)
        if put_off.moved + put_off.delayed + sum(put_off.failed.values()) < _AT_ONCE:
            self._next_at = self._clock() + _SECONDS
