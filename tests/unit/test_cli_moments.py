"""Times as the command line takes them."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from services.cli.moments import Moment


def moment(text: str) -> str:
    """What is sent for `text`."""
    return Moment().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("2026-01-31T12:00Z", "2026-01-31T12:00:00.000Z"),
        ("2026-01-31T12:00:00.5+01:00", "2026-01-31T11:00:00.500Z"),
        ("2026-01-31 12:00Z", "2026-01-31T12:00:00.000Z"),
    ],
)
def test_a_time_with_a_zone_is_sent_in_utc(text: str, sent: str) -> None:
    """Whichever zone it is, and however precise."""
    assert moment(text) == sent


def test_a_time_without_a_zone_is_of_the_clock_here() -> None:
    """As a person reads it off the wall."""
    here = datetime(2026, 1, 31, 12).astimezone()
    assert datetime.fromisoformat(moment("2026-01-31T12:00")) == here


@pytest.mark.parametrize(
    ("text", "ago"), [("90m", timedelta(minutes=90)), ("2h", timedelta(hours=2)), ("3d", timedelta(3))]
)
def test_a_time_may_be_so_long_ago(text: str, ago: timedelta) -> None:
    """In minutes, hours or days."""
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    sent = datetime.fromisoformat(moment(text)) + ago
    assert before <= sent <= datetime.now(UTC)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2h ago", "-2h", "2w", "999999d", "2026-02-30T00:00Z", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    """With examples of what is one."""
    with pytest.raises(click.BadParameter, match="is no time: write 2026-01-31T12:00"):
        moment(text)
