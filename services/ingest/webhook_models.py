"""The shapes of webhook subscriptions: what owners say of an endpoint, and what they are shown of it."""

import re
from collections import Counter
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from libs.documents import EVENTS, Endpoint, Event, NewEndpoint, Reason
from services.ingest.shapes import Strict, matching, without_default
from services.ingest.urls import LONGEST_URL

EXAMPLE_ENDPOINT = "ep_019c1360a8007d1f4b6e2a90c35d71e8"
EXAMPLE_MESSAGE = "msg_5f1c8a3e2d7b4c6f9a0e1d2c3b4a5968"
PAGE, MOST_IN_A_PAGE = 100, 500
_ENDPOINT_ID = r"^ep_[0-9a-f]{32}$"
_MOST_HEADERS = 20
_LONGEST_HEADER = 1_000
_LONGEST_DESCRIPTION = 500
_SHOWN_OF_A_SECRET = len("whsec_") + 4
_HEADER_NAME = r"^[A-Za-z0-9_-]{1,100}$"
_HEADER_VALUE = r"^[!-~]([ -~]*[!-~])?$"

_DARKROOMS_OWN = frozenset({"content-type", "user-agent", "accept-encoding", "traceparent", "tracestate"})
# Of the connection, or of how the message is carried over it (RFC 9110, 7.6.1, and RFC 9112): they are not the owner's.
_OF_THE_CONNECTION = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def _check_events(value: Any) -> Any:
    """Names what is no event; what is no list of text is left to pydantic."""
    if not isinstance(value, list) or not all(isinstance(event, str) for event in value):
        return value
    if unknown := [event for event in value if event not in EVENTS]:
        raise ValueError(f"“{unknown[0][:100]}” is no event; there are {', '.join(EVENTS)}")
    if twice := [event for event, times in Counter(value).items() if times > 1]:
        raise ValueError(f"{twice[0]} is named twice")
    return value


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    seen = set()
    for name, value in headers.items():
        lower, shown = name.lower(), name[:100]
        if not re.fullmatch(_HEADER_NAME, name) or name.endswith("\n"):
            raise ValueError(f"“{shown}” is no header name: letters, digits, - and _, 100 at most")
        if lower in _DARKROOMS_OWN or lower.startswith("webhook-"):
            raise ValueError(f"{shown} is sent by Darkroom itself")
        if lower in _OF_THE_CONNECTION:
            raise ValueError(f"{shown} is of the connection and cannot be chosen")
        if lower in seen:
            raise ValueError(f"{shown} is named twice")
        if len(value) > _LONGEST_HEADER or not re.fullmatch(_HEADER_VALUE, value) or value.endswith("\n"):
            raise ValueError(f"{shown} needs a value of 1 to {_LONGEST_HEADER:,} visible ASCII characters")
        seen.add(lower)
    return headers


def _without_defaults(schema: dict[str, Any]) -> None:
    for described in schema["properties"].values():
        described.pop("default", None)


EndpointId = Annotated[
    str,
    Field(
        description="The endpoint's id.",
        examples=[EXAMPLE_ENDPOINT],
        json_schema_extra={"pattern": _ENDPOINT_ID, "minLength": 35, "maxLength": 35},
    ),
    matching(_ENDPOINT_ID, f"must be an endpoint's id such as {EXAMPLE_ENDPOINT}"),
]
EndpointUrl = Annotated[
    str,
    Field(
        max_length=LONGEST_URL,
        description="Where events are posted to: http or https, and a public address.",
        examples=["https://shop.example/hooks/darkroom"],
        json_schema_extra={"pattern": "^[hH][tT][tT][pP][sS]?://"},
    ),
]
Events = Annotated[list[Event], BeforeValidator(_check_events), Field(json_schema_extra={"uniqueItems": True})]
Headers = Annotated[
    dict[str, str],
    AfterValidator(_check_headers),
    Field(
        max_length=_MOST_HEADERS,
        examples=[{"Authorization": "Bearer 5f1c…"}],
        json_schema_extra={
            "propertyNames": {"pattern": _HEADER_NAME},
            "additionalProperties": {
                "type": "string",
                "pattern": _HEADER_VALUE,
                "minLength": 1,
                "maxLength": _LONGEST_HEADER,
            },
        },
    ),
]


# --- what comes in ---------------------------------------------------------------------------------------------------
class EndpointPath(Strict):
    """Which endpoint."""

    endpoint_id: EndpointId


class WebhooksQuery(Strict):
    """Which page of the endpoints."""

    limit: int = Field(default=PAGE, ge=1, le=MOST_IN_A_PAGE, description="Most endpoints in a page.")
    cursor: EndpointId | SkipJsonSchema[None] = Field(
        default=None,
        description="`next` of the page before.",
        json_schema_extra=without_default,
    )


class _Said(Strict):
    # JSON says what is a number and what is a truth; "5" and "yes" are text.
    model_config = ConfigDict(strict=True)

    events: Events = Field(
        default=[],
        description=(
            "The events that are sent. None: all of requests (`request.…`). `image.failed`, one for each image, and "
            "what is told of other endpoints (`endpoint.…`) are sent to those only that name them."
        ),
    )
    description: Annotated[str, Field(max_length=_LONGEST_DESCRIPTION)] = Field(
        default="", description="For people.", examples=["Orders, production"]
    )
    headers: Headers = Field(
        default={},
        description="Headers that every attempt has beside Darkroom's own. Their values are never shown again.",
    )
    rate_limit: Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)] | None = Field(
        default=None, description="Most deliveries per second. null: no limit.", examples=[10]
    )
    enabled: bool = Field(default=True, description="`false`: nothing is sent.")


class NewWebhook(_Said):
    """A standing endpoint to be."""

    url: EndpointUrl

    def endpoint(self) -> NewEndpoint:
        """What is stored of it."""
        return NewEndpoint(**self.model_dump())


class WebhookPatch(_Said):
    """What is to change of an endpoint; what is given replaces what was, `headers` as a whole."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    url: EndpointUrl = ""


class RotateBody(Strict):
    """How a secret is to be replaced."""

    model_config = ConfigDict(strict=True)

    overlap_seconds: Annotated[float, Field(ge=0, le=30 * 86_400, allow_inf_nan=False)] | None = Field(
        default=None,
        description=(
            "How long those before go on signing, at most. 0: no more from now on, as when one has leaked. null: as "
            "DARKROOM_WEBHOOK_OVERLAP_SECONDS says."
        ),
        examples=[0],
    )


# --- what goes out ---------------------------------------------------------------------------------------------------
class ShownSecret(Strict):
    """What is shown of a signing secret."""

    prefix: str = Field(description="How it begins.", examples=["whsec_MfKQ"])
    created_at: datetime
    expires_at: datetime | None = Field(description="Until when it signs beside the newest one; null for that.")


class WhyDisabled(Strict):
    """Since when, and why, nothing is sent."""

    at: datetime
    reason: Reason = Field(
        description=(
            "`by_owner`; `gone`: it answered 410; `asked`: it answered with `webhook-delivery: disable`; `failing`: it "
            "did nothing but fail for too long."
        )
    )


class Webhook(Strict):
    """A standing endpoint."""

    id: EndpointId
    url: str
    events: list[Event] = Field(description="Empty: all of requests.")
    description: str
    header_names: list[str] = Field(description="The names of `headers`; their values are never shown.")
    rate_limit: float | None
    enabled: bool
    disabled: WhyDisabled | None
    secrets: list[ShownSecret] = Field(
        description="The newest first; those whose `expires_at` has passed sign no more."
    )
    failing_since: datetime | None = Field(description="Since when no attempt has succeeded; null: the last one did.")
    created_at: datetime
    updated_at: datetime


class WebhookWithSecret(Webhook):
    """A standing endpoint with its newest secret, which is shown this once."""

    secret: str = Field(description="Verifies what it is sent. Keep it: it is never shown again.")


class Webhooks(Strict):
    """A page of endpoints, the newest first."""

    webhooks: list[Webhook]
    next: str | None = Field(description="The `cursor` of the next page; null behind the last.")


class SentTest(Strict):
    """A test event is on its way."""

    delivery_id: str = Field(
        pattern=r"^msg_[0-9a-f]{32}$",
        description="What `/api/deliveries/{delivery_id}` tells of it, and its `webhook-id`.",
    )


def webhook_of(endpoint: Endpoint) -> Webhook:
    """What is shown of an endpoint."""
    return Webhook.model_validate(_shown(endpoint))


def webhook_with_secret_of(endpoint: Endpoint) -> WebhookWithSecret:
    """What is shown of an endpoint when it gets a secret."""
    return WebhookWithSecret.model_validate({**_shown(endpoint), "secret": endpoint.secrets[0].key})


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    why = endpoint.disabled
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "header_names": list(endpoint.headers),
        "rate_limit": endpoint.rate_limit,
        "enabled": endpoint.enabled,
        "disabled": {"at": why.at, "reason": why.reason} if why else None,
        "secrets": [
            {
                "prefix": secret.key[:_SHOWN_OF_A_SECRET],
                "created_at": secret.created_at,
                "expires_at": secret.expires_at,
            }
            for secret in endpoint.secrets
        ],
        "failing_since": endpoint.failing_since,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
    }
