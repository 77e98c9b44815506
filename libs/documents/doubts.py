"""What may be held by announcements of which it is not known what came, or that took too long for it to begin."""

import time
from collections.abc import Collection as AbstractCollection
from dataclasses import dataclass

import structlog

from libs.leases import Leases
from libs.mongo import Collection
from libs.runtime import metrics

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Doubt:
    token: str
    webhook_ids: AbstractCollection[str]
    until: float


class Doubts:
    """Gives back what is held under tokens that nobody works under, so that it need not wait for the end of its lease.

    A commit that erred may have been done, or be done yet. That it was is seen by what it makes, all at once.
    """

    def __init__(self, collection: Collection, leases: Leases) -> None:
        self._collection = collection
        self._leases = leases
        self._doubts: list[_Doubt] = []

    def note(self, token: str, webhook_ids: AbstractCollection[str], until: float) -> None:
        """These may be held under `token`, whose lease ends at `until` by the monotonic clock."""
        self._doubts.append(_Doubt(token, webhook_ids, until))

    async def settle(self) -> int:
        """Gives back what is held, and says how many; what is not to be seen yet is looked for again the next time.

        Raises:
            pymongo.errors.PyMongoError: the doubts remain.
        """
        released = 0
        for doubt in list(self._doubts):
            ids = list(doubt.webhook_ids)
            found = await self._collection.find({"_id": {"$in": ids}}, {"lease.token": 1}).to_list(None)
            if any(document.get("lease", {}).get("token") == doubt.token for document in found):
                released += await self._leases.release({doubt.token}, ids)
            elif found or time.monotonic() >= doubt.until:  # made by another, or given back; or others take it back
                self._doubts.remove(doubt)
        if released:
            metrics.LEASES_RELEASED.labels(self._leases.name).inc(released)
            _log.info("lease.released", collection=self._leases.name, released=released)
        return released
