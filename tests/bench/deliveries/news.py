"""What is delivered: the news of a closed request, as the notifier makes it."""

from datetime import UTC, datetime
from uuid import uuid4

from libs.documents import Counts, NewDelivery, Request
from services.notifier.event import event_of

BASE_URL = "http://127.0.0.1:8000"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


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
