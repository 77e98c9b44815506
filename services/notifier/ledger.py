"""Writes down what came of attempts, many in one call."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog
from structlog.typing import FilteringBoundLogger

from libs.documents import Deliveries, Ending
from libs.mongo import patiently
from libs.runtime import metrics
from libs.runtime.batches import Batches
from libs.runtime.trace import trace_id

_log: FilteringBoundLogger = structlog.get_logger()
_BATCH = 128
_PACE_SECONDS = 0.01  # in which endings gather under load: one call costs about the same for one as for sixteen


class Ledger:
    """Records the endings of attempts, and counts and logs them.

    With a call for each, recording was a third of what a notifier asks of MongoDB.
    """

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._endings = Batches(self._record, most=_BATCH, pace_seconds=_PACE_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Records while the context lasts."""
        async with self._endings.running("ledger"):
            yield

    async def note(self, ending: Ending) -> None:
        """Returns once it is recorded, or known that the delivery was no longer held."""
        await self._endings.result(ending)

    async def _record(self, endings: Sequence[Ending]) -> Sequence[bool]:
        # However long MongoDB takes to answer: an outcome that is not written down is an attempt made again.
        recorded = await patiently(partial(self._deliveries.record, endings))
        # Here, one behind the other: between all else, in the tasks of the deliveries, the same takes longer.
        for ending, written in zip(endings, recorded, strict=True):
            _note(ending, written=written)
        return recorded


def _note(ending: Ending, *, written: bool) -> None:
    """Counts and logs what became of it, as fenced when the lease had passed to another notifier."""
    log = _log.bind(
        request_id=ending.delivery.request_id,
        trace_id=trace_id(ending.delivery.trace),
        webhook_id=ending.delivery.webhook_id,
    )
    if ending.attempt is None:
        _note_untried(log, ending, written=written)
        return
    delivery, attempt, code = ending.delivery, ending.attempt, ending.attempt.error or ""
    state = "retry" if ending.state == "delayed" else ending.state
    metrics.WEBHOOK_ATTEMPTS.labels(state if written else "fenced", code).inc()
    facts = {
        "endpoint": delivery.endpoint,
        "status": attempt.status,
        "attempts": delivery.attempts_made + 1,
        "milliseconds": round(attempt.seconds * 1000),
    }
    if not written:
        log.warning("delivery.fenced", outcome=state)
    elif ending.state == "delivered":
        ended = attempt.started_at.timestamp() + attempt.seconds
        metrics.WEBHOOK_AGE_SECONDS.observe(max(0.0, ended - delivery.rank))
        log.info("delivery.delivered", **facts)
    elif ending.state == "failed":
        metrics.WEBHOOKS_FAILED.labels(ending.reason or "").inc()
        log.warning("delivery.failed", code=code, detail=attempt.detail, **facts)
    else:
        log.info("delivery.retry", code=code, detail=attempt.detail, seconds=round(ending.seconds, 3), **facts)


def _note_untried(log: FilteringBoundLogger, ending: Ending, *, written: bool) -> None:
    facts = {"endpoint": ending.delivery.endpoint, "attempts": ending.delivery.attempts_made}
    if not written:
        log.warning("delivery.fenced", outcome="put_off" if ending.state == "delayed" else ending.state)
    elif ending.state == "delayed":
        log.debug("delivery.put_off", seconds=round(ending.seconds, 3), **facts)
    else:
        metrics.WEBHOOKS_FAILED.labels(ending.reason or "").inc()
        log.warning("delivery.failed", code=ending.reason, **facts)
