"""What webhooks say: of closed requests, of failed images, and of endpoints that fail."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from libs.documents import Endpoint, FailedImage, NewDelivery, Request
from libs.runtime.trace import accept

IMAGE_FAILED = "image.failed"


def type_of(request: Request) -> str:
    """The type of the event that `request` is closed: `request.<status>`."""
    return f"request.{request.status}"


def event_of(request: Request, url: str, *, base_url: str, endpoint_id: str | None = None) -> NewDelivery:
    """The delivery to `url`, which is the upload's own or that of an endpoint, of the news that `request` is closed.

    Its body is `{type, timestamp, request_id, status, data}`, serialised here once so that every attempt sends the same
    bytes: `type` is `request.<status>`, `timestamp` when the request was closed. Receivers that predate the signature
    read `request_id` and `status` at the top level. Deliveries are attempted in the order of closing.

    Raises:
        ValueError: the request is not closed.
    """
    if request.counts is None or request.completed_at is None:
        raise ValueError(f"request {request.id} is not closed")
    counts = request.counts
    top = {"request_id": request.id, "status": request.status}
    data = {
        "total": request.total,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "bytes_in": counts.bytes_in,
        "bytes_out": counts.bytes_out,
        "status_url": _status_url(request, base_url),
    }
    return NewDelivery(
        request_id=request.id,
        event=type_of(request),
        url=url,
        body=_body(type_of(request), request.completed_at, top, data),
        trace=request.trace,
        rank=request.completed_at.timestamp(),
        endpoint_id=endpoint_id,
    )


def image_event_of(request: Request, image: FailedImage, endpoint: Endpoint, *, base_url: str) -> NewDelivery:
    """The delivery to `endpoint` of the news that an image of `request`, which is closed, has failed.

    `timestamp` is when the request was closed. Rows and positions count from 0, positions among all of its images.

    Raises:
        ValueError: the request is not closed.
    """
    if request.completed_at is None:
        raise ValueError(f"request {request.id} is not closed")
    data = {
        "position": image.position,
        "row": image.row,
        "serial_number": image.serial_number,
        "product_name": image.product_name,
        "url": image.url,
        "code": image.error.code,
        "detail": image.error.detail,
        "status_url": _status_url(request, base_url),
    }
    return NewDelivery(
        request_id=request.id,
        event=IMAGE_FAILED,
        url=endpoint.url,
        body=_body(IMAGE_FAILED, request.completed_at, {"request_id": request.id}, data),
        trace=request.trace,
        rank=request.completed_at.timestamp(),
        endpoint_id=endpoint.id,
        about=str(image.position),
    )


def endpoint_event_of(event: str, at: datetime, endpoint: Endpoint, listener: Endpoint) -> NewDelivery:
    """The delivery to `listener` of what became of `endpoint` at that time: `endpoint.failing` or `endpoint.disabled`.

    It does not give the URL, of which a part may be secret.
    """
    data = {
        "endpoint_id": endpoint.id,
        "host": endpoint.host,
        "description": endpoint.description,
        "failing_since": _time(endpoint.failing_since) if endpoint.failing_since else None,
        "reason": endpoint.disabled.reason if endpoint.disabled else None,
    }
    return NewDelivery(
        request_id=None,
        event=event,
        url=listener.url,
        body=_body(event, at, {}, data),
        trace=accept(None),
        rank=at.timestamp(),
        endpoint_id=listener.id,
        about=f"{endpoint.id} {at.isoformat()}",
    )


def _body(event: str, at: datetime, top: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    body = {"type": event, "timestamp": _time(at), **top, "data": data}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _status_url(request: Request, base_url: str) -> str:
    return f"{base_url}/api/status?request_id={request.id}"
