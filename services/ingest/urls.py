"""Puts the image URLs of a row together again from its cells, and takes them apart from each other."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

LONGEST_URL = 8_000
"""Characters of the longest URL that is accepted."""
FIRST_COLUMN = 3
"""The column of the first URL cell, from 1."""

_URL_START = re.compile(r"\s*https?://", re.IGNORECASE)


class FoundUrl(NamedTuple):
    """A URL, and its place in the joined cells."""

    text: str
    place: int


class UrlSeparator:
    """Takes URLs apart at each comma, or delimiter of the file, that http:// or https:// follows."""

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter
        # No character is looked at from two separators: a line of a million tabs would take hours.
        spaces = rf",\s*|{delimiter}[^\S{delimiter}]*" if delimiter != "," else r",\s*"
        self._pattern = re.compile(rf"(?:{spaces})(?=https?://)", re.IGNORECASE)

    def urls(self, text: str) -> Iterator[FoundUrl]:
        """The URLs in `text`, in order, each without the spaces around it."""
        if "," not in text and self.delimiter not in text:  # nearly always, and in a tenth of the time
            yield FoundUrl(text.strip(), 0)
            return
        place = 0
        for match in self._pattern.finditer(text):
            yield FoundUrl(text[place : match.start()].strip(), place)
            place = match.end()
        yield FoundUrl(text[place:].strip(), place)


class UrlCells:
    """The cells of one row from the third on.

    They are joined by the delimiter, since the CSV has torn an unquoted URL with commas in it (`…/w_200,h_300/a.jpg`)
    apart. Blank cells at the end of a row count for nothing.
    """

    def __init__(self, cells: Sequence[str], separator: UrlSeparator) -> None:
        first, end = 0, len(cells)
        while end and not cells[end - 1].strip():
            end -= 1
        while first < end and not cells[first].strip():
            first += 1
        self._separator = separator
        self._cells = cells[first:end]
        self._first_column = FIRST_COLUMN + first
        self._ends: list[int] = []  # made when there is a problem to tell
        self.text = separator.delimiter.join(self._cells)
        """The cells as one text; empty when the row names no URL."""

    def urls(self) -> Iterator[FoundUrl]:
        """The URLs in order."""
        return self._separator.urls(self.text)

    def are_torn(self) -> bool:
        """Whether the row has more than one cell, so that a URL may span some."""
        return len(self._cells) > 1

    def empty_columns(self) -> Iterator[int]:
        """The columns where a blank cell stands in a URL's place: before the first one, and just before another."""
        if self._first_column > FIRST_COLUMN:
            yield FIRST_COLUMN
        if all(map(str.strip, self._cells)):
            return
        blank_from = 0
        for column, cell in enumerate(self._cells, start=self._first_column):
            if not cell.strip():
                blank_from = blank_from or column
            elif blank_from:
                if _URL_START.match(cell):
                    yield blank_from
                blank_from = 0

    def column(self, place: int) -> int:
        """The column (from 1) of the cell that holds the character at `place` of the text."""
        if not self._ends:
            self._ends = list(accumulate(len(cell) + 1 for cell in self._cells))
        return self._first_column + bisect_right(self._ends, place)
