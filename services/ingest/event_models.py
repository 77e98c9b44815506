"""The shapes of what receivers of webhooks get; fields may be added, so that what is unknown is to be passed over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

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


class _RequestEvent(_Event):
    request_id: RequestId
    data: RequestNews


class RequestCompleted(_RequestEvent):
    """Every image of a request is compressed."""

    type: Literal["request.completed"]
    status: Literal["completed"]


class RequestCompletedWithErrors(_RequestEvent):
    """Some images of a request are compressed, and some have failed."""

    type: Literal["request.completed_with_errors"]
    status: Literal["completed_with_errors"]


class RequestFailed(_RequestEvent):
    """No image of a request is compressed."""

    type: Literal["request.failed"]
    status: Literal["failed"]


class RequestCancelled(_RequestEvent):
    """A request was cancelled."""

    type: Literal["request.cancelled"]
    status: Literal["cancelled"]


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


class ImageFailed(_Event):
    """An image of a request that has ended has failed; `timestamp` is when the request ended."""

    type: Literal["image.failed"]
    request_id: RequestId
    data: ImageNews


class EndpointNews(BaseModel):
    """Which endpoint fails."""

    endpoint_id: EndpointId
    host: str = Field(description="Without the rest of its URL, of which a part may be secret.")
    description: str
    failing_since: datetime | None = Field(
        description="Since when no attempt has succeeded; null: it did not fail yet."
    )


class FailingNews(EndpointNews):
    """Which endpoint fails, and is not disabled yet."""

    reason: None


class DisabledNews(EndpointNews):
    """Which endpoint is disabled, and why."""

    reason: Literal["gone", "asked", "failing"] = Field(
        description="It answered 410, or with `webhook-delivery: disable`, or did nothing but fail for too long."
    )


class EndpointFailing(_Event):
    """An endpoint has failed for half of the time after which it is disabled."""

    type: Literal["endpoint.failing"]
    data: FailingNews


class EndpointDisabled(_Event):
    """Darkroom sends nothing more to an endpoint; when its owner disables it, nobody is told."""

    type: Literal["endpoint.disabled"]
    data: DisabledNews


class TestNews(BaseModel):
    """Which endpoint is tested."""

    endpoint_id: EndpointId


class WebhookTest(_Event):
    """A test event was asked for."""

    type: Literal["webhook.test"]
    data: TestNews


_TO_ALL = "Comes to the upload's `webhook_url`, and to the endpoints that want it."
_TO_SOME = "Comes to endpoints that name it."
_TO_OTHERS = "Comes to other endpoints that name it."


@dataclass(frozen=True, slots=True)
class Message:
    """What is said of the messages of one type: to whom they come, and their body, whose model says when."""

    model: type[BaseModel]
    description: str


MESSAGES: Mapping[str, Message] = {
    "request.completed": Message(RequestCompleted, _TO_ALL),
    "request.completed_with_errors": Message(RequestCompletedWithErrors, _TO_ALL),
    "request.failed": Message(RequestFailed, _TO_ALL),
    "request.cancelled": Message(RequestCancelled, _TO_ALL),
    "image.failed": Message(ImageFailed, _TO_SOME),
    "endpoint.failing": Message(EndpointFailing, _TO_OTHERS),
    "endpoint.disabled": Message(EndpointDisabled, _TO_OTHERS),
    TEST_EVENT: Message(WebhookTest, "Comes to the endpoint that is tested."),
}
