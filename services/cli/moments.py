"""Times as people type them."""

import re
from datetime import UTC, datetime, timedelta

import click

_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType[str]):
    """A time as an option: ISO 8601, by the clock here where it names no zone, or `90m`, `2h`, `3d` ago.

    Gives it as the interface takes it, in UTC.
    """

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The time as RFC 3339; a usage error where it is none."""
        try:
            moment = self._moment(value).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no time: write 2026-01-31T12:00, 2026-01-31T12:00Z, or 2h for two hours ago.", param, ctx
            )
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _moment(self, value: str) -> datetime:
        if ago := _AGO.fullmatch(value):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(value)
