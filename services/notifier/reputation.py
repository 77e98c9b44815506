"""How endpoints have done of late: those that only fail are warned of, and disabled in the end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog

from libs.documents import DISABLED, FAILING, Documents, Endpoint, NewDelivery, Reason
from libs.mongo import patiently
from libs.runtime import metrics
from services.notifier.event import endpoint_event_of

_log = structlog.get_logger()
_NOTED_SECONDS = 1.0
_LAST_SECONDS = 2.0
ResultT = TypeVar("ResultT")


class Reputation:
    """Keeps in MongoDB since when an endpoint does nothing but fail, and disables it after `failing_seconds` of that.

    Half way there is a warning. Both are told in the log, in the metrics and to the endpoints that list these events,
    exactly once. Attempts are noted about once a second and many at a time, and at the stop: one that is lost with a
    notifier that is killed is made up for by the next.
    """

    def __init__(self, documents: Documents, *, failing_seconds: float) -> None:
        self._documents = documents
        self._failing_seconds = failing_seconds
        self._succeeded: set[str] = set()
        self._failed: dict[str, datetime] = {}
        self._news = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Notes while the context lasts."""
        async with asyncio.TaskGroup() as tasks:
            noting = tasks.create_task(self._run(), name="reputation")
            yield
            noting.cancel()
        if self._news.is_set():
            await self._note_the_last()

    def note(self, endpoint_id: str, at: datetime, *, good: bool) -> None:
        """An attempt that began at this time, by the server's clock, has succeeded or failed."""
        if good:
            self._succeeded.add(endpoint_id)
            self._failed.pop(endpoint_id, None)
        else:
            self._failed[endpoint_id] = at
        self._news.set()

    async def disable(self, endpoint_id: str, reason: Reason, *, failing_seconds: float | None = None) -> None:
        """Disables the endpoint, unless it is already, and tells."""
        endpoint = await self._documents.notices.disable(
            endpoint_id, reason, _disabled, failing_seconds=failing_seconds
        )
        if endpoint is not None:
            metrics.ENDPOINTS_DISABLED.labels(reason).inc()
            _log.warning("endpoint.disabled", endpoint_id=endpoint_id, host=endpoint.host, reason=reason)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(_NOTED_SECONDS)
            await self._judge(await self._note())

    async def _note(self) -> dict[str, datetime]:
        """Writes down what was noted, and gives what has failed."""
        self._news.clear()
        succeeded, self._succeeded = self._succeeded, set()
        failed, self._failed = self._failed, {}
        # A success that a failure followed comes first.
        await _noted(partial(self._documents.endpoints.note_success, succeeded), succeeded)
        await _noted(partial(self._documents.endpoints.note_failure, set(failed)), failed)
        return failed

    async def _note_the_last(self) -> None:
        """At the stop, within two seconds: a success that is not written down may let an endpoint be disabled."""
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._note()
        except TimeoutError:
            _log.warning("reputation.not_noted")

    async def _judge(self, failed: dict[str, datetime]) -> None:
        known = await patiently(partial(self._documents.endpoints.of, set(failed))) if failed else {}
        for endpoint in known.values():
            if not endpoint.enabled or endpoint.failing_since is None:
                continue
            failing = failed[endpoint.id] - endpoint.failing_since
            if failing >= timedelta(seconds=self._failing_seconds):
                await patiently(partial(self.disable, endpoint.id, "failing", failing_seconds=self._failing_seconds))
            elif failing >= timedelta(seconds=self._failing_seconds / 2) and endpoint.warned_at is None:
                await patiently(partial(self._warn, endpoint.id))

    async def _warn(self, endpoint_id: str) -> None:
        endpoint = await self._documents.notices.warn(endpoint_id, _failing, failing_seconds=self._failing_seconds / 2)
        if endpoint is not None and endpoint.failing_since is not None:
            metrics.ENDPOINTS_FAILING.inc()
            since = endpoint.failing_since.isoformat(timespec="seconds")
            _log.warning("endpoint.failing", endpoint_id=endpoint_id, host=endpoint.host, failing_since=since)


async def _noted(work: Callable[[], Awaitable[None]], ids: object) -> None:
    if ids:
        await patiently(work)


def _disabled(endpoint: Endpoint, listener: Endpoint) -> NewDelivery:
    at = endpoint.disabled.at if endpoint.disabled else endpoint.updated_at
    return endpoint_event_of(DISABLED, at, endpoint, listener)


def _failing(endpoint: Endpoint, listener: Endpoint) -> NewDelivery:
    return endpoint_event_of(FAILING, endpoint.warned_at or endpoint.updated_at, endpoint, listener)
