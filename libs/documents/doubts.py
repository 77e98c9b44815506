"""What may be held by announcements and is not to be begun: nobody knows that they were made, or it is too late."""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import structlog

from libs.leases import Leases
from libs.mongo import Collection
from libs.runtime import metrics

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Doubt:
    tokens: AbstractSet[str]
    webhook_ids: Sequence[str]
    until: float


class Doubts:
    """Gives back what is held under tokens that nobody works under, so that it need not wait for the end of its lease.

    A commit that erred may have been done, or be done yet. That it was is seen by what it makes, all at once. What is
    not seen within `lease_seconds` is forgotten: its lease has ended then.
    """

    def __init__(
        self,
        collection: Collection,
        leases: Leases,
        *,
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collection = collection
        self._leases = leases
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._doubts: list[_Doubt] = []

    def note(self, tokens: AbstractSet[str], webhook_ids: Sequence[str]) -> None:
        """These may be held under `tokens`, and nobody works under them."""
        if webhook_ids:
            self._doubts.append(_Doubt(tokens, webhook_ids, self._clock() + self._lease_seconds))

    async def settle(self) -> int:
        """Gives back what is held, and says how many; what is not to be seen yet is looked for again the next time.

        Raises:
            pymongo.errors.PyMongoError: the doubts remain.
        """
        released = 0
        for doubt in list(self._doubts):
            wanted = {"_id": {"$in": list(doubt.webhook_ids)}}
            found = await self._collection.find(wanted, {"lease.token": 1}).to_list(None)
            if any(document.get("lease", {}).get("token") in doubt.tokens for document in found):
                released += await self._leases.release(doubt.tokens, doubt.webhook_ids)
            elif found or self._clock() >= doubt.until:  # made by another, or given back; or others take it back
                self._doubts.remove(doubt)
        if released:
            metrics.LEASES_RELEASED.labels(self._leases.name).inc(released)
            _log.info("lease.released", collection=self._leases.name, released=released)
        return released
