"""Requests: accepted whole, closed once, announced once. A request changes only when its state does."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from pymongo import IndexModel, ReturnDocument

from libs.documents.images import Images, NewImage
from libs.documents.progress import Counts, Progress
from libs.mongo import Collection, Document, Mongo, Session

_SWEEP_LIMIT = 1000
_RUNNING = ["pending", "processing"]
INTERRUPTED = "ingest_interrupted"


class UploadInterruptedError(Exception):
    """The upload lost its right to load the request, since it paused for too long; nothing of it was accepted."""


class AlreadyFinalError(Exception):
    """The request has reached a final state and cannot be cancelled."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the request is already {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class NewRequest:
    """An upload that was found valid; `total` counts its image URLs (at least 1), `trace` is its W3C traceparent."""

    webhook_url: str | None
    filename: str
    bytes: int
    sha256: str
    total: int
    trace: str
    quality: int = 50


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it stands; `counts` is None until it is closed."""

    id: str
    status: str
    webhook_url: str | None
    quality: int
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
    deliveries for it exist. Both have a partial index, so sweeping and announcing read nothing that is done.
    """

    def __init__(self, mongo: Mongo, name: str, images: Images, progress: Progress, *, loader_seconds: float) -> None:
        self._mongo = mongo
        self._collection: Collection = mongo.collection(name)
        self._images = images
        self._progress = progress
        self._loader_seconds = loader_seconds

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
        """Stores a request with its images, `batches` of at most 1,000 in position order; returns once all is durable.

        A single batch goes in with the request, in one transaction. More go in one transaction each, under a token
        that fences off a loader that paused for too long; watchers may start on the first of them.

        Raises:
            UploadInterruptedError: the loader was fenced off.
        """
        iterator = iter(batches)
        first, second = next(iterator), next(iterator, None)
        document = _document(new, str(request_id), await self._images.first_rank())
        if second is None:
            await self._accept_small(document, first)
            return
        token = secrets.token_hex(16)
        await self._collection.update_one({"_id": document["_id"]}, self._opening(document, token), upsert=True)
        inserted = 0
        for batch in chain((first, second), iterator):
            inserted = await self._load(document, token, batch, inserted)
        result = await self._collection.update_one(
            {"_id": document["_id"], "loader.token": token, "loaded": False},
            {"$set": {"loaded": True}, "$unset": {"loader": ""}},
        )
        if not result.matched_count:
            raise UploadInterruptedError(UploadInterruptedError.__doc__)
        await self.close_if_done(document["_id"], new.total)

    async def _accept_small(self, document: Document, images: Sequence[NewImage]) -> None:
        async def work(session: Session) -> None:
            await self._collection.update_one(
                {"_id": document["_id"]}, self._opening(document, None), upsert=True, session=session
            )
            await self._images.insert(document["_id"], document["rank"], images, session)

        await self._mongo.transaction(work)

    def _opening(self, document: Document, token: str | None) -> list[Document]:
        opening: Document = {"created_at": "$$NOW", "loaded": token is None}
        if token is not None:
            opening["loader"] = {"token": token, "until": self._loader_until()}
        return [{"$replaceWith": {"$mergeObjects": [{"$literal": document}, opening]}}]

    async def _load(self, document: Document, token: str, batch: Sequence[NewImage], inserted: int) -> int:
        async def work(session: Session) -> None:
            result = await self._collection.update_one(
                {"_id": document["_id"], "loader.token": token, "loaded": False},
                [
                    {
                        "$set": {
                            "inserted": inserted + len(batch),
                            "head_rank": document["rank"] + inserted,
                            "loader.until": self._loader_until(),
                        }
                    }
                ],
                session=session,
            )
            if not result.matched_count:
                raise UploadInterruptedError(UploadInterruptedError.__doc__)
            await self._images.insert(document["_id"], document["rank"], batch, session)

        await self._mongo.transaction(work)
        return inserted + len(batch)

    def _loader_until(self) -> Document:
        return {"$add": ["$$NOW", round(self._loader_seconds * 1000)]}

    async def get(self, request_id: str) -> Request | None:
        """The request, or None when there is none of that id."""
        document = await self._collection.find_one({"_id": request_id})
        return _request(document) if document else None

    async def start(self, request_ids: Iterable[str]) -> None:
        """Marks requests as processing whose first images were claimed."""
        await self._collection.update_many(
            {"_id": {"$in": list(request_ids)}, "status": "pending"}, {"$set": {"status": "processing"}}
        )

    async def close_if_done(self, request_id: str, total: int) -> str | None:
        """Writes counts and final status when every image is final and all are loaded; gives the status it wrote.

        The sum is read after the transaction that counted, so whoever counts last sees all of it; checking inside the
        transaction would be write skew.
        """
        counts = await self._progress.total(request_id)
        if counts.finished < total:
            return None
        status = _final_status(counts)
        result = await self._collection.update_one(
            {"_id": request_id, "closed": False, "loaded": True, "status": {"$in": _RUNNING}},
            _closing(status, counts),
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
            raise AlreadyFinalError(request.status if request.loaded else "still uploading")
        await self._finish_cancelling(request_id, document["total"])
        return await self.get(request_id)

    async def _finish_cancelling(self, request_id: str, total: int) -> None:
        await self._images.cancel(request_id, total)
        counts = await self._progress.total(request_id)
        counts += Counts(cancelled=total - counts.finished)
        await self._collection.update_one(
            {"_id": request_id, "closed": False, "status": "cancelled"}, _closing("cancelled", counts)
        )

    async def sweep(self) -> list[tuple[str, str]]:
        """Brings on what its own service left behind, and gives the requests closed here with their status.

        Closes what is done, finishes cancelling what was cancelled, and fails what an interrupted upload left.
        """
        closed = []
        for document in await self._open_requests():
            request_id, total, status = document["_id"], document["total"], document["status"]
            if not document["loaded"]:
                if document["expired"] and await self._interrupt(request_id):
                    closed.append((request_id, "failed"))
            elif status == "cancelled":
                await self._finish_cancelling(request_id, total)
                closed.append((request_id, status))
            elif final := await self.close_if_done(request_id, total):
                closed.append((request_id, final))
        return closed

    async def _open_requests(self) -> list[Document]:
        expired = {"$and": [{"$ne": ["$loaded", True]}, {"$lt": ["$loader.until", "$$NOW"]}]}
        projection: Document = {"total": 1, "status": 1, "loaded": 1, "expired": expired}
        return await self._collection.find(
            {"closed": False}, projection, sort=[("created_at", 1)], limit=_SWEEP_LIMIT
        ).to_list(None)

    async def _interrupt(self, request_id: str) -> bool:
        failed = await self._collection.find_one_and_update(
            {"_id": request_id, "loaded": False, "$expr": {"$lt": ["$loader.until", "$$NOW"]}},
            {"$set": {"status": "failed", "error": INTERRUPTED, "loader.token": secrets.token_hex(16)}},
        )
        if failed is None:
            return False
        await self._images.remove(request_id, failed["total"])
        await self._progress.remove(request_id)
        await self._collection.update_one(
            {"_id": request_id},
            [
                {"$set": {"closed": True, "completed_at": "$$NOW", "counts": {"$literal": Counts().document()}}},
                {"$unset": "loader"},
            ],
        )
        return True

    async def unannounced(self, limit: int) -> list[Request]:
        """Closed requests for which no deliveries exist yet, oldest first."""
        found = await self._collection.find({"announced": False}, sort=[("completed_at", 1)], limit=limit).to_list(None)
        return [_request(document) for document in found]

    async def mark_announced(self, request_id: str, session: Session) -> bool:
        """Inside the caller's transaction: true for the one caller that may make the request's deliveries."""
        result = await self._collection.update_one(
            {"_id": request_id, "announced": False}, {"$set": {"announced": True}}, session=session
        )
        return result.modified_count == 1


def _document(new: NewRequest, request_id: str, rank: float) -> Document:
    return {
        "_id": request_id,
        "status": "pending",
        "webhook_url": new.webhook_url,
        "options": {"quality": new.quality},
        "total": new.total,
        "counts": None,
        "closed": False,
        "inserted": 0,
        "rank": rank,
        "head_rank": rank,
        "completed_at": None,
        "source": {"filename": new.filename, "bytes": new.bytes, "sha256": new.sha256},
        "trace": new.trace,
    }


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
        quality=document["options"]["quality"],
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
