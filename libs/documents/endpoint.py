"""What an endpoint is: a standing subscription to events, with its URL, the events it wants and secrets of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self, TypeAlias, TypedDict, get_args

Event: TypeAlias = Literal[
    "request.completed",
    "request.completed_with_errors",
    "request.failed",
    "request.cancelled",
    "image.failed",
    "endpoint.failing",
    "endpoint.disabled",
]
EVENTS: Sequence[str] = get_args(Event)
"""What an endpoint can want. One that names none wants every `request.…`; all others are sent to who names them."""

Reason: TypeAlias = Literal["by_owner", "gone", "asked", "failing"]
"""Why an endpoint is disabled: by its owner, it answered 410, it asked for it in its answer, or it only failed."""

Bar: TypeAlias = Literal["endpoint_disabled", "endpoint_deleted"]
"""Why an endpoint gets nothing, as the reason of a delivery that has failed."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret (`whsec_…`); one that has been replaced signs until `expires_at`, beside its successors."""

    key: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Disabled:
    """Since when, by the server's clock, and why an endpoint gets nothing."""

    at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """What an owner says of an endpoint.

    `headers` are sent with every attempt; `rate_limit` is in deliveries per second (None: no limit).
    """

    url: str
    events: Sequence[str] = ()
    description: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate_limit: float | None = None
    enabled: bool = True


class EndpointChanges(TypedDict, total=False):
    """What of a `NewEndpoint` may change: all of it."""

    url: str
    events: Sequence[str]
    description: str
    headers: Mapping[str, str]
    rate_limit: float | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it stands; `host` is the host and port of `url`, `secrets` are the newest first.

    `failing_since` is when its first attempt failed behind which none succeeded, `warned_at` when that was told.
    """

    id: str
    url: str
    host: str
    events: Sequence[str]
    description: str
    headers: Mapping[str, str] = field(repr=False)
    rate_limit: float | None
    enabled: bool
    disabled: Disabled | None
    secrets: Sequence[Secret]
    failing_since: datetime | None
    warned_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def keys_at(self, moment: datetime) -> list[str]:
        """The secrets that sign an attempt at `moment`, by the server's clock, the newest first."""
        return [secret.key for secret in self.secrets if secret.expires_at is None or secret.expires_at > moment]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """From its document in MongoDB."""
        return cls(
            id=document["_id"],
            url=document["url"],
            host=document["host"],
            events=document["events"],
            description=document["description"],
            headers=document["headers"],
            rate_limit=document["rate_limit"],
            enabled=document["enabled"],
            disabled=Disabled(**document["disabled"]) if document["disabled"] else None,
            secrets=[Secret(**secret) for secret in document["secrets"]],
            failing_since=document["failing_since"],
            warned_at=document["warned_at"],
            created_at=document["created_at"],
            updated_at=document["updated_at"],
        )


def bar_of(endpoint: Endpoint | None) -> Bar | None:
    """Why nothing is sent to an endpoint (None: it is), which is itself None when there is none of its id any more."""
    if endpoint is None:
        return "endpoint_deleted"
    return None if endpoint.enabled else "endpoint_disabled"
