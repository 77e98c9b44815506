"""Images for a benchmark, put straight into the collection in the shape that an upload gives them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from libs.documents import Documents, NewImage, NewRequest
from libs.documents.images import _document
from libs.mongo import Document

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
_BATCH = 10_000


def new_image(position: int, host: str = "img.example.com") -> NewImage:
    """An image of a row of its own."""
    return NewImage(position, position, position, f"SKU{position}", f"https://{host}/{position}/a.jpg", host)


def new_request(total: int) -> NewRequest:
    """A request without a webhook."""
    return NewRequest(None, filename="bench.csv", bytes=total, sha256="0" * 64, total=total, trace=TRACE)


async def accept(documents: Documents, total: int) -> UUID:
    """Uploads a request of `total` images as ingest does."""
    request_id = uuid4()
    batches = ([new_image(n) for n in range(first, min(first + 1000, total))] for first in range(0, total, 1000))
    await documents.requests.accept(new_request(total), batches, request_id)
    return request_id


async def insert_pending(documents: Documents, count: int, *, rank: int) -> None:
    """Adds `count` pending images of one request, from `rank` on."""
    await _insert(documents, count, rank, {})


async def insert_delayed(documents: Documents, count: int) -> None:
    """Adds `count` images that are put off for an hour."""
    later = datetime.now(UTC) + timedelta(hours=1)
    await _insert(documents, count, 0, {"state": "delayed", "ready_at": later})


async def _insert(documents: Documents, count: int, rank: int, values: Document) -> None:
    request_id, collection = str(uuid4()), documents.mongo.collection("images")
    for first in range(0, count, _BATCH):
        batch = range(first, min(first + _BATCH, count))
        await collection.insert_many(
            [{**_document(request_id, float(rank), new_image(n)), **values} for n in batch], ordered=False
        )
