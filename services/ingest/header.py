"""The header of a catalogue: which columns there have to be, and the delimiter it gives away."""

import re
from collections.abc import Callable, Sequence

COLUMNS = ("S. No.", "Product Name", "Input Image Urls")
LONGEST_HEADER = 4096
"""Characters."""

_DELIMITERS = ",;\t"

Report = Callable[[int, int | None, str], None]


def delimiter_of(header: str) -> str:
    """The delimiter (comma, semicolon or tab) that stands most often in `header` outside quotes."""
    bare = re.sub(r'"[^"]*"', "", header[:LONGEST_HEADER])
    return max(_DELIMITERS, key=bare.count)


def check_header(line: int, cells: Sequence[str], report: Report) -> None:
    """Tells `report` what is wrong with the header in `line`, as (line, column, detail)."""
    if sum(map(len, cells)) + len(cells) > LONGEST_HEADER:
        report(line, None, f"the header is longer than {LONGEST_HEADER:,} characters")
        return
    for column, expected in enumerate(COLUMNS, start=1):
        if column > len(cells):
            report(line, None, f"the header has no column “{expected}”")
        elif _squeezed(cells[column - 1]) != _squeezed(expected):
            report(line, column, f"the header has “{cells[column - 1][:100]}” where “{expected}” belongs")
    for column, cell in enumerate(cells[3:], start=4):
        if cell.strip():
            report(line, column, f"“{cell[:100]}” in the header: all from column 3 on are image URLs")


def _squeezed(name: str) -> str:
    return "".join(name.split()).casefold()
