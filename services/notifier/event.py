"""What a webhook says about a closed request."""

import json

from libs.documents import NewDelivery, Request


def event_of(request: Request, url: str, *, base_url: str) -> NewDelivery:
    """The delivery to `url` of the news that `request` is closed.

    Its body is `{type, timestamp, request_id, status, data}`, serialised here once so that every attempt sends the same
    bytes: `type` is `request.<status>`, `timestamp` when the request was closed. Receivers that predate the signature
    read `request_id` and `status` at the top level. Deliveries are attempted in the order of closing.

    Raises:
        ValueError: the request is not closed.
    """
    if request.counts is None or request.completed_at is None:
        raise ValueError(f"request {request.id} is not closed")
    counts = request.counts
    event = f"request.{request.status}"
    body = {
        "type": event,
        "timestamp": request.completed_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "request_id": request.id,
        "status": request.status,
        "data": {
            "total": request.total,
            "completed": counts.completed,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
            "bytes_in": counts.bytes_in,
            "bytes_out": counts.bytes_out,
            "status_url": f"{base_url}/api/status?request_id={request.id}",
        },
    }
    return NewDelivery(
        request_id=request.id,
        event=event,
        url=url,
        body=json.dumps(body, separators=(",", ":"), ensure_ascii=False),
        trace=request.trace,
        rank=request.completed_at.timestamp(),
    )
