"""Loads an upload: all of it or nothing, durable before it is accepted."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any

from libs.documents.images import Images, NewImage, new_documents
from libs.mongo import Collection, Document, Encoded, Mongo, Session


class UploadInterruptedError(Exception):
    """The upload lost its right to load the request, since it paused for too long; nothing of it was accepted."""


@dataclass(frozen=True, slots=True)
class NewRequest:
    """An upload that was found valid.

    `total` counts its image URLs (at least 1), `trace` is its W3C traceparent, `options` says how its images are to be
    compressed and is passed on as it is.
    """

    webhook_url: str | None
    filename: str
    bytes: int
    sha256: str
    total: int
    trace: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Loader:
    """Stores new requests with their images.

    A single batch goes in with the request, in one transaction. More go in one transaction each, under a token that
    fences off a loader that paused for longer than `seconds`; watchers may start on the first of them.
    """

    def __init__(self, mongo: Mongo, requests: Collection, images: Images, *, seconds: float) -> None:
        self._mongo = mongo
        self._requests = requests
        self._images = images
        self._seconds = seconds

    async def load(self, new: NewRequest, batches: Iterable[Sequence[NewImage]], request_id: str) -> bool:
        """Returns once all is durable; true when all of it may have been finished before all was loaded.

        Raises:
            UploadInterruptedError: the loader was fenced off.
        """
        rank = await self._images.first_rank()
        document = _document(new, request_id, rank)
        made = (new_documents(request_id, rank, batch) for batch in batches)
        first, second = next(made), next(made, None)
        if second is None:
            await self._load_whole(document, first)
            return False
        token = secrets.token_hex(16)
        await self._requests.update_one({"_id": request_id}, self._opening(document, token), upsert=True)
        await self._load_batches(document, token, chain((first, second), made))
        result = await self._requests.update_one(
            {"_id": request_id, "loader.token": token, "loaded": False},
            {"$set": {"loaded": True}, "$unset": {"loader": ""}},
        )
        if not result.matched_count:
            raise UploadInterruptedError(UploadInterruptedError.__doc__)
        return True

    async def _load_batches(self, document: Document, token: str, batches: Iterator[Sequence[Encoded]]) -> None:
        """Makes each batch while MongoDB writes the one before it."""
        inserted, batch = 0, next(batches, None)
        while batch is not None:
            following = cache(partial(next, batches, None))  # once, also where the transaction is repeated
            await self._load_batch(document, token, batch, inserted, meanwhile=following)
            inserted += len(batch)
            batch = following()

    async def _load_whole(self, document: Document, batch: Sequence[Encoded]) -> None:
        async def work(session: Session) -> None:
            await self._requests.update_one(
                {"_id": document["_id"]}, self._opening(document, None), upsert=True, session=session
            )
            await self._images.insert(batch, session)

        await self._mongo.transaction(work)

    def _opening(self, document: Document, token: str | None) -> list[Document]:
        opening: Document = {"created_at": "$$NOW", "loaded": token is None}
        if token is not None:
            opening["loader"] = {"token": token, "until": self._until()}
        return [{"$replaceWith": {"$mergeObjects": [{"$literal": document}, opening]}}]

    async def _load_batch(
        self,
        document: Document,
        token: str,
        batch: Sequence[Encoded],
        inserted: int,
        meanwhile: Callable[[], object],
    ) -> None:
        async def work(session: Session) -> None:
            result = await self._requests.update_one(
                {"_id": document["_id"], "loader.token": token, "loaded": False},
                [
                    {
                        "$set": {
                            "inserted": inserted + len(batch),
                            "head_rank": document["rank"] + inserted,
                            "loader.until": self._until(),
                        }
                    }
                ],
                session=session,
            )
            if not result.matched_count:
                raise UploadInterruptedError(UploadInterruptedError.__doc__)
            await self._images.insert(batch, session, meanwhile=meanwhile)

        await self._mongo.transaction(work)

    def _until(self) -> Document:
        return {"$add": ["$$NOW", round(self._seconds * 1000)]}


def _document(new: NewRequest, request_id: str, rank: float) -> Document:
    return {
        "_id": request_id,
        "status": "pending",
        "webhook_url": new.webhook_url,
        "options": dict(new.options),
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
