"""The rows of a request as the status page shows them, read chunk by chunk."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from libs.documents.outputs import Output
from libs.documents.positions import between, image_id
from libs.mongo import Collection, Document

_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class ImageFailure:
    """Why an image failed: a stable reason code, and a sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class RowImage:
    """One URL of a row, in its order; `output` and `error` are None while it is pending or was cancelled."""

    position: int
    url: str
    output: Output | None
    error: ImageFailure | None


@dataclass(frozen=True, slots=True)
class Row:
    """One product of the upload."""

    serial_number: int
    product_name: str
    images: list[RowImage]


class Rows:
    """Reads rows from the collection of images."""

    def __init__(self, images: Collection) -> None:
        self._collection = images

    async def read(
        self, request_id: str, total: int, *, offset: int = 0, limit: int | None = None
    ) -> AsyncIterator[Row]:
        """The request's rows in their order, `limit` of them from row `offset` on, read chunk by chunk."""
        first = await self._first_position(request_id, total, offset) if offset else 0
        end = None if limit is None else offset + limit
        row: Row | None = None
        row_number = -1
        async for document, image in self._row_images(request_id, first, total):
            if document["row"] != row_number:
                if row is not None:
                    yield row
                if end is not None and document["row"] >= end:
                    return
                row_number = document["row"]
                row = Row(document["serial_number"], document["product_name"], [])
            if row is not None:
                row.images.append(image)
        if row is not None:
            yield row

    async def _row_images(self, request_id: str, first: int, total: int) -> AsyncIterator[tuple[Document, RowImage]]:
        while first < total:
            chunk = await self._collection.find(
                between(request_id, first, total), sort=[("_id", 1)], limit=_CHUNK
            ).to_list(None)
            if not chunk:
                return
            originals = await self._originals(request_id, chunk)
            for document in chunk:
                yield document, _row_image(document, originals.get(document.get("alias_of"), document))
            first = chunk[-1]["_id"]["n"] + 1

    async def _originals(self, request_id: str, chunk: Sequence[Document]) -> dict[int | None, Document]:
        wanted = {document["alias_of"] for document in chunk if "alias_of" in document}
        if not wanted:
            return {}
        ids = [image_id(request_id, position) for position in wanted]
        found = self._collection.find({"_id": {"$in": ids}}, {"state": 1, "output": 1, "error": 1})
        return {document["_id"]["n"]: document async for document in found}

    async def _first_position(self, request_id: str, total: int, row: int) -> int:
        """The position where `row` begins, by bisection: rows rise with positions, and an index on them costs more."""
        low, high = 0, total
        while low < high:
            middle = (low + high) // 2
            found = await self._collection.find_one(between(request_id, middle, high), {"row": 1}, sort=[("_id", 1)])
            if found is None or found["row"] >= row:
                high = middle
            else:
                low = found["_id"]["n"] + 1
        return low


def _row_image(document: Document, original: Document) -> RowImage:
    error = original.get("error") if original.get("state") == "failed" else None
    output = original.get("output")
    return RowImage(
        position=document["_id"]["n"],
        url=document["url"],
        output=Output.of(output) if output else None,
        error=ImageFailure(error["code"], error["detail"]) if error else None,
    )
