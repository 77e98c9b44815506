"""What a delivery is: the news for one endpoint, its attempts, and what they come to."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from libs.mongo import Document


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What one endpoint is to be told.

    `endpoint_id` is that of a standing endpoint (None: `url` is an upload's own `webhook_url`). `request_id` is None
    where the news is of no request. `body` is the exact text to send, the same at every attempt. Deliveries are
    attempted in order of `rank`, which is the time of the event in seconds since 1970. Per request, event and endpoint
    there is one delivery; where there are to be several, `about` tells them apart.
    """

    request_id: str | None
    event: str
    url: str
    body: str
    trace: str
    rank: float
    endpoint_id: str | None = None
    about: str = ""

    @property
    def webhook_id(self) -> str:
        """The `_id`, made from what makes a delivery unique."""
        unique = f"{self.request_id or ''}\n{self.event}\n{self.endpoint_id or self.url}"
        if self.about:
            unique += f"\n{self.about}"
        return f"msg_{hashlib.sha256(unique.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of what a receiver answered: headers in their order and the body as text, at most 16 KiB together."""

    headers: Sequence[tuple[str, str]] = ()
    body: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: when it began by the server's clock, what came of it and how long it took.

    `status` is the HTTP status (None: no answer), `error` a reason code (None: delivered).
    """

    started_at: datetime
    seconds: float
    status: int | None
    error: str | None
    detail: str
    remote_address: str
    response: Answer = field(default_factory=Answer)

    def document(self) -> Document:
        """As it is stored."""
        # By hand: `asdict` copies whatever is in it.
        return {
            "started_at": self.started_at,
            "seconds": self.seconds,
            "status": self.status,
            "error": self.error,
            "detail": self.detail,
            "remote_address": self.remote_address,
            "response": {"headers": self.response.headers, "body": self.response.body},
        }

    @staticmethod
    def of(document: Mapping[str, Any]) -> "Attempt":
        """As it was stored."""
        response = document.get("response") or {"headers": (), "body": ""}
        headers = [(name, value) for name, value in response["headers"]]
        return Attempt(**{**document, "response": Answer(headers, response["body"])})


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as it stands; `rank` and `body` are the announcement's.

    `endpoint` is the host and port of `url`, `endpoint_id` that of a standing endpoint (None: the upload's own URL).
    A claimed one may come without its `attempts`. `reason` says why it has failed (None: it has not). `created_at` is
    the time of its event, `ended_at` when it was delivered or failed for good. `attempts_made` are those since it was
    last queued. `token` is the lease it is held under ("" when it is not), `claimed_at` when it was claimed, or when
    the announcement was done that claimed it, by the server's clock (None: it has not just been).
    """

    webhook_id: str
    request_id: str | None
    event: str
    url: str
    endpoint: str
    endpoint_id: str | None
    body: str
    trace: str
    rank: float
    state: str
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    next_attempt_at: datetime | None
    attempts_made: int
    attempts: Sequence[Attempt]
    token: str
    claimed_at: datetime | None = None

    @property
    def document_id(self) -> str:
        """The `_id` of its document."""
        return self.webhook_id


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a held delivery: a final state, or `delayed`, when it is to be looked at again in `seconds`.

    Without an `attempt` none was made, and none is charged. `reason` is the code of a delivery that has failed.
    """

    delivery: Delivery
    attempt: Attempt | None
    state: Literal["delivered", "failed", "delayed"]
    seconds: float = 0.0
    reason: str | None = None


DUE_AT_ONCE: Document = {"state": "delayed", "next_attempt_at": "$$NOW"}
"""For a pipeline: queued by what notifiers have no event for. They ask what is due about every second, and would find
what is `pending` only at their next sweep."""


def endpoint_of(url: str) -> str:
    """The host and port of `url` as they are written there; the whole of it when it has none."""
    try:
        return urlsplit(url).netloc.lower() or url
    except ValueError:
        return url


def document_of(new: NewDelivery) -> Document:
    """A new delivery as it is stored."""
    return {
        "_id": new.webhook_id,
        "request_id": new.request_id,
        "event": new.event,
        "url": new.url,
        "endpoint": endpoint_of(new.url),
        "endpoint_id": new.endpoint_id,
        "body": new.body,
        "trace": new.trace,
        "state": "pending",
        "reason": None,
        "rank": new.rank,
        "created_at": datetime.fromtimestamp(new.rank, UTC),
        "attempts_made": 0,
        "attempts": [],
        "lost_leases": 0,
    }


def delivery_of(document: Mapping[str, Any], claimed_at: datetime | None = None) -> Delivery:
    """A delivery as it was stored, or what of it was asked for: `body`, `trace` and `attempts` may be left out."""
    return Delivery(
        webhook_id=document["_id"],
        request_id=document["request_id"],
        event=document["event"],
        url=document["url"],
        endpoint=document["endpoint"],
        endpoint_id=document.get("endpoint_id"),
        body=document.get("body", ""),
        trace=document.get("trace", ""),
        rank=document["rank"],
        state=document["state"],
        reason=document.get("reason"),
        created_at=document["created_at"],
        ended_at=document.get("ended_at"),
        next_attempt_at=document.get("next_attempt_at"),
        attempts_made=document["attempts_made"],
        attempts=[Attempt.of(attempt) for attempt in document.get("attempts", ())],
        token=document.get("lease", {}).get("token", ""),
        claimed_at=claimed_at,
    )
