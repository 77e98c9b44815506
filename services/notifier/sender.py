"""Makes one delivery attempt and judges what came of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Literal, Protocol, TypeAlias

import structlog

from libs.documents import Attempt, Delivery
from libs.egress import EgressError, Response
from libs.runtime import metrics
from libs.runtime.trace import child_of
from libs.webhooks import signed_headers

_log = structlog.get_logger()
_DETAIL_LENGTH = 300

Verdict: TypeAlias = Literal["delivered", "retry", "failed"]


class Poster(Protocol):
    """The way out; see `libs.egress.GuardedSession`."""

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], total_seconds: float) -> Response:
        """The answer, whatever its status; raises EgressError."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. `retry_after_seconds`: the receiver's wish for the next one (None: it has none)."""

    attempt: Attempt
    verdict: Verdict
    retry_after_seconds: float | None = None


class Sender:
    """Signs and posts deliveries with `key`; one attempt takes at most `total_seconds`."""

    def __init__(self, poster: Poster, key: bytes, *, total_seconds: float) -> None:
        self._poster = poster
        self._key = key
        self._total_seconds = total_seconds

    async def send(self, delivery: Delivery) -> Outcome:
        """Posts the delivery once.

        A 2xx delivers it, whatever happens to the answer's body. 410 and what egress will not send are final. All else
        is worth another attempt: other statuses (redirects are not followed), no answer, and an error of our own.

        The attempt's time is that of its claim, by the server's clock: a receiver refuses what was signed minutes off,
        and this machine's clock may be.

        Raises:
            ValueError: the delivery was not claimed.
        """
        if delivery.claimed_at is None:
            raise ValueError(f"delivery {delivery.webhook_id} is not claimed")
        started_at, started = delivery.claimed_at, time.perf_counter()
        answer = await self._answer(delivery, started_at)
        seconds = time.perf_counter() - started
        metrics.WEBHOOK_SECONDS.observe(seconds)
        attempt = Attempt(
            started_at=started_at,
            seconds=seconds,
            status=answer.status,
            error=answer.error,
            detail=answer.detail[:_DETAIL_LENGTH],
            remote_address=answer.remote_address,
        )
        return Outcome(attempt, answer.verdict, answer.retry_after_seconds)

    async def _answer(self, delivery: Delivery, at: datetime) -> "_Answer":
        try:
            return _judge(await self._post(delivery, at))
        except EgressError as error:
            return _Answer("retry" if error.retryable else "failed", error=error.code, detail=error.detail)
        except Exception as error:  # noqa: BLE001 (one odd delivery must not stop all the others, over and over)
            _log.exception("delivery.crashed")
            return _Answer("retry", error="internal_error", detail=repr(error))

    async def _post(self, delivery: Delivery, at: datetime) -> Response:
        body = delivery.body.encode()
        headers = signed_headers(self._key, delivery.webhook_id, int(at.timestamp()), body) | {
            "content-type": "application/json",
            "user-agent": "Darkroom",
            "traceparent": child_of(delivery.trace),
        }
        return await self._poster.post(delivery.url, body=body, headers=headers, total_seconds=self._total_seconds)


@dataclass(frozen=True, slots=True)
class _Answer:
    verdict: Verdict
    status: int | None = None
    error: str | None = None
    detail: str = ""
    remote_address: str = ""
    retry_after_seconds: float | None = None


def _judge(response: Response) -> _Answer:
    if 200 <= response.status <= 299:
        return _Answer("delivered", response.status, remote_address=response.remote_address)
    said = " ".join(response.body[:_DETAIL_LENGTH].decode(errors="replace").split())
    return _Answer(
        "failed" if response.status == HTTPStatus.GONE else "retry",
        response.status,
        f"http_{response.status}",
        f"the receiver answered {response.status}" + (f": {said}" if said else ""),
        response.remote_address,
        response.retry_after_seconds,
    )
