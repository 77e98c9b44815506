"""The shapes of what receivers of webhooks get; fields may be added, so that what is unknown is to be passed over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from libs.documents import Reason
from services.ingest.models import EXAMPLE_ID, RequestId
from services.ingest.webhook_models import EndpointId

TEST_EVENT = "webhook.test"
_STATUS_URL = f"https://darkroom.example/api/status?request_id={EXAMPLE_ID}"


class _Event(BaseModel):
    timestamp: datetime = Field(description="When it happened, which is the same at every attempt.")


class RequestNews(BaseModel):
    """How a request ended, in images, and in the bytes of the sources and of the outputs of the completed ones."""

    total: int = Field(ge=0)
    completed: int = Field(ge=0)
    failed: int = Field(ge=0)
    cancelled: int = Field(ge=0)
    bytes_in: int = Field(ge=0)
    bytes_out: int = Field(ge=0)
    status_url: str = Field(description="Where the results are.", examples=[_STATUS_URL])


class RequestEvent(_Event):
    """A request has reached a final state."""

    type: Literal["request.completed", "request.completed_with_errors", "request.failed", "request.cancelled"]
    request_id: RequestId
    status: Literal["completed", "completed_with_errors", "failed", "cancelled"]
    data: RequestNews


class ImageNews(BaseModel):
    """Which image failed, and why."""

    position: int = Field(ge=0, description="Of the image among all of its request, from 0.")
    row: int = Field(ge=0, description="Of the catalogue, from 0, without its header.")
    serial_number: int
    product_name: str
    url: str
    code: str = Field(description="The stable reason code.", examples=["http_404"])
    detail: str = Field(description="The reason, for people.")
    status_url: str = Field(description="Where the results of its request are.", examples=[_STATUS_URL])


class ImageEvent(_Event):
    """An image of a request that has ended has failed; `timestamp` is when the request ended."""

    type: Literal["image.failed"]
    request_id: RequestId
    data: ImageNews


class EndpointNews(BaseModel):
    """Which endpoint fails or is disabled, and why."""

    endpoint_id: EndpointId
    host: str = Field(description="Without the rest of its URL, of which a part may be secret.")
    description: str
    failing_since: datetime | None = Field(description="Since when no attempt has succeeded; null: the last one did.")
    reason: Reason | None = Field(description="Why it is disabled; null: it is not.")


class EndpointEvent(_Event):
    """A standing endpoint fails for long, or is disabled."""

    type: Literal["endpoint.failing", "endpoint.disabled"]
    data: EndpointNews


class EndpointTest(BaseModel):
    """Which endpoint is tested."""

    endpoint_id: EndpointId


class EndpointTestEvent(_Event):
    """A test event was asked for."""

    type: Literal["webhook.test"]
    data: EndpointTest


@dataclass(frozen=True, slots=True)
class Message:
    """What is said of the messages of one type: when they come, to whom, and their body."""

    summary: str
    description: str
    model: type[BaseModel]


_TO_ALL = "Comes to the upload's `webhook_url`, and to the endpoints that want it."
_TO_SOME = "Comes to endpoints that name it."
MESSAGES: Mapping[str, Message] = {
    "request.completed": Message("Every image of a request is compressed", _TO_ALL, RequestEvent),
    "request.completed_with_errors": Message("Some images of a request are compressed", _TO_ALL, RequestEvent),
    "request.failed": Message("No image of a request is compressed", _TO_ALL, RequestEvent),
    "request.cancelled": Message("A request was cancelled", _TO_ALL, RequestEvent),
    "image.failed": Message("An image of a request that has ended has failed", _TO_SOME, ImageEvent),
    "endpoint.failing": Message("An endpoint has failed for half of its time", _TO_SOME, EndpointEvent),
    "endpoint.disabled": Message("Nothing is sent to an endpoint any more", _TO_SOME, EndpointEvent),
    TEST_EVENT: Message("A test event was asked for", "Comes to the endpoint that is tested.", EndpointTestEvent),
}
