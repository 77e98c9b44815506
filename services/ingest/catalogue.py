"""Checks an uploaded catalogue (a CSV of products and image URLs) while it streams in."""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NoReturn

from libs.egress import EgressError, EgressPolicy
from services.ingest.decoding import NotTextError
from services.ingest.header import COLUMNS, check_header, delimiter_of
from services.ingest.lines import LONGEST_RECORD, Lines, RecordTooLargeError
from services.ingest.plain import PlainRun
from services.ingest.spool import Spool
from services.ingest.urls import FIRST_COLUMN, LONGEST_URL, UrlCells, UrlSeparator

MOST_PROBLEMS = 100
"""Reading stops after so many."""
LONGEST_PRODUCT_NAME = 1_000
"""Characters; the name is stored with each image of its row."""

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*", re.ASCII)
_HTTP = re.compile(r"https?://", re.IGNORECASE)
_MOST = 2**63 - 1  # what MongoDB's 64-bit integers hold

csv.field_size_limit(LONGEST_RECORD)  # of the whole process; the default of 128 KiB is less than a long row


@dataclass(frozen=True, slots=True)
class CellProblem:
    """What is wrong and where: `line` is where the row starts, `column` counts cells (None: the whole line), from 1."""

    line: int
    column: int | None
    detail: str


class InvalidCatalogueError(Exception):
    """The CSV is refused whole."""

    def __init__(self, code: str, problems: list[CellProblem]) -> None:
        super().__init__(problems[0].detail)
        self.code = code
        """`invalid_csv`, or `no_images` when no image URL stands in the whole file."""
        self.problems = problems
        """The first ones, at most `MOST_PROBLEMS`."""


class TooManyImagesError(Exception):
    """The CSV lists more images than one upload may."""


def no_checkpoint() -> None:
    """Lets the reading go on."""


class Catalogue:
    """Reads a CSV and puts its images into a spool.

    The csv module reads it, as leniently as spreadsheets do: spaces between a delimiter and a quote are dropped, a
    quote within an unquoted cell is text, and so is what follows a closing quote. Spaces around a name are dropped.

    Every row is checked; nothing is spooled any more after the first problem, since the file is refused whole.
    `checkpoint` is called for each row and each URL, or once for plain rows that are read together; what it raises ends
    the reading.
    """

    def __init__(
        self, policy: EgressPolicy, spool: Spool, *, max_images: int, checkpoint: Callable[[], None] = no_checkpoint
    ) -> None:
        self._policy = policy
        self._spool = spool
        self._max_images = max_images
        self._checkpoint = checkpoint
        self._problems: list[CellProblem] = []
        self._images = 0
        self._has_refused_host = False

    def read(self, chunks: Iterable[bytes]) -> None:
        """Reads the whole file; pulls the next chunk when all the lines of the last one have been checked.

        Raises:
            InvalidCatalogueError: something is wrong with it; as soon as that is certain and told completely.
            TooManyImagesError: as soon as there is one too many.
        """
        lines = Lines(chunks)
        try:
            empty = self._read(lines)
        except (NotTextError, RecordTooLargeError) as fault:
            self._report(lines.record_line, None, str(fault))
            self._refuse("invalid_csv", self._problems)
        if not self._images:
            self._refuse("no_images", self._problems or [CellProblem(1, None, empty)])
        if self._problems:
            self._refuse("invalid_csv", self._problems)

    def _read(self, lines: Lines) -> str:
        """Reads all lines; gives the words for the case that no row was there."""
        for first in lines:
            if first.strip():
                break
            lines.begin_record()
        else:
            return "the file is empty"
        lines.delimiter = delimiter_of(first)
        records = csv.reader(chain([first], lines), delimiter=lines.delimiter, skipinitialspace=True, strict=False)
        for cells in records:
            if any(map(str.strip, cells)):
                check_header(lines.record_line, cells, self._report)
                if self._problems:  # without the right columns the rows mean nothing
                    self._refuse("invalid_csv", self._problems)
                break
            lines.begin_record()
        lines.begin_record()
        separator, run = UrlSeparator(lines.delimiter), PlainRun(lines.delimiter)
        for cells in records:
            if cells:
                self._row(cells, lines, separator)
            lines.begin_record()
            self._plain_rows(lines, run)
        return "the file has no row below its header"

    def _plain_rows(self, lines: Lines, run: PlainRun) -> None:
        """Reads the plain rows that come next, unless one of their hosts is refused: the rows are to tell which."""
        if self._problems or self._has_refused_host or not (text := lines.ahead(run)):
            return
        self._checkpoint()
        rows = run.rows(text)
        try:
            roots = {origin: self._policy.check(f"{origin}/") for origin in set(rows.origins)}
        except EgressError:
            self._has_refused_host = True
            return
        self._images += len(rows.urls)
        if self._images > self._max_images:
            raise TooManyImagesError
        canonical = {origin: root.text[:-1] for origin, root in roots.items()}
        addresses = rows.urls
        if any(origin != written for origin, written in canonical.items()):
            parts = zip(rows.origins, rows.urls, strict=True)
            addresses = [canonical[origin] + url[len(origin) :] for origin, url in parts]
        self._spool.add_rows(rows, addresses, [roots[origin].host for origin in rows.origins])
        lines.skip(text, len(rows.urls))

    def _row(self, cells: Sequence[str], lines: Lines, separator: UrlSeparator) -> None:
        self._checkpoint()
        line = lines.record_line
        if lines.ended:  # asked for one more line in the middle of the record
            self._report(line, len(cells), "the quote that opens this cell is never closed")
            self._refuse("invalid_csv", self._problems)
        url_cells = UrlCells(cells[2:], separator)
        serial, name = cells[0], cells[1].strip(" ") if len(cells) > 1 else ""
        if not url_cells.text and not serial.strip() and not name.strip():
            return  # a line of delimiters alone
        number = _integer(serial)
        if number is None:
            self._report(line, 1, f"“{_shown(serial)}” is not an integer")
        if len(name) > LONGEST_PRODUCT_NAME:
            self._report(line, 2, f"the product name is longer than {LONGEST_PRODUCT_NAME:,} characters")
        if len(cells) < FIRST_COLUMN:
            self._report(line, None, f"the row has {len(cells)} of the 3 columns {', '.join(COLUMNS)}")
        elif not url_cells.text:
            self._report(line, FIRST_COLUMN, "the URL cell is empty")
        else:
            if number is not None and not self._problems:
                self._spool.begin_row(number, name)
            self._images_of(url_cells, lines, separator)

    def _images_of(self, cells: UrlCells, lines: Lines, separator: UrlSeparator) -> None:
        for column in cells.empty_columns():
            self._report(lines.record_line, column, "the URL cell is empty")
        written, at = "", 0
        if cells.are_torn():
            written = "".join(lines.record).replace('""', '"')
        for url, place in cells.urls():
            self._checkpoint()
            self._images += 1
            if self._images > self._max_images:
                raise TooManyImagesError
            problem = ""
            if written and separator.delimiter in url:
                # The csv module has dropped the space after a comma, and the quotes of cells.
                found = written.find(url, at)
                problem = "" if found >= 0 else "a space or a quote stands inside a URL"
                at = max(at, found)
            problem = problem or self._check(url)
            if problem:
                self._report(lines.record_line, cells.column(place), f"{problem}: {_shown(url)}")

    def _check(self, url: str) -> str:
        """Spools an image, or says what is wrong with its URL."""
        if len(url) > LONGEST_URL:
            return f"the URL is longer than {LONGEST_URL:,} characters"
        if len(url.split(None, 1)) > 1:
            return "a space stands inside a URL"
        try:
            address = self._policy.check(url)
        except EgressError as error:
            return error.detail
        if not self._problems:
            self._spool.add_image(url, address)
        return ""

    def _report(self, line: int, column: int | None, detail: str) -> None:
        self._problems.append(CellProblem(line, column, detail))
        if len(self._problems) >= MOST_PROBLEMS:
            self._refuse("invalid_csv", self._problems)

    def _refuse(self, code: str, problems: list[CellProblem]) -> NoReturn:
        raise InvalidCatalogueError(code, sorted(problems, key=_place)[:MOST_PROBLEMS])


def _place(problem: CellProblem) -> tuple[int, int]:
    return problem.line, problem.column or 0


def _integer(text: str) -> int | None:
    if not _INTEGER.fullmatch(text) or not -_MOST <= int(text) <= _MOST:
        return None
    return int(text)


def _shown(text: str) -> str:
    """As the problem tells of it, which is logged: cut, and without all that may be a user name and a password."""
    before, at, rest = text.rpartition("@")
    if at:
        scheme = _HTTP.match(before)
        text = f"{scheme.group() if scheme else ''}***@{rest}"
    return text if len(text) <= 100 else f"{text[:100]}…"
