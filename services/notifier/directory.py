"""Looks up whom a delivery is for, many at a time."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial

from libs.documents import Addressee, Addressees, Delivery, bar_of
from libs.mongo import patiently
from libs.runtime.batches import Batches
from services.notifier.recipient import Recipient

FRESH_SECONDS = 1.0
_BATCH = 64
_KEPT = 2_000


class Directory:
    """Recipients of deliveries; what is known of an endpoint counts for a second.

    So a change of an endpoint, its rotation, disabling and removal among them, holds for every attempt that begins a
    second later, and an ordinary delivery costs no lookup of its own. `secret` signs what goes to the URL of an upload.
    """

    def __init__(self, addressees: Addressees, secret: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._addressees = addressees
        self._of_url = lru_cache(maxsize=_KEPT)(lambda url: Recipient(url, [secret]))
        self._clock = clock
        self._known: dict[str, tuple[float, Addressee | None]] = {}
        self._lookups = Batches(self._read, most=_BATCH)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks up while the context lasts."""
        async with self._lookups.running("directory"):
            yield

    async def recipient(self, delivery: Delivery) -> Recipient:
        """Whom the delivery is for, as of a second ago at most."""
        if delivery.endpoint_id is None:
            return self._of_url(delivery.url)
        read_at, addressee = self._known.get(delivery.endpoint_id, (0.0, None))
        if self._clock() - read_at >= FRESH_SECONDS or delivery.endpoint_id not in self._known:
            read_at, addressee = await self._lookups.result(delivery.endpoint_id)
        return _recipient(delivery, addressee, self._clock() - read_at)

    def forget(self, endpoint_id: str) -> None:
        """Has the endpoint looked up anew: it was changed by what came of a delivery."""
        self._known.pop(endpoint_id, None)

    async def _read(self, endpoint_ids: Sequence[str]) -> Sequence[tuple[float, Addressee | None]]:
        read_at = self._clock()
        found = await patiently(partial(self._addressees.of, set(endpoint_ids)))
        if len(self._known) > _KEPT:
            self._known.clear()
        self._known |= {endpoint_id: (read_at, found.get(endpoint_id)) for endpoint_id in endpoint_ids}
        return [(read_at, found.get(endpoint_id)) for endpoint_id in endpoint_ids]


def _recipient(delivery: Delivery, addressee: Addressee | None, age_seconds: float) -> Recipient:
    barred = bar_of(addressee.endpoint if addressee else None)
    if addressee is None:
        return Recipient(delivery.url, [], endpoint_id=delivery.endpoint_id, barred=barred)
    endpoint = addressee.endpoint
    return Recipient(
        endpoint.url,
        addressee.secrets,
        endpoint.headers,
        endpoint.id,
        endpoint.rate_limit,
        max(0.0, addressee.paused_seconds - age_seconds),
        barred,
    )
