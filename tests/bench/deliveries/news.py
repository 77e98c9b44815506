"""What is delivered: the news of a closed request, as the notifier makes it."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import uuid4

from libs.documents import Counts, Documents, NewDelivery, Request
from libs.documents.delivery import document_of
from services.notifier.event import event_of

BASE_URL = "http://127.0.0.1:8000"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
_AT_ONCE = 1_000


def news(url: str) -> NewDelivery:
    """The news to `url` of a request of its own that was closed just now."""
    now = datetime.now(UTC)
    request = Request(
        id=str(uuid4()),
        status="completed",
        webhook_url=url,
        options={},
        total=1,
        counts=Counts(completed=1, bytes_in=100, bytes_out=40),
        loaded=True,
        closed=True,
        created_at=now,
        completed_at=now,
        trace=TRACE,
        filename="bench.csv",
        error=None,
    )
    return event_of(request, url, base_url=BASE_URL)


async def store(documents: Documents, urls: Iterable[str]) -> None:
    """Stores pending deliveries, one to each of the URLs, as if their requests had been announced."""
    left = iter(urls)
    while some := [news(url) for url in itertools.islice(left, _AT_ONCE)]:
        await documents.mongo.collection("deliveries").insert_many([document_of(new) for new in some])
