"""The shapes of the log of deliveries: what may be asked of it, and what it tells."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from services.ingest.models import EXAMPLE_ID, RequestId
from services.ingest.shapes import Strict, matching, optional

EXAMPLE_DELIVERY = "msg_5f1c8a3e2d7b4c6f9a0e1d2c3b4a5968"
EXAMPLE_TIME = "2026-01-31T12:00:00Z"
_DELIVERY_ID = r"^msg_[0-9a-f]{32}$"
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _time(value: Any) -> datetime:
    """A time of RFC 3339; pydantic alone would also take numbers, and days without a time."""
    wrong = f"must be a time such as {EXAMPLE_TIME}"
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError(wrong)
    try:
        time = datetime.fromisoformat(value.upper())
    except ValueError as error:
        raise ValueError(wrong) from error
    try:
        return time.astimezone(UTC)
    except OverflowError:  # in year 1 or 9999, and of another year by UTC
        return time.replace(tzinfo=UTC)


def _number(value: Any) -> Any:
    """Of JSON; pydantic alone would also take text and booleans."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a whole number")  # noqa: TRY004 (pydantic tells the client of ValueError alone)
    return value


Time = Annotated[datetime, BeforeValidator(_time)]
State = Literal["pending", "delayed", "processing", "delivered", "failed"]
Again = Literal["delivered", "failed", "delayed"]
Endpoint = Annotated[str, Field(min_length=1, max_length=300, examples=["shop.example"]), AfterValidator(str.lower)]
Cursor = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{32}$", min_length=32, max_length=32)]
DeliveryId = Annotated[
    str,
    Field(
        description="The delivery's id, which every attempt has as `webhook-id`.",
        examples=[EXAMPLE_DELIVERY],
        json_schema_extra={"pattern": _DELIVERY_ID, "minLength": 36, "maxLength": 36},
    ),
    matching(_DELIVERY_ID, f"must be a delivery's id such as {EXAMPLE_DELIVERY}"),
]
_REQUEST = "Only those about this request."
_ENDPOINT = "Only those to this endpoint: the id of a standing one, or a host (with its port, if the URL has one)."
_SINCE = "Only those whose event was at this time or later."
_UNTIL = "Only those whose event was before this time."
_FAILED_SINCE = "Only those that have failed for good at this time or later; they are sorted by that."


# --- what comes in ---------------------------------------------------------------------------------------------------
class DeliveryPath(Strict):
    """Which delivery."""

    delivery_id: DeliveryId


class DeliveriesQuery(Strict):
    """Which deliveries are wanted, and which page of them."""

    request_id: RequestId | SkipJsonSchema[None] = optional(_REQUEST)
    endpoint: Endpoint | SkipJsonSchema[None] = optional(_ENDPOINT)
    state: State | SkipJsonSchema[None] = optional("Only those in this state.")
    since: Time | SkipJsonSchema[None] = optional(_SINCE)
    until: Time | SkipJsonSchema[None] = optional(_UNTIL)
    failed_since: Time | SkipJsonSchema[None] = optional(_FAILED_SINCE)
    limit: int = Field(default=100, ge=1, le=500, description="Most deliveries in a page.")
    cursor: Cursor | SkipJsonSchema[None] = optional("`next` of the page before, asked for with the same filters.")


_FILTERS = ("request_id", "endpoint", "state", "since", "until", "failed_since")


def _one_of_them(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"required": [name]} for name in _FILTERS]


class RedeliverBody(Strict):
    """Which deliveries are to be sent again; at least one filter is given."""

    model_config = ConfigDict(json_schema_extra=_one_of_them)

    request_id: RequestId | SkipJsonSchema[None] = optional(_REQUEST)
    endpoint: Endpoint | SkipJsonSchema[None] = optional(_ENDPOINT)
    state: Again | SkipJsonSchema[None] = optional(
        "Only those in this state; else both kinds that have ended. `delayed`: those that wait for their next try."
    )
    since: Time | SkipJsonSchema[None] = optional(_SINCE)
    until: Time | SkipJsonSchema[None] = optional(_UNTIL)
    failed_since: Time | SkipJsonSchema[None] = optional(_FAILED_SINCE)
    limit: Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_number)] | SkipJsonSchema[None] = optional(
        "Most deliveries to queue. Default: all."
    )
    cursor: Cursor | SkipJsonSchema[None] = optional("`next` of the answer before, asked for with the same filters.")

    @model_validator(mode="before")
    @classmethod
    def _check(cls, values: Any) -> Any:
        if isinstance(values, dict):
            if nulls := [name for name, value in values.items() if value is None]:
                raise ValueError(f"leave out what does not matter, instead of null: {', '.join(map(str, nulls))[:200]}")
            if not values.keys() & set(_FILTERS):
                raise ValueError(f"give at least one of {', '.join(_FILTERS)}")
        return values


# --- what goes out ---------------------------------------------------------------------------------------------------
class AnswerHeader(Strict):
    """A header of what the receiver answered."""

    name: str
    value: str


class AttemptAnswer(Strict):
    """The head of what the receiver answered, without credentials: at most 16 KiB."""

    headers: list[AnswerHeader]
    body: str


class DeliveryAttempt(Strict):
    """One attempt."""

    started_at: datetime
    seconds: float = Field(ge=0)
    status: int | None = Field(description="The HTTP status; null where none came.")
    error: str | None = Field(description="A stable reason code; null where it succeeded.", examples=["http_500"])
    detail: str = Field(description="What happened, for people.")
    remote_address: str = Field(description="The address that was connected to; empty where none was.")


class FullAttempt(DeliveryAttempt):
    """One attempt, with what the receiver answered."""

    response: AttemptAnswer


class _Delivery(Strict):
    id: DeliveryId
    request_id: str | None = Field(description="The request it is about; null where it is about none.")
    event: str = Field(examples=["request.completed"])
    endpoint_id: str | None = Field(description="The standing endpoint; null where it is the upload's `webhook_url`.")
    host: str = Field(examples=["shop.example"])
    url: str = Field(
        description="Where it is sent. `***` stands for what the query says, which may be a secret of the receiver's.",
        examples=["https://shop.example/hooks/darkroom?key=***"],
    )
    state: State = Field(description="`delayed` waits until `next_attempt_at`; `pending` waits for its turn.")
    reason: str | None = Field(description="Why it has failed, as a stable code.", examples=["http_404"])
    created_at: datetime = Field(description="The time of the event.")
    ended_at: datetime | None = Field(description="When it was delivered, or failed for good.")
    next_attempt_at: datetime | None
    attempts_made: int = Field(ge=0, description="Attempts since it was last queued.")


class Delivery(_Delivery):
    """A delivery in a list."""

    last_attempt: DeliveryAttempt | None


class FullDelivery(_Delivery):
    """A delivery with what is sent and every attempt that is kept."""

    body: str = Field(description="The exact text that every attempt sends.")
    attempts: list[FullAttempt] = Field(description="The last 20, the oldest first.")


class Deliveries(Strict):
    """A page of deliveries, the newest first."""

    deliveries: list[Delivery]
    next: str | None = Field(description="The `cursor` of the next page; null behind the last.")


class Redelivered(Strict):
    """What came of asking for a delivery again."""

    id: DeliveryId
    queued: bool = Field(description="`false`: it is queued or under way as it is, and nothing was changed.")
    state: State


class RedeliveredSome(Strict):
    """What came of asking for deliveries again."""

    queued: int = Field(ge=0, description="Deliveries that are queued by this.")
    next: str | None = Field(description="Not all were looked at yet: the `cursor` to go on with. Null: they were.")


EXAMPLE_ATTEMPT: dict[str, Any] = {
    "started_at": "2026-01-31T12:00:04.300Z",
    "seconds": 0.031,
    "status": 503,
    "error": "http_503",
    "detail": "the receiver answered 503",
    "remote_address": "198.51.100.7",
}
EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_DELIVERY,
    "request_id": EXAMPLE_ID,
    "event": "request.completed",
    "endpoint_id": None,
    "host": "shop.example",
    "url": "https://shop.example/hooks/darkroom?key=***",
    "state": "delayed",
    "reason": None,
    "created_at": "2026-01-31T12:00:04.250Z",
    "ended_at": None,
    "next_attempt_at": "2026-01-31T12:00:09.610Z",
    "attempts_made": 1,
}
