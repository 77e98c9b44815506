"""One document per image URL: claimed, finished and counted by the watcher, read by the status page.

A URL that stands again in its request is an alias: a document without a state that points to the first occurrence by
`alias_of`. The first one says in `copies` how many there are, and they are completed, failed and counted with it.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import NamedTuple

from pymongo import IndexModel

from libs.documents.outputs import Output
from libs.documents.positions import between, image_id
from libs.documents.progress import Progress
from libs.documents.rows import ImageFailure, Row, Rows
from libs.leases import IN_ORDER, Claim, Fields, Leases, Shares
from libs.mongo import Collection, Document, Encoded, Mongo, Session, encoded

_CLEAR_CHUNK = 5000
_SAME_KEY = 16
_UNFINISHED = ["pending", "delayed", "processing"]


class NewImage(NamedTuple):
    """One image URL of an upload.

    `position` counts the URLs of the request and `row` its rows, both from 0. `alias_of` is the position of the same
    URL's first occurrence (None: this is the first); `copies` is how many aliases this one has.
    """

    position: int
    row: int
    serial_number: int
    product_name: str
    url: str
    host: str
    alias_of: int | None = None
    copies: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class HeldImage:
    """An image claimed under `token`, at `claimed_at` by the server's clock; each claim's is another one.

    `attempts` counts the tries that failed before.
    """

    request_id: str
    position: int
    url: str
    host: str
    rank: float
    attempts: int
    lost_leases: int
    copies: int
    claimed_at: datetime
    token: str

    @property
    def document_id(self) -> Document:
        """The `_id` of its document."""
        return image_id(self.request_id, self.position)


class Images:
    """The `images` collection: `_id` {r: request, n: position}."""

    def __init__(self, mongo: Mongo, progress: Progress, *, lease_seconds: float, holder: str) -> None:
        self._mongo = mongo
        self._progress = progress
        self._collection: Collection = mongo.collection("images")
        self._rows = Rows(self._collection)
        # A claim promises nobody anything: where an election undoes one, the next sweep finds the image, two compress
        # it, and one counts.
        self.leases = Leases(
            mongo,
            "images",
            Fields("rank", "ready_at"),
            seconds=lease_seconds,
            holder=holder,
            durable_claims=False,
            content=("url", "host", "copies"),
        )

    async def ensure_indexes(self) -> None:
        """Makes the lean set: one partial index per state that is searched for, and one on the keys of outputs."""
        await self._collection.create_indexes(
            [
                *self.leases.indexes(),
                IndexModel(
                    [("output.key", 1)],
                    name="output_key",
                    partialFilterExpression={"output.key": {"$exists": True}},
                ),
            ]
        )

    async def first_rank(self) -> float:
        """The rank at which a new request's images begin; see `next_rank`."""
        running = await self._edge_rank("processing", -1)
        waiting = await self._edge_rank("pending", 1, running)
        if waiting is None and running is not None:
            waiting = await self._edge_rank("pending", 1)
        return next_rank(running, waiting)

    async def _edge_rank(self, state: str, direction: int, least: float | None = None) -> float | None:
        wanted: Document = {"state": state}
        if least is not None:
            # Behind what was claimed lately; and so it does not wade through that either.
            wanted["rank"] = {"$gte": least}
        # Hinted, since without a condition on the index's own field the planner reads the whole collection.
        hint = IN_ORDER if state == "pending" else state
        found = await self._collection.find_one(wanted, {"rank": 1}, sort=[("rank", direction)], hint=hint)
        return float(found["rank"]) if found else None

    async def insert(
        self, documents: Sequence[Encoded], session: Session, *, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Adds `new_documents` inside the caller's transaction; `meanwhile` is called while MongoDB does it."""
        await self._mongo.insert(self._collection.name, documents, session, meanwhile=meanwhile)

    async def claim(
        self, limit: int, *, start: float | None = None, beside: int = 0, shares: Shares | None = None
    ) -> tuple[Claim, list[HeldImage]]:
        """Claims up to `limit` images in rank order, for a holder of `beside` images; see `Leases.claim`."""
        claim = await self.leases.claim(limit, start=start, beside=beside, shares=shares)
        return claim, [_held(document, self.leases.claimed_at(document), claim.token) for document in claim.documents]

    async def retry(self, image: HeldImage, error: ImageFailure, seconds: float, *, charge: int = 1) -> bool:
        """Puts a held image off after a try that counts for `charge` failed ones. False: it was no longer held."""
        return await self.leases.delay(
            image.token, image.document_id, seconds, {"attempts": image.attempts + charge, "error": asdict(error)}
        )

    async def made_from(self, keys: Sequence[bytes]) -> dict[bytes, Output]:
        """Outputs of any request by their keys, for those of `keys` that there is one of.

        A key stands for the bytes and all else that an output was made from. Only the image that it was made for has
        it, so there is more than one only where two watchers made it at the same time, or where it had to be made
        again; they are the same then.
        """
        wanted = {"output.key": {"$in": list(keys)}}
        found = self._collection.find(wanted, {"_id": 0, "output": 1}, limit=len(keys) * _SAME_KEY)
        outputs = [Output.of(document["output"]) async for document in found]
        return {output.key: output for output in outputs}

    async def cancel(self, request_id: str, first: int) -> int:
        """Cancels what has not finished in a chunk from position `first` on, and gives the position behind it.

        Whoever holds one of these images can no longer finish it.
        """
        end = first + _CLEAR_CHUNK
        await self._collection.update_many(
            {**between(request_id, first, end), "state": {"$in": _UNFINISHED}},
            {"$set": {"state": "cancelled"}, "$unset": {"lease": "", "ready_at": "", "error": ""}},
        )
        return end

    async def remove(self, request_id: str, first: int) -> int:
        """Removes a chunk of a request's images from position `first` on, and gives the position behind it."""
        end = first + _CLEAR_CHUNK
        await self._collection.delete_many(between(request_id, first, end))
        return end

    def rows(self, request_id: str, total: int, *, offset: int = 0, limit: int | None = None) -> AsyncIterator[Row]:
        """The request's rows in their order, `limit` of them from row `offset` on."""
        return self._rows.read(request_id, total, offset=offset, limit=limit)


def next_rank(running: float | None, waiting: float | None) -> float:
    """Where a request begins that arrives now: behind the virtual time of start-time fair queueing.

    `running` is the highest rank now processing, `waiting` the lowest pending one from there on, or where there is
    none, the lowest of all; None where there is none at all. Virtual time is the next rank to be claimed, else the last
    that was. Not `running` alone: where the others have just ended, that may be a straggler's, and a large request
    would be put before all of an older one. And behind it, not at it: else small requests that arrive faster than they
    are worked on keep it where it is, and an older one starves.

    So, with equal ranks claimed in the order of their arrival, a request of n images waits for what is running and for
    no more than n + 1 images of each other request; and between two images of an older request run no more than two
    of each that was there before. (P. Goyal et al., "Start-time Fair Queuing", 1996.)
    """
    if waiting is not None:
        return waiting + 1
    return 0.0 if running is None else running + 1


def new_documents(request_id: str, rank: float, images: Iterable[NewImage]) -> list[Encoded]:
    """The documents of a batch; the request's first image has `rank`."""
    return encoded([_document(request_id, rank, image) for image in images])


def _document(request_id: str, rank: float, image: NewImage) -> Document:
    # Its fields by name one after the other would take twice as long, a million times.
    position, row, serial_number, product_name, url, host, alias_of, copies = image
    document_id = image_id(request_id, position)
    if alias_of is not None:
        return {
            "_id": document_id,
            "row": row,
            "serial_number": serial_number,
            "product_name": product_name,
            "url": url,
            "alias_of": alias_of,
        }
    return {
        "_id": document_id,
        "row": row,
        "serial_number": serial_number,
        "product_name": product_name,
        "url": url,
        "host": host,
        "state": "pending",
        "rank": rank + position,
        "attempts": 0,
        "lost_leases": 0,
        "copies": copies,
    }


def _held(document: Document, claimed_at: datetime, token: str) -> HeldImage:
    return HeldImage(
        request_id=document["_id"]["r"],
        position=document["_id"]["n"],
        url=document["url"],
        host=document["host"],
        rank=document["rank"],
        attempts=document["attempts"],
        lost_leases=document["lost_leases"],
        copies=document["copies"],
        claimed_at=claimed_at,
        token=token,
    )
