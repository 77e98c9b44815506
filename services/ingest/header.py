"""The header of a catalogue: which columns there have to be, and the delimiter it gives away."""

import re
from collections.abc import Callable

from services.ingest.records import Piece

COLUMNS = ("S. No.", "Product Name", "Input Image Urls")
LONGEST_HEADER = 4096
"""Characters, blank lines above it included."""

_DELIMITERS = ",;\t"

Report = Callable[[int, int | None, str], None]


def delimiter_of(header: str) -> str:
    """The delimiter (comma, semicolon or tab) that stands most often in `header` outside quotes."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count)


class Header:
    """Reads the header from its pieces and tells `report` what is wrong with it as (line, column, detail)."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._cells: list[str] = []
        self._size = 0

    def add(self, piece: Piece) -> bool:
        """Takes the next piece; true once the header is read, or is too long to be one."""
        if piece.first:
            self._cells.append("")
        self._cells[-1] += piece.text
        self._size += len(piece.text) + piece.last
        if self._size > LONGEST_HEADER:
            self._report(piece.line, None, f"the header is longer than {LONGEST_HEADER:,} characters")
            return True
        if not piece.ends_record:
            return False
        cells, self._cells, self._size = self._cells, [], 0
        if not any(cell.strip() for cell in cells):
            return False  # a blank line above the header
        self._check(piece.line, cells)
        return True

    def _check(self, line: int, cells: list[str]) -> None:
        for column, expected in enumerate(COLUMNS, start=1):
            if column > len(cells):
                self._report(line, None, f"the header has no column {expected!r}")
            elif _squeezed(cells[column - 1]) != _squeezed(expected):
                self._report(line, column, f"the header has {cells[column - 1][:100]!r} where {expected!r} belongs")
        for column, cell in enumerate(cells[3:], start=4):
            if cell.strip():
                self._report(line, column, f"{cell[:100]!r} in the header: all from column 3 on are image URLs")


def _squeezed(name: str) -> str:
    return "".join(name.split()).casefold()
