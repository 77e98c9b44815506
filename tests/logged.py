"""Deliveries put straight into the database, as if they had come to what a test needs."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from libs.documents import Documents, NewDelivery
from libs.documents.delivery import document_of
from tests.notifiers import TRACE

REQUEST = "2f1c5a3e-8d6b-4c57-9a34-0e9f7b1d2c48"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


def logged(
    number: int, state: str, *, request_id: str = REQUEST, host: str = "h", endpoint_id: str | None = None, **more: Any
) -> dict[str, Any]:
    """The document of a delivery whose event was `number` seconds after noon."""
    new = NewDelivery(
        request_id=request_id,
        event="request.completed",
        url=f"http://{host}/hook",
        body="{}",
        trace=TRACE,
        rank=NOON + number,
        endpoint_id=endpoint_id,
        about=str(number),
    )
    return {**document_of(new), "state": state, **more}


async def put(documents: Documents, deliveries: Iterable[dict[str, Any]]) -> list[str]:
    """Stores them and gives their ids."""
    stored = list(deliveries)
    await documents.mongo.collection("deliveries").insert_many(stored)
    return [str(document["_id"]) for document in stored]
