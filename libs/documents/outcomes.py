"""What becomes of images: written and counted in batches, and closed with them the requests that they are all of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

from pymongo import UpdateOne

from libs.documents.images import HeldImage
from libs.documents.outputs import Output
from libs.documents.progress import Counts, Progress
from libs.documents.requests import Requests
from libs.documents.rows import ImageFailure
from libs.mongo import BY_ID, Collection, Document, Mongo, Session


@dataclass(frozen=True, slots=True)
class Failed:
    """The final failure of an image."""

    error: ImageFailure


Outcome: TypeAlias = Output | Failed


@dataclass(frozen=True, slots=True)
class Finished:
    """The images that were still held and are final now, and the status of each request that was closed with them."""

    images: Sequence[HeldImage]
    closed: Mapping[str, str] = field(default_factory=dict)


class _LostError(Exception):
    """Some of the images are no longer held, so that nothing of the transaction may stand."""


class Outcomes:
    """Writes the final states of held images."""

    def __init__(self, mongo: Mongo, progress: Progress, requests: Requests) -> None:
        self._mongo = mongo
        self._images: Collection = mongo.collection("images")
        self._progress = progress
        self._requests = requests

    async def write(
        self, outcomes: Sequence[tuple[HeldImage, Outcome]], totals: Mapping[str, int] | None = None
    ) -> Finished:
        """Writes and counts, in one transaction, the outcomes of those images that are still held.

        What another has taken over, or what was cancelled, is left as it is. A request all of whose images are among
        them, as `totals` says, is closed in the same transaction and needs no other counts; whether others are done
        has to be looked at behind it (see `Requests.close_if_done`).
        """
        totals = totals or {}

        async def all_of_them(session: Session) -> Finished:
            return await self._write(outcomes, totals, session)

        async def what_is_held(session: Session) -> Finished:
            ids = [image.document_id for image, _ in outcomes]
            wanted = {"_id": {"$in": ids}, "state": "processing"}
            found = self._images.find(wanted, {"lease": 1}, session=session, hint=BY_ID)
            tokens = {_key(document["_id"]): document["lease"]["token"] async for document in found}
            held = [pair for pair in outcomes if tokens.get(_key(pair[0].document_id)) == pair[0].token]
            return await self._write(held, totals, session)

        try:
            # Nearly always all are still held; then there is no need to look first.
            return await self._mongo.transaction(all_of_them)
        except _LostError:
            return await self._mongo.transaction(what_is_held)

    async def _write(
        self, outcomes: Sequence[tuple[HeldImage, Outcome]], totals: Mapping[str, int], session: Session
    ) -> Finished:
        if not outcomes:
            return Finished([])
        writes = [
            UpdateOne({"_id": image.document_id, "lease.token": image.token}, _final(outcome))
            for image, outcome in outcomes
        ]
        if (await self._images.bulk_write(writes, ordered=False, session=session)).matched_count != len(outcomes):
            raise _LostError
        counts: dict[str, Counts] = {}
        for image, outcome in outcomes:
            counts[image.request_id] = counts.get(image.request_id, Counts()) + _count(image, outcome)
        closed: dict[str, str] = {}
        for request_id, counted in counts.items():
            is_whole = counted.finished == totals.get(request_id)
            if is_whole and (status := await self._requests.close(request_id, counted, session)):
                closed[request_id] = status
        await self._progress.add({request: counts[request] for request in counts if request not in closed}, session)
        return Finished([image for image, _ in outcomes], closed)


def _key(document_id: Document) -> tuple[str, int]:
    return document_id["r"], document_id["n"]


def _final(outcome: Outcome) -> Document:
    if isinstance(outcome, Output):
        return {"$set": {"state": "completed", "output": outcome.document()}, "$unset": {"lease": "", "error": ""}}
    return {"$set": {"state": "failed", "error": asdict(outcome.error)}, "$unset": {"lease": ""}}


def _count(image: HeldImage, outcome: Outcome) -> Counts:
    images = 1 + image.copies
    if isinstance(outcome, Output):
        return Counts(completed=images, bytes_in=outcome.source_bytes, bytes_out=outcome.bytes)
    return Counts(failed=images)
