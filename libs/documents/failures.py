"""News of failed images: made bit by bit, since one request may have a million of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from libs.documents.delivery import NewDelivery, document_of
from libs.documents.positions import between, image_id
from libs.documents.rows import ImageFailure
from libs.mongo import BY_ID, Collection, Document, Mongo, Session, WriteConflictError

_POSITIONS = 10_000
_DELIVERIES = 1_000


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that failed, and where in its request it stands; `row` counts from 0."""

    position: int
    row: int
    serial_number: int
    product_name: str
    url: str
    error: ImageFailure


@dataclass(frozen=True, slots=True)
class Telling:
    """A request whose failed images from position `first` on are yet to be told to these endpoints."""

    request_id: str
    first: int
    endpoint_ids: Sequence[str]


class Failures:
    """The `tellings` collection: one document per request, from its announcement until all of its failures are told."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._tellings: Collection = mongo.collection("tellings")
        self._deliveries: Collection = mongo.collection("deliveries")
        self._images: Collection = mongo.collection("images")

    async def begin(self, requests: Mapping[str, Sequence[str]], session: Session) -> None:
        """Notes inside the caller's transaction which endpoints are to be told of the requests' failed images."""
        if requests:
            new = [{"_id": request_id, "first": 0, "endpoint_ids": list(ids)} for request_id, ids in requests.items()]
            await self._tellings.insert_many(new, session=session)

    async def untold(self, limit: int) -> list[Telling]:
        """Requests with failures that are yet to be told, the first `limit` of them by id."""
        found = await self._tellings.find({}, sort=[("_id", 1)], limit=limit).to_list(None)
        return [Telling(document["_id"], document["first"], document["endpoint_ids"]) for document in found]

    async def tell(self, telling: Telling, total: int, news: Callable[[FailedImage], Sequence[NewDelivery]]) -> bool:
        """Makes the deliveries of the next images of a request of `total`, each exactly once.

        It looks at 10,000 positions at most, and makes about 1,000 deliveries. False: another does so now, or has.
        """
        end = min(total, telling.first + _POSITIONS)
        most = max(1, _DELIVERIES // max(1, len(telling.endpoint_ids)))
        images = await self._failed(telling.request_id, telling.first, end, most)
        if len(images) > most:
            images = images[:most]
            end = images[-1].position + 1
        new = [document_of(delivery) for image in images for delivery in news(image)]

        async def work(session: Session) -> bool:
            mine = {"_id": telling.request_id, "first": telling.first}
            if end < total:
                changed = (
                    await self._tellings.update_one(mine, {"$set": {"first": end}}, session=session)
                ).matched_count
            else:
                changed = (await self._tellings.delete_one(mine, session=session)).deleted_count
            if changed and new:
                await self._deliveries.insert_many(new, session=session)
            return changed == 1

        try:
            return await self._mongo.transact_or_conflict(work)
        except WriteConflictError:
            return False

    async def _failed(self, request_id: str, first: int, end: int, most: int) -> list[FailedImage]:
        """Those from `first` up to `end` that failed, in their order; more than `most` when there are more."""
        failed: list[FailedImage] = []
        while first < end and len(failed) <= most:
            wanted = between(request_id, first, end) | {"$or": [{"state": "failed"}, {"alias_of": {"$exists": True}}]}
            found = await self._images.find(wanted, sort=[("_id", 1)], limit=most + 1).to_list(None)
            errors = await self._errors(request_id, found)
            failed += [
                _failed_image(document, error)
                for document in found
                if (error := errors.get(document.get("alias_of", document["_id"]["n"])))
            ]
            first = found[-1]["_id"]["n"] + 1 if len(found) > most else end
        return failed

    async def _errors(self, request_id: str, found: Sequence[Document]) -> dict[int, Document]:
        """Why the images failed that these are, or are aliases of, by position."""
        errors = {document["_id"]["n"]: document["error"] for document in found if document.get("state") == "failed"}
        others = {document["alias_of"] for document in found if "alias_of" in document}.difference(errors)
        if others:
            wanted = {"_id": {"$in": [image_id(request_id, position) for position in others]}, "state": "failed"}
            originals = await self._images.find(wanted, {"error": 1}, hint=BY_ID).to_list(None)
            errors |= {document["_id"]["n"]: document["error"] for document in originals}
        return errors


def _failed_image(document: Document, error: Document) -> FailedImage:
    return FailedImage(
        position=document["_id"]["n"],
        row=document["row"],
        serial_number=document["serial_number"],
        product_name=document["product_name"],
        url=document["url"],
        error=ImageFailure(error["code"], error["detail"]),
    )
