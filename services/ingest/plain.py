"""Finds rows that need no csv module: a number, a name and one URL, without quotes and without anything odd.

Nearly all rows of a large catalogue are of this kind, and read many at a time they take a fifth of the time.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_SCHEME = len("https://")


class PlainRows(NamedTuple):
    """Rows of one URL each, column by column."""

    serial_numbers: Sequence[int]
    names: Sequence[str]
    urls: Sequence[str]
    origins: Sequence[str]
    """Of each URL what stands before its path: `https://a.example`."""


class PlainRun:
    """The plain rows that follow each other in a text whose cells `delimiter` parts.

    What it takes reads the same by the csv module, is within all bounds, and is right but perhaps for its host; and its
    URLs are canonical from the path on (`libs.egress`). What it leaves may be just as good.
    """

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        # Nothing is tried again. A path has what a URL may have as it stands, but for what may be a delimiter, and no ?
        # at its end, since that would be dropped. The rows are no possessive group: behind one whose last round fails,
        # Python before 3.11.5 goes on in the middle of that (CPython gh-106052).
        self._rows = re.compile(
            rf'(?>(?:[0-9]{{1,18}}+{delimiter}[^{delimiter}"\r\n]{{0,1000}}+{delimiter}'
            r"https?://[A-Za-z0-9.:-]{1,300}+/[!$%&'()*+./0-9:=?@A-Z_a-z~-]{0,7000}+(?<!\?)\r?\n)*)"
        )

    def end(self, text: str, start: int) -> int:
        """Where the plain rows end that begin at `start`, which is that of a row; there, when there is none."""
        found = self._rows.match(text, start)
        return found.end() if found else start

    def rows(self, run: str) -> PlainRows:
        """The rows in `run`, which are plain, each with its line end."""
        lines = run.replace("\r\n", "\n") if "\r" in run else run
        cells = lines.replace("\n", self._delimiter).split(self._delimiter)
        urls = cells[2::3]
        return PlainRows(
            [int(cell) for cell in cells[:-1:3]],
            [name.strip(" ") for name in cells[1::3]],
            urls,
            [url[: url.index("/", _SCHEME)] for url in urls],
        )
