"""Writes down what came of attempts, many in one call."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import structlog
from structlog.typing import FilteringBoundLogger

from libs.documents import Deliveries, Ending
from libs.mongo import patiently
from libs.runtime import metrics
from libs.runtime.batches import Batches, Lent
from services.notifier.context import context_of

_BATCH = 128
_PACE_SECONDS = 0.02  # in which endings gather under load: one call costs about the same for one as for sixteen
# A claim that takes them along begins within some hundredths, or when the one before has ended. What a notifier that is
# killed by then has attempted is attempted again.
_LINGER_SECONDS = 0.05
_FEW = 16


class Ledger:
    """Records the endings of attempts, and counts and logs them.

    With a call for each, recording was a third of what a notifier asks of MongoDB. What comes one by one is lent to
    claims, which take it along.
    """

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._endings = Batches(self._record, most=_BATCH, pace_seconds=_PACE_SECONDS, linger_seconds=_LINGER_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Records while the context lasts."""
        async with self._endings.running("ledger"):
            yield

    async def note(self, ending: Ending) -> None:
        """Returns once it is recorded, or known that the delivery was no longer held."""
        await self._endings.result(ending)

    @contextmanager
    def lent(self) -> Iterator[Lent[Ending, bool]]:
        """Endings that are yet to be recorded, where they are few; the result of each is whether it was.

        What has no results in the end is recorded as all else is.
        """
        with self._endings.lent(_FEW) as lent:
            yield lent
            if lent.results is not None:
                _note_all(lent.items, lent.results)

    async def _record(self, endings: Sequence[Ending]) -> Sequence[bool]:
        # However long MongoDB takes to answer: an outcome that is not written down is an attempt made again.
        recorded = await patiently(partial(self._deliveries.record, endings))
        _note_all(endings, recorded)
        return recorded


def _note_all(endings: Sequence[Ending], recorded: Sequence[bool]) -> None:
    # Here, one behind the other: between all else, in the tasks of the deliveries, the same takes longer.
    log: FilteringBoundLogger = structlog.get_logger().bind()  # once, since that is half of a line's work
    for ending, written in zip(endings, recorded, strict=True):
        _note(log, ending, written=written)
    for (outcome, code), attempts in Counter(map(_outcome, endings, recorded)).items():
        if outcome:
            metrics.WEBHOOK_ATTEMPTS.labels(outcome, code).inc(attempts)


def _outcome(ending: Ending, written: bool) -> tuple[str, str]:
    """As the metric has it; fenced when the lease had passed to another notifier, empty when nothing was attempted."""
    if ending.attempt is None:
        return "", ""
    return _state(ending) if written else "fenced", ending.attempt.error or ""


def _state(ending: Ending) -> str:
    return "retry" if ending.state == "delayed" else ending.state


def _note(log: FilteringBoundLogger, ending: Ending, *, written: bool) -> None:
    """Logs what became of it, and counts what it came to in the end."""
    context = context_of(ending.delivery)
    if ending.attempt is None:
        _note_untried(log.bind(**context), ending, written=written)
        return
    delivery, attempt, code = ending.delivery, ending.attempt, ending.attempt.error or ""
    facts = {
        "endpoint": delivery.endpoint,
        "status": attempt.status,
        "attempts": delivery.attempts_made + 1,
        "milliseconds": round(attempt.seconds * 1000),
    }
    if not written:
        log.warning("delivery.fenced", **context, outcome=_state(ending))
    elif ending.state == "delivered":
        ended = attempt.started_at.timestamp() + attempt.seconds
        metrics.WEBHOOK_AGE_SECONDS.observe(max(0.0, ended - delivery.rank))
        log.info("delivery.delivered", **context, **facts)
    elif ending.state == "failed":
        metrics.WEBHOOKS_FAILED.labels(ending.reason or "").inc()
        log.warning("delivery.failed", **context, code=code, detail=attempt.detail, **facts)
    else:
        seconds = round(ending.seconds, 3)
        log.info("delivery.retry", **context, code=code, detail=attempt.detail, seconds=seconds, **facts)


def _note_untried(log: FilteringBoundLogger, ending: Ending, *, written: bool) -> None:
    facts = {"endpoint": ending.delivery.endpoint, "attempts": ending.delivery.attempts_made}
    if not written:
        log.warning("delivery.fenced", outcome="put_off" if ending.state == "delayed" else ending.state)
    elif ending.state == "delayed":
        log.debug("delivery.put_off", seconds=round(ending.seconds, 3), **facts)
    else:
        metrics.WEBHOOKS_FAILED.labels(ending.reason or "").inc()
        log.warning("delivery.failed", code=ending.reason, **facts)
