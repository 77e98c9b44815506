"""Makes one delivery attempt and judges what came of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeAlias

import structlog

from libs.documents import Answer, Attempt, Delivery
from libs.egress import EgressError, Response
from libs.runtime import metrics
from libs.runtime.trace import child_of
from libs.webhooks import parse_secret, signed_headers
from services.notifier.context import context_of
from services.notifier.recipient import Recipient
from services.notifier.transcript import Transcript

INTERNAL = "internal_error"
"""The reason code of an attempt that an error of our own ended."""

_log = structlog.get_logger()
_DETAIL_LENGTH = 300
_NOTHING = Answer()
_DELIVERY, _DISABLE = "webhook-delivery", "disable"
# Plain numbers: members of HTTPStatus are looked up and hashed in Python.
_GONE, _BUSY = 410, frozenset({429, 503})

Verdict: TypeAlias = Literal["delivered", "retry", "failed"]
Refusal: TypeAlias = Literal["gone", "asked"]


class Poster(Protocol):
    """The way out; see `libs.egress.GuardedSession`."""

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], total_seconds: float) -> Response:
        """The answer, whatever its status; raises EgressError."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt.

    `retry_after_seconds`: the receiver's wish for the next one (None: it has none). `busy`: the wish holds for whatever
    else it is to get (429 and 503). `refusal`: it wants nothing any more, by 410 (`gone`) or by a header (`asked`).
    """

    attempt: Attempt
    verdict: Verdict
    retry_after_seconds: float | None = None
    busy: bool = False
    refusal: Refusal | None = None


class Sender:
    """Signs and posts deliveries; one attempt takes at most `total_seconds`."""

    def __init__(self, poster: Poster, *, total_seconds: float) -> None:
        self._poster = poster
        self._total_seconds = total_seconds

    async def send(self, delivery: Delivery, recipient: Recipient) -> Outcome:
        """Posts the delivery once.

        A 2xx delivers it, whatever happens to the answer's body. 410, an answer with `webhook-delivery: disable` and
        what egress will not send are final. All else is worth another attempt: other statuses (redirects are not
        followed), no answer, and an error of our own.

        The attempt's time is its delivery's `claimed_at`, just before, by the server's clock: a receiver refuses what
        was signed minutes off, and this machine's clock may be.

        Raises:
            ValueError: the delivery was not claimed.
        """
        if delivery.claimed_at is None:
            raise ValueError(f"delivery {delivery.webhook_id} is not claimed")
        started_at, started = delivery.claimed_at, time.perf_counter()
        try:
            response = await self._post(delivery, recipient, started_at)
        except EgressError as error:
            said = Transcript(recipient).of_error(error.detail)
            judged = _Judged("retry" if error.retryable else "failed", error=error.code, detail=said)
        except Exception as error:  # noqa: BLE001 (one odd delivery must not stop all the others, over and over)
            _log.exception("delivery.crashed", **context_of(delivery))
            judged = _Judged("retry", error=INTERNAL, detail=repr(error))
        else:
            judged = _judge(response, Transcript(recipient).of(response))
        seconds = time.perf_counter() - started
        metrics.WEBHOOK_SECONDS.observe(seconds)
        attempt = Attempt(
            started_at=started_at,
            seconds=seconds,
            status=judged.status,
            error=judged.error,
            detail=judged.detail[:_DETAIL_LENGTH],
            remote_address=judged.remote_address,
            response=judged.response,
        )
        return Outcome(attempt, judged.verdict, judged.retry_after_seconds, judged.status in _BUSY, judged.refusal)

    async def _post(self, delivery: Delivery, recipient: Recipient, at: datetime) -> Response:
        body = delivery.body.encode()
        newest, *older = (parse_secret(secret) for secret in recipient.secrets)
        own = signed_headers(newest, delivery.webhook_id, int(at.timestamp()), body, *older) | {
            "content-type": "application/json",
            "user-agent": "Darkroom",
            "traceparent": child_of(delivery.trace),
        }
        headers = own
        if recipient.headers:
            headers = {name: value for name, value in recipient.headers.items() if name.lower() not in own} | own
        return await self._poster.post(recipient.url, body=body, headers=headers, total_seconds=self._total_seconds)


class _Judged(NamedTuple):
    verdict: Verdict
    status: int | None = None
    error: str | None = None
    detail: str = ""
    remote_address: str = ""
    response: Answer = _NOTHING
    retry_after_seconds: float | None = None
    refusal: Refusal | None = None


def _judge(response: Response, answer: Answer) -> _Judged:
    refusal = _refusal(response)
    if 200 <= response.status <= 299:
        return _Judged(
            "delivered", response.status, remote_address=response.remote_address, response=answer, refusal=refusal
        )
    said = " ".join(answer.body[:_DETAIL_LENGTH].split())
    return _Judged(
        "failed" if refusal else "retry",
        response.status,
        f"http_{response.status}",
        f"the receiver answered {response.status}" + (f": {said}" if said else ""),
        response.remote_address,
        answer,
        response.retry_after_seconds,
        refusal,
    )


def _refusal(response: Response) -> Refusal | None:
    if response.status == _GONE:
        return "gone"
    return "asked" if response.headers.get(_DELIVERY, "").strip().lower() == _DISABLE else None
