"""The `Retry-After` header (RFC 9110, 10.2.3)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

CAP_SECONDS = 86_400.0
"""A hint never holds anything back for longer than a day."""

_SECONDS = re.compile(r"[0-9]+", re.ASCII)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """How long the answer with these (case-insensitive) headers asks to wait: 0 to a day. None: no hint, or nonsense.

    A date is measured from the answer's own `Date` where it has one, so that a clock that is wrong on either side does
    not matter. One that has passed counts as 0.
    """
    value = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        # Longer numbers are over the cap whatever they say, and int() refuses thousands of digits.
        return CAP_SECONDS if len(value.lstrip("0")) > 6 else min(float(value), CAP_SECONDS)
    until = _date(value)
    if until is None:
        return None
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return min(max((until - now).total_seconds(), 0.0), CAP_SECONDS)


def _date(value: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(value)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
