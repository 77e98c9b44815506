"""A CSV reader (RFC 4180, leniently) that is fed text in chunks of any size and never holds a whole record.

The csv module wants whole lines and gives whole records: a line of 512 MiB of commas, or a quote that is never closed,
would take gigabytes there. Here a cell may come in several pieces.
"""

import re
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import NamedTuple

_NEWLINE = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r'(?:[^"]++|"")*+')
_MOST_LEADING_SPACES = 1024

Report = Callable[[int, int | None, str], None]


class Piece(NamedTuple):
    """Some text of a cell.

    `line` is where its record starts and `column` counts cells, both from 1. `first` marks the first piece of a cell,
    `last` the last one, and `ends_record` the last one of a record.
    """

    line: int
    column: int
    text: str
    first: bool
    last: bool
    ends_record: bool


class _State(Enum):
    START = auto()
    BARE = auto()
    QUOTED = auto()
    QUOTE_IN_QUOTED = auto()
    CLOSED = auto()


class RecordReader:
    """Splits text into the cells of records.

    A cell is quoted when its first character other than a space is a quote; spaces around the quotes are dropped. A
    quote elsewhere in an unquoted cell is text. Lines end with LF, CRLF or CR. What is malformed is told to `report`
    as (line, column, detail), and reading goes on.
    """

    def __init__(self, delimiter: str, report: Report) -> None:
        end = rf"({re.escape(delimiter)}|\r\n|\r|\n)"
        self._delimiter = delimiter
        self._report = report
        self._start = re.compile(rf'( *+")|([^{re.escape(delimiter)}\r\n]*+){end}?')
        self._bare = re.compile(rf"([^{re.escape(delimiter)}\r\n]*+){end}?")
        self._closed = re.compile(rf" *+{end}?")
        self._state = _State.START
        self._held = ""
        self._line = 1
        self.record_line = 1
        """The line where the record that is being read starts."""
        self._column = 1
        self._first = True

    def feed(self, text: str, *, final: bool = False) -> Iterator[Piece]:
        """The pieces of `text`; with `final`, the end of the last record too."""
        text = self._held + text
        self._held = ""
        if not final and text.endswith("\r"):  # the LF of a CRLF may be in the next chunk
            text, self._held = text[:-1], "\r"
        at = 0
        while at < len(text):
            if self._state in {_State.QUOTED, _State.QUOTE_IN_QUOTED}:
                at, pieces = self._in_quotes(text, at)
                yield from pieces
                continue
            if self._state is _State.START:
                match = _match(self._start, text, at)
                at = match.end()
                if match[1] is not None:
                    self._state = _State.QUOTED
                elif match[3] is None and not final and self._may_become_quoted(match[2]):
                    self._held = match[2] + self._held
                else:
                    self._state = _State.BARE
                    yield self._piece(match[2], match[3])
                continue
            at, piece = self._after_start(text, at)
            yield piece
        if final:
            yield from self._finish()

    def _may_become_quoted(self, text: str) -> bool:
        return len(text) < _MOST_LEADING_SPACES and not text.strip(" ")

    def _after_start(self, text: str, at: int) -> tuple[int, Piece]:
        if self._state is _State.CLOSED:
            match = _match(self._closed, text, at)
            if match[1] is not None or match.end() == len(text):
                return match.end(), self._piece("", match[1])
            self._report(
                self.record_line, self._column, "text after the closing quote; a quote in a cell is written twice"
            )
            self._state = _State.BARE
        match = _match(self._bare, text, at)
        return match.end(), self._piece(match[1], match[2])

    def _in_quotes(self, text: str, at: int) -> tuple[int, list[Piece]]:
        if self._state is _State.QUOTE_IN_QUOTED:
            if text[at] == '"':
                self._state = _State.QUOTED
                return at + 1, [self._piece('"', None)]
            self._state = _State.CLOSED
            return at, []
        match = _match(_QUOTED, text, at)
        self._line += len(_NEWLINE.findall(match[0]))
        at = match.end()
        if at < len(text):  # stopped at a single quote
            self._state = _State.QUOTE_IN_QUOTED
            at += 1
        return at, [self._piece(match[0].replace('""', '"'), None)]

    def _piece(self, text: str, end: str | None) -> Piece:
        ends_record = end is not None and end != self._delimiter
        piece = Piece(self.record_line, self._column, text, self._first, end is not None, ends_record)
        self._first = end is not None
        if ends_record:
            self._line += 1
            self.record_line, self._column = self._line, 1
            self._state = _State.START
        elif end is not None:
            self._column += 1
            self._state = _State.START
        return piece

    def _finish(self) -> Iterator[Piece]:
        if self._state is _State.QUOTED:
            self._report(self.record_line, self._column, "the quote that opens this cell is never closed")
        if self._state is not _State.START or self._column > 1:
            yield self._piece("", "\n")


def _match(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    match = pattern.match(text, at)
    if match is None:
        raise AssertionError("the patterns here match the empty string")
    return match
