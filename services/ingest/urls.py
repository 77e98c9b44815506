"""Puts the image URLs of a row together again from its cells, and takes them apart from each other."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

LONGEST_URL = 8_000
"""Characters of the longest URL that is accepted."""
_SLACK = 1_000

# A comma parts two URLs only where a URL follows; any other comma belongs to the URL. Another scheme than http counts
# as one too, so that `…/a.jpg, ftp://…` is told as what it is instead of failing much later as one strange URL.
_SEPARATOR = r"\s*(?=[A-Za-z][A-Za-z0-9+.\-]*+://|data:)"

Report = Callable[[int, str], None]


class CellUrl(NamedTuple):
    """A URL and the column (from 1) of the cell it starts in."""

    column: int
    url: str


class UrlCells:
    """Reads the cells from the third on of one row after the other, in pieces of any size.

    Cells are joined by the delimiter first, since an unquoted URL with commas in it (`…/w_200,h_300/a.jpg`) has been
    torn apart by the CSV. Empty cells at the end of a row count for nothing; one before a URL is told to `report` as
    (column, detail). At most one URL is held at a time.
    """

    def __init__(self, delimiter: str, report: Report) -> None:
        self._delimiter = delimiter
        self._report = report
        self._separator = re.compile(rf"[,{re.escape(delimiter)}]{_SEPARATOR}")
        self._clear()

    def _clear(self) -> None:
        self._text = ""
        self._column = 0
        self._blank_from = 0
        self._blanks = 0
        self._joint = -1
        self._lead = ""
        self._in_cell = False
        self._too_long = False

    def add(self, column: int, text: str, *, first: bool, last: bool) -> Iterator[CellUrl]:
        """Takes a piece of the cell at `column`; gives the URLs that are whole by now."""
        if first:
            self._in_cell, self._lead = False, ""
        if not self._in_cell:
            text = self._lead + text
            if not text.strip():
                self._lead = text[:_SLACK]
                if last:
                    self._blanks += 1
                    self._blank_from = self._blank_from or column
                return
            self._in_cell = True
            self._join(column)
        self._text += text
        yield from self._split(column)
        if last:
            self._settle_joint()
        if len(self._text) > LONGEST_URL + _SLACK:
            self._cut()

    def end(self) -> Iterator[CellUrl]:
        """The row ends here: gives its last URL."""
        if self._text:
            yield from self._emit(self._text)
        self._clear()

    def _join(self, column: int) -> None:
        if not self._text:
            if self._blanks:
                self._report(self._blank_from, "the URL cell is empty")
            self._blanks = self._blank_from = 0
            self._column = column
            return
        self._joint = len(self._text)
        self._text += self._delimiter * (self._blanks + 1)

    def _split(self, column: int) -> Iterator[CellUrl]:
        start = 0
        for match in self._separator.finditer(self._text):
            url_end = match.start()
            if self._blanks and 0 <= self._joint <= url_end <= self._joint + self._blanks:
                self._report(self._blank_from, "the URL cell is empty")
                url_end = self._joint
            yield from self._emit(self._text[start:url_end])
            self._column, start, self._joint = column, match.end(), -1
            self._blanks = self._blank_from = 0
        if start:
            self._text = self._text[start:]

    def _settle_joint(self) -> None:
        self._joint = -1
        self._blanks = self._blank_from = 0

    def _emit(self, text: str) -> Iterator[CellUrl]:
        url = text.strip()
        if self._too_long or len(url) > LONGEST_URL:
            self._report(self._column, f"the URL is longer than {LONGEST_URL:,} characters")
            self._too_long = False
        else:
            yield CellUrl(self._column, url)

    def _cut(self) -> None:
        stripped = self._text.rstrip()
        if len(stripped) > LONGEST_URL:
            self._too_long = True
            stripped = stripped[-_SLACK:]
        self._text = stripped + self._text[len(stripped) :][:1]
        self._joint = -1
