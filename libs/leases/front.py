"""What a claim looks at: the first pending documents in their order, or some behind them."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from libs.leases.fields import PENDING, Fields
from libs.leases.shares import Shares
from libs.leases.spread import Spread, Window
from libs.mongo import Collection, Document

_READ_WHOLE = 64  # documents more than this are mostly passed over, and read without their content


@dataclass(frozen=True, slots=True)
class Seen:
    """What a claim can take its documents from; the rest is as in the `Claim` that comes of it."""

    front: Sequence[Document]
    withheld: Sequence[Document] = ()
    first: float | None = None
    alone: bool = False
    exhausted: bool = False


class Front:
    """The pending documents of `collection` as a claim finds them; the arguments are those of `Leases`.

    `zero` is what the server's clock said when this process's monotonic one was at zero, as of the last look that read
    content; None: there was none.
    """

    def __init__(
        self,
        collection: Collection,
        fields: Fields,
        spread: Spread,
        *,
        suspect_after: int | None,
        content: Sequence[str],
    ) -> None:
        self._collection = collection
        self._fields = fields
        self._spread = spread
        self._suspect_after = suspect_after
        self._content = content
        self._is_suspect_next = False
        self.zero: datetime | None = None

    async def look(self, limit: int, start: float | None, shares: Shares | None) -> Seen:
        """What a claim of `limit` documents can take.

        What was found before, where that is enough, else what is in the window that is next; but the front while a
        suspect is there, or it would wait for all that is behind it.
        """
        remembered = self._spread.recall(limit)
        recalled = shares.admit(remembered) if shares is not None else remembered
        if recalled:
            return Seen(recalled)
        window = self._spread.window(limit)
        seen = await self._look(replace(window, skip=0) if self._is_suspect_next else window, start, shares)
        self._is_suspect_next = seen.alone
        return seen

    def innocent(self, documents: Iterable[Document]) -> list[Document]:
        """Those that may be claimed beside others."""
        return [document for document in documents if not self._is_suspect(document)]

    def _is_suspect(self, document: Document) -> bool:
        return self._suspect_after is not None and document["lost_leases"] >= self._suspect_after

    async def _look(self, window: Window, start: float | None, shares: Shares | None) -> Seen:
        """What is in the window, or at the front where nothing else is there that could be claimed."""
        found = await self._find(window, start, shares)
        if window.skip and not found:
            self._spread.narrow()
        front, withheld = shares.divide(found, window.size) if shares is not None else (found, [])
        if window.skip and not self.innocent(front):
            return await self._look(replace(window, skip=0), start, shares)
        if window.skip:
            return Seen(front, withheld)
        orders = (document[self._fields.order] for document in (*front[:1], *withheld[:1]))
        alone = any(self._is_suspect(document) for document in front[:1])
        return Seen(front, withheld, min(orders, default=None), alone, exhausted=len(found) < window.wanted)

    async def _find(self, window: Window, start: float | None, shares: Shares | None) -> list[Document]:
        # Always with a bound: without one the planner takes the index for its order alone, and reads each document that
        # is skipped, for its state.
        first = -math.inf if start is None else start
        limit, wanted = window.size, {"state": PENDING, self._fields.order: {"$gte": first}}
        projection: Document = {"lost_leases": 1, self._fields.order: 1}
        reads_content = bool(self._content) and (shares is None or shares.beside <= _READ_WHOLE)
        if reads_content:
            projection |= dict.fromkeys((self._fields.attempts, *self._content), 1) | {"now": "$$NOW"}
        if shares is not None:
            wanted |= shares.wanted
            projection[shares.field] = 1
            limit += shares.beside
        found = await self._collection.find(
            wanted, projection, sort=[(self._fields.order, 1)], skip=window.skip, limit=limit, batch_size=limit
        ).to_list(None)
        if reads_content and found:
            self.zero = found[0]["now"] - timedelta(seconds=time.monotonic())
        return found
