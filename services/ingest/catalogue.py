"""Checks an uploaded catalogue (a CSV of products and image URLs) while it streams in."""

import re
from dataclasses import dataclass
from typing import NoReturn

from libs.egress import EgressError, EgressPolicy
from services.ingest.decoding import TextDecoder
from services.ingest.header import COLUMNS, LONGEST_HEADER, Header, delimiter_of
from services.ingest.records import Piece, RecordReader
from services.ingest.spool import Spool
from services.ingest.urls import UrlCells

MOST_PROBLEMS = 100
"""Reading stops after so many."""
LONGEST_PRODUCT_NAME = 1_000
"""Characters; the name is stored with each image of its row."""

_LONGEST_SERIAL_NUMBER = 100
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*", re.ASCII)
_MOST = 2**63 - 1  # what MongoDB's 64-bit integers hold
_SPACE_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f]")


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


class Catalogue:
    """Takes the bytes of a CSV chunk by chunk and puts its images into a spool.

    Every row is checked; nothing is spooled any more after the first problem, since the file is refused whole.
    """

    def __init__(self, policy: EgressPolicy, spool: Spool, *, max_images: int) -> None:
        self._policy = policy
        self._spool = spool
        self._max_images = max_images
        self._problems: list[CellProblem] = []
        self._decoder = TextDecoder()
        self._head = ""
        self._records: RecordReader | None = None
        self._in_header = True
        self._header = Header(self._report)
        self._urls = UrlCells(",", self._report_url)
        self._line = 1
        self._serial = ""
        self._name = ""
        self._columns = 1
        self._url_seen_in_row = False
        self._images = 0

    def feed(self, data: bytes) -> None:
        """Reads on. Raises `InvalidCatalogueError` or `TooManyImagesError` as soon as that is certain."""
        self._read(data, final=False)

    def close(self) -> None:
        """Ends the file. Raises `InvalidCatalogueError` if anything was wrong with it."""
        self._read(b"", final=True)
        if not self._images:
            empty = "the file is empty" if self._in_header else "the file has no row below its header"
            self._refuse("no_images", self._problems or [CellProblem(1, None, empty)])
        if self._problems:
            self._refuse("invalid_csv", self._problems)

    def _refuse(self, code: str, problems: list[CellProblem]) -> NoReturn:
        raise InvalidCatalogueError(code, sorted(problems, key=_place)[:MOST_PROBLEMS])

    def _report(self, line: int, column: int | None, detail: str) -> None:
        self._problems.append(CellProblem(line, column, detail))
        if len(self._problems) >= MOST_PROBLEMS:
            self._refuse("invalid_csv", self._problems)

    def _report_url(self, column: int, detail: str) -> None:
        self._url_seen_in_row = True
        self._report(self._line, column, detail)

    def _read(self, data: bytes, *, final: bool) -> None:
        text, fault = self._decoder.decode(data, final=final)
        if self._records is None:
            self._head += text
            first_line = self._head.lstrip()
            ends = final or fault or len(self._head) > LONGEST_HEADER or re.search(r"[\r\n]", first_line)
            if not ends:
                return
            text, self._head = self._head, ""
            delimiter = delimiter_of(re.split(r"[\r\n]", first_line, maxsplit=1)[0])
            self._records = RecordReader(delimiter, self._report)
            self._urls = UrlCells(delimiter, self._report_url)
        for piece in self._records.feed(text, final=final and not fault):
            if not self._in_header:
                self._row_piece(piece)
            elif self._header.add(piece):
                self._in_header = False
                if self._problems:  # without the right columns the rows mean nothing
                    self._refuse("invalid_csv", self._problems)
        if fault:
            self._report(self._records.record_line, None, str(fault))
            self._refuse("invalid_csv", self._problems)

    def _row_piece(self, piece: Piece) -> None:
        line, column, text, first, last, ends_record = piece
        self._line, self._columns = line, column
        if column >= 3:
            for url_column, url in self._urls.add(column, text, first=first, last=last):
                self._image(url_column, url)
        elif column == 2:
            if len(self._name) <= LONGEST_PRODUCT_NAME:
                self._name += text
        elif len(self._serial) <= _LONGEST_SERIAL_NUMBER:
            self._serial += text
        if ends_record:
            for url_column, url in self._urls.end():
                self._image(url_column, url)
            self._row()

    def _row(self) -> None:
        serial, name, self._serial, self._name = self._serial, self._name, "", ""
        url_seen, self._url_seen_in_row = self._url_seen_in_row, False
        if not url_seen and not serial.strip() and not name.strip():
            return  # a blank line, or one of delimiters alone
        number = _integer(serial)
        if number is None:
            self._report(self._line, 1, f"{serial[:100]!r} is not an integer")
        if len(name) > LONGEST_PRODUCT_NAME:
            self._report(self._line, 2, f"the product name is longer than {LONGEST_PRODUCT_NAME:,} characters")
        if self._columns < 3:
            self._report(self._line, None, f"the row has {self._columns} of the 3 columns {', '.join(COLUMNS)}")
        elif not url_seen:
            self._report(self._line, 3, "the URL cell is empty")
        if number is not None and not self._problems:
            self._spool.add_row(number, name)

    def _image(self, column: int, url: str) -> None:
        self._url_seen_in_row = True
        self._images += 1
        if self._images > self._max_images:
            raise TooManyImagesError
        if space := _SPACE_OR_CONTROL.search(url):
            self._report(self._line, column, f"{space[0]!r} inside a URL: {_shortened(url)}")
            return
        try:
            address = self._policy.check_url(url)
        except EgressError as error:
            self._report(self._line, column, f"{error.detail}: {_shortened(url)}")
            return
        if not self._problems:
            self._spool.add_image(url, address)


def _place(problem: CellProblem) -> tuple[int, int]:
    return problem.line, problem.column or 0


def _integer(text: str) -> int | None:
    if not _INTEGER.fullmatch(text) or not -_MOST <= int(text) <= _MOST:
        return None
    return int(text)


def _shortened(url: str) -> str:
    return url if len(url) <= 100 else f"{url[:100]}…"
