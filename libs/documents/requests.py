"""Requests: accepted whole, closed once, announced once. A request changes only when its state does."""

import math
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pymongo
import structlog
from pymongo import IndexModel, ReturnDocument
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from libs.documents.images import Images, NewImage
from libs.documents.loading import Loader, NewRequest
from libs.documents.progress import Counts, Progress
from libs.mongo import BY_ID, Collection, Document, Mongo, Session, WriteConflictError

_log = structlog.get_logger()
_START_SECONDS = 0.5
_SWEEP_PAGE = 100
_SWEEP_SECONDS = 0.5
_STEP_SECONDS = 2.0
_MILLISECOND = timedelta(milliseconds=1)
_RUNNING = ["pending", "processing"]
INTERRUPTED = "ingest_interrupted"


class AlreadyFinalError(Exception):
    """The request has reached a final state and cannot be cancelled."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the request is already {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it stands; `counts` is None until it is closed, `options` are those of `NewRequest`."""

    id: str
    status: str
    webhook_url: str | None
    options: Mapping[str, Any]
    total: int
    counts: Counts | None
    loaded: bool
    closed: bool
    created_at: datetime
    completed_at: datetime | None
    trace: str
    filename: str
    error: str | None


class Requests:
    """The collection of requests.

    `closed` is false until the final status and counts are written; `announced` is false from then until the
    deliveries for it exist, and `shared` is true where some of these were not begun by their making. The first two have
    a partial index, so sweeping and announcing read nothing that is done.
    """

    def __init__(self, mongo: Mongo, name: str, images: Images, progress: Progress, *, loader_seconds: float) -> None:
        self._mongo = mongo
        self._collection: Collection = mongo.collection(name)
        self._images = images
        self._progress = progress
        self._loader = Loader(mongo, self._collection, images, seconds=loader_seconds)
        self._swept: Any = None
        self._cleared: dict[str, int] = {}

    @property
    def collection(self) -> Collection:
        """The collection, for change streams."""
        return self._collection

    async def ensure_indexes(self) -> None:
        """Makes the two partial indexes."""
        await self._collection.create_indexes(
            [
                IndexModel([("created_at", 1)], name="open", partialFilterExpression={"closed": False}),
                IndexModel([("completed_at", 1)], name="unannounced", partialFilterExpression={"announced": False}),
            ]
        )

    async def accept(self, new: NewRequest, batches: Iterable[Sequence[NewImage]], request_id: UUID) -> None:
        """Stores a request with its images, `batches` in position order; returns once all is durable.

        Each batch is stored within the time limit of an operation. The next one is asked for while MongoDB stores it.

        Raises:
            UploadInterruptedError: the upload paused for too long.
        """
        if not await self._loader.load(new, batches, str(request_id)):
            return
        try:
            await self.close_if_done(str(request_id), new.total)
        except PyMongoError as error:
            # It is accepted all the same, and the sweep repeats the check.
            _log.warning("request.closing_check_failed", request_id=str(request_id), error=repr(error)[:300])

    async def get(self, request_id: str) -> Request | None:
        """The request, or None when there is none of that id."""
        document = await self._collection.find_one({"_id": request_id})
        return _request(document) if document else None

    async def start(self, request_id: str) -> bool:
        """Marks a request as processing whose first image was claimed.

        False: it did not work within half a second, as where its loader was killed and MongoDB still keeps that one's
        transaction open; the work need not wait for it.
        """
        try:
            with pymongo.timeout(_START_SECONDS):
                await self._collection.update_one(
                    {"_id": request_id, "status": "pending"}, {"$set": {"status": "processing"}}
                )
        except PyMongoError as error:
            if error.timeout:
                return False
            raise
        return True

    async def close_if_done(self, request_id: str, total: int) -> str | None:
        """Writes counts and final status when every image is final and all are loaded; gives the status it wrote.

        The sum is read after the transaction that counted, so whoever counts last sees all of it; checking inside the
        transaction would be write skew.
        """
        counts = await self._progress.total(request_id)
        return await self.close(request_id, counts) if counts.finished >= total else None

    async def close(self, request_id: str, counts: Counts, session: Session | None = None) -> str | None:
        """Writes `counts`, the sum over all its images, and the final status; None: it is loading yet, or final."""
        status = _final_status(counts)
        result = await self._collection.update_one(
            {"_id": request_id, "closed": False, "loaded": True, "status": {"$in": _RUNNING}},
            _closing(status, counts),
            session=session,
        )
        return status if result.modified_count else None

    async def cancel(self, request_id: str) -> Request | None:
        """Cancels what has not finished; None when there is no such request.

        Raises:
            AlreadyFinalError: it has reached a final state.
        """
        document = await self._collection.find_one_and_update(
            {"_id": request_id, "closed": False, "loaded": True, "status": {"$in": _RUNNING}},
            {"$set": {"status": "cancelled"}},
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            request = await self.get(request_id)
            if request is None:
                return None
            raise AlreadyFinalError(request.status if request.loaded or request.error else "still uploading")
        await self._finish_cancelling(request_id, document["total"], deadline=math.inf)
        return await self.get(request_id)

    async def sweep(self) -> list[tuple[str, str]]:
        """Brings on what its own service left behind, and gives the requests closed here with their status.

        Closes what is done, finishes cancelling what was cancelled, and fails what an interrupted upload left. Each
        call looks at some open requests, the next call at those behind them, and spends about half a second on images
        to be cancelled or removed, two where it has to wait for one; so it never keeps its caller from other work for
        long.
        """
        left, closed = _SWEEP_SECONDS, []
        for document in await self._open_requests():
            began = time.monotonic()
            try:
                with pymongo.timeout(_STEP_SECONDS):
                    status = await self._bring_on(document, began + left)
            except PyMongoError as error:
                if isinstance(error, ServerSelectionTimeoutError) or not error.timeout:
                    raise
                # The server waited, most likely for a transaction that a killed process left open. The next call goes
                # on behind this request, so that none keeps its caller from other work for long.
                _log.info("request.sweep_later", request_id=document["_id"], error=repr(error)[:300])
                self._swept = document["created_at"] + _MILLISECOND
                break
            if not document["loaded"] or document["status"] == "cancelled":  # the others have no images to clear
                left -= time.monotonic() - began
            if status:
                closed.append((document["_id"], status))
        return closed

    async def _bring_on(self, document: Document, deadline: float) -> str | None:
        request_id, total = document["_id"], document["total"]
        if not document["loaded"]:
            done = document["expired"] and await self._interrupt(request_id, total, deadline)
            return "failed" if done else None
        if document["status"] == "cancelled":
            return "cancelled" if await self._finish_cancelling(request_id, total, deadline) else None
        return await self.close_if_done(request_id, total)

    async def _open_requests(self) -> list[Document]:
        """The next page of open requests, oldest first; from the oldest again behind the last."""
        expired = {"$and": [{"$ne": ["$loaded", True]}, {"$lt": ["$loader.until", "$$NOW"]}]}
        projection: Document = {"total": 1, "status": 1, "loaded": 1, "created_at": 1, "expired": expired}
        # From the last one's moment on, not behind it: another request may have been made in the same millisecond.
        since = {"created_at": {"$gte": self._swept}} if self._swept else {}
        page = await self._collection.find(
            {"closed": False, **since}, projection, sort=[("created_at", 1)], limit=_SWEEP_PAGE
        ).to_list(None)
        self._swept = page[-1]["created_at"] if len(page) == _SWEEP_PAGE else None
        return page

    async def _finish_cancelling(self, request_id: str, total: int, deadline: float) -> bool:
        """Cancels images until `deadline` and closes the request behind the last; true when that closed it here."""
        if not await self._clear(request_id, total, deadline, self._images.cancel):
            return False
        counts = await self._progress.total(request_id)
        counts += Counts(cancelled=total - counts.finished)
        result = await self._collection.update_one(
            {"_id": request_id, "closed": False, "status": "cancelled"}, _closing("cancelled", counts)
        )
        return result.modified_count == 1

    async def _interrupt(self, request_id: str, total: int, deadline: float) -> bool:
        """Removes images until `deadline` and closes the request behind the last; true when that closed it here."""
        if not await self._fail_interrupted(request_id) or not await self._clear(
            request_id, total, deadline, self._images.remove
        ):
            return False
        await self._progress.remove(request_id)
        result = await self._collection.update_one(
            {"_id": request_id, "closed": False},
            [
                {"$set": {"closed": True, "completed_at": "$$NOW", "counts": {"$literal": Counts().document()}}},
                {"$unset": "loader"},
            ],
        )
        return result.modified_count == 1

    async def _fail_interrupted(self, request_id: str) -> bool:
        """Fences its loader off; false when that has come back, or while MongoDB keeps its last transaction open."""

        async def work(session: Session) -> bool:
            result = await self._collection.update_one(
                {"_id": request_id, "loaded": False, "$expr": {"$lt": ["$loader.until", "$$NOW"]}},
                {"$set": {"status": "failed", "error": INTERRUPTED, "loader.token": secrets.token_hex(16)}},
                session=session,
            )
            return result.matched_count == 1

        try:
            return await self._mongo.transact_or_conflict(work)
        except WriteConflictError:
            return False

    async def _clear(
        self, request_id: str, total: int, deadline: float, step: Callable[[str, int], Coroutine[Any, Any, int]]
    ) -> bool:
        """Takes `step` over the images from where the last call ended until `deadline`; true when all are done."""
        while (position := self._cleared.get(request_id, 0)) < total:
            if time.monotonic() >= deadline:
                return False
            self._cleared[request_id] = await step(request_id, position)
        self._cleared.pop(request_id, None)
        return True

    async def unannounced(self, limit: int, *, after: datetime | None = None) -> list[Request]:
        """Closed requests for which no deliveries exist yet, oldest first, of those that were closed behind `after`."""
        wanted: Document = {"announced": False}
        if after is not None:
            wanted["completed_at"] = {"$gt": after}
        found = await self._collection.find(wanted, sort=[("completed_at", 1)], limit=limit).to_list(None)
        return [_request(document) for document in found]

    async def mark_announced(
        self, request_ids: Sequence[str], session: Session, *, shared: AbstractSet[str]
    ) -> dict[str, datetime]:
        """Inside the caller's transaction: those whose deliveries the caller, and nobody else, may make.

        Gives for each when it was marked, by the server's clock. Of the `shared` ones it says so to those who watch.
        Another transaction that marks one of them first makes this one conflict.
        """
        wanted = {"_id": {"$in": list(request_ids)}, "announced": False}
        change = [{"$set": {"announced": True, **({"shared": {"$in": ["$_id", list(shared)]}} if shared else {})}}]
        marked: Document = {"now": "$$NOW"}
        if len(request_ids) == 1:  # a round trip less, where somebody may be waiting for just this
            only = await self._collection.find_one_and_update(wanted, change, marked, session=session, hint=BY_ID)
            found = [only] if only else []
        else:
            found = await self._collection.find(wanted, marked, session=session, hint=BY_ID).to_list(None)
            if found:
                await self._collection.update_many(wanted, change, session=session, hint=BY_ID)
        return {document["_id"]: document["now"] for document in found}


def _closing(status: str, counts: Counts) -> list[Document]:
    final = {"status": status, "counts": counts.document(), "closed": True, "announced": False}
    return [{"$set": {**{name: {"$literal": value} for name, value in final.items()}, "completed_at": "$$NOW"}}]


def _final_status(counts: Counts) -> str:
    if not counts.completed:
        return "failed"
    return "completed_with_errors" if counts.failed else "completed"


def _request(document: Document) -> Request:
    counts: Any = document["counts"]
    return Request(
        id=document["_id"],
        status=document["status"],
        webhook_url=document["webhook_url"],
        options=document["options"],
        total=document["total"],
        counts=Counts.of(counts) if counts else None,
        loaded=document["loaded"],
        closed=document["closed"],
        created_at=document["created_at"],
        completed_at=document["completed_at"],
        trace=document["trace"],
        filename=document["source"]["filename"],
        error=document.get("error"),
    )
