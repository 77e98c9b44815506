"""An announcement: the deliveries of closed requests as a transaction makes them, some of them claimed by that."""

import secrets
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.documents.delivery import Delivery, NewDelivery, delivery_of, document_of
from libs.documents.failures import Failures
from libs.documents.requests import Requests
from libs.leases import Leases
from libs.mongo import Collection, Document, Session


@dataclass(frozen=True, slots=True)
class Piece:
    """What one transaction announces; `zero` is the server's clock when this process's monotonic one was at zero."""

    request_ids: AbstractSet[str]
    held: Sequence[Document]
    zero: datetime

    def begun(self, now: float) -> list[Delivery]:
        """What is held, to be attempted from `now` on by the monotonic clock."""
        return [delivery_of(document, self.zero + timedelta(seconds=now)) for document in self.held]


class Announcement:
    """Of the `deliveries` of requests those whose webhook-id is in `beginning` are held under `token`, if all are made.

    `telling` has the endpoints that are to be told of each failed image of a request. `sent` are the webhook-ids of
    what may be held, whatever came of it.
    """

    def __init__(
        self,
        deliveries: Mapping[str, Sequence[NewDelivery]],
        telling: Mapping[str, Sequence[str]],
        beginning: AbstractSet[str],
        *,
        requests: Requests,
        collection: Collection,
        failures: Failures,
        leases: Leases,
    ) -> None:
        self._deliveries = deliveries
        self._telling = telling
        self._beginning = beginning
        self._requests = requests
        self._collection = collection
        self._failures = failures
        self._leases = leases
        self.token = secrets.token_hex(16)
        self.sent = set[str]()

    async def make(self, session: Session, request_ids: Sequence[str]) -> Piece | None:
        """Inside a transaction: those of the requests that no other has announced; None: there is none."""
        new = {request_id: [document_of(one) for one in self._deliveries[request_id]] for request_id in request_ids}
        # What one of several pieces held could begin only when all of them are done.
        begins = self._beginning if len(request_ids) == len(self._deliveries) else frozenset()
        left = {request_id for request_id in request_ids if any(one["_id"] not in begins for one in new[request_id])}
        marked = await self._requests.mark_announced(request_ids, session, shared=left)
        if not marked:
            return None
        now = min(marked.values())
        zero = now - timedelta(seconds=time.monotonic())
        made = [document for request_id in marked for document in new[request_id]]
        waiting = [document for document in made if document["_id"] not in begins]
        held = self._leases.leased((document for document in made if document["_id"] in begins), self.token, now)
        # Nothing of an earlier run is there: only all that is announced is held, and that is one piece.
        self.sent = {document["_id"] for document in held}
        if made:
            await self._collection.insert_many([*held, *waiting], session=session)
        told = {request_id: self._telling[request_id] for request_id in marked if request_id in self._telling}
        await self._failures.begin(told, session)
        return Piece(marked.keys(), held, zero)
