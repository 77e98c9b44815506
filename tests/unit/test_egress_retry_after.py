from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from libs.egress import retry_after_seconds

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"
DAY_SECONDS = 86_400


def hint(value: str, date: str = NOON) -> float | None:
    """The hint in an answer of `date`."""
    return retry_after_seconds(CIMultiDict({"retry-after": value, "date": date}))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("000000000120", 120),
        ("86401", DAY_SECONDS),
        ("9" * 5_000, DAY_SECONDS),
        ("Sun, 06 Nov 1994 12:02:00 GMT", 120),
        ("Sunday, 06-Nov-94 12:02:00 GMT", 120),
        ("Sun Nov  6 12:02:00 1994", 120),
        ("Sun, 06 Nov 1994 12:02:00 -0000", 120),
        ("Sun, 06 Nov 1994 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY_SECONDS),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
    ],
)
def test_a_hint_is_read_in_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    """Numbers and all three HTTP date forms count, from nothing to a day."""
    assert hint(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "-5", "+5", "1.5", "1e3", "soon", "\uff10", "²", "Sun, 99 Nov 1994 12:00:00 GMT", "\x00"]
)
def test_garbage_is_no_hint(value: str) -> None:
    """What is neither a number nor a date is ignored."""
    assert hint(value) is None


def test_an_answer_without_the_header_has_no_hint() -> None:
    """No header, no hint."""
    assert retry_after_seconds(CIMultiDict({"Date": NOON})) is None


def test_a_date_without_the_senders_clock_is_measured_by_ours() -> None:
    """When the answer has no usable Date, a date far ahead is still a hint."""
    ahead = format_datetime(datetime.now(UTC) + timedelta(days=30), usegmt=True)
    assert hint(ahead, date="garbage") == DAY_SECONDS


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.text(st.characters(codec="utf-8"), max_size=40))
def test_no_header_value_breaks_the_parser(value: str, date: str) -> None:
    """Whatever stands in the headers, the result is None or between nothing and a day."""
    seconds = hint(value, date)
    assert seconds is None or 0 <= seconds <= DAY_SECONDS
