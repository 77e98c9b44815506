"""Cuts the bytes of an upload into lines of text, within bounds that keep the csv module's memory flat.

The csv module holds a record whole: a quote that is never closed, or a line of 512 MiB of commas, would take gigabytes
there. So the bounds are checked here, before it sees the text.
"""

from collections.abc import Iterable, Iterator
from io import IncrementalNewlineDecoder, StringIO

from services.ingest.decoding import TextDecoder
from services.ingest.plain import PlainRun

LONGEST_RECORD = 16 * 2**20
"""Characters of a record, over all its lines. A hundred thousand URLs of 160 characters fit."""
MOST_PARTS = 1_000_000
"""Delimiters and line ends in a record; each makes an object."""


class RecordTooLargeError(Exception):
    """A record passes a bound; the message says which."""


class Lines:
    """The lines of a catalogue, each with its line end (LF, CRLF or CR), as they are pulled from the chunks.

    Raises:
        NotTextError: a byte is no text; the whole lines before it were given out.
        RecordTooLargeError: since `begin_record` more was read than a record may have.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._text = ""
        self._unread = StringIO()  # the same, as far as it was not read
        self._lines = self._bounded()
        self._count = 0
        self._length = 0
        self._parts = 0
        self.delimiter = ","
        self.record: list[str] = []
        """The lines of the record that is being read."""
        self.record_line = 1
        """The line where it starts, from 1."""
        self.ended = False
        """Whether the file had no line left when one was asked for."""

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def begin_record(self) -> None:
        """The record has been read; the next line starts another one."""
        self.record = []
        self.record_line = self._count + 1
        self._length = self._parts = 0

    def ahead(self, run: PlainRun) -> str:
        """Between two records: the plain rows that come next, as far as they have arrived; they are not read by it."""
        start = self._unread.tell()
        return self._text[start : run.end(self._text, start)]

    def skip(self, text: str, count: int) -> None:
        """Counts as read what comes next, `count` records of one line each."""
        self._unread.seek(self._unread.tell() + len(text))
        self._count += count
        self.begin_record()

    def _bounded(self) -> Iterator[str]:
        for line in self._split():
            self._count += 1
            self._length += len(line)
            self._parts += line.count(self.delimiter) + 1
            self._check_length(0)
            if self._parts > MOST_PARTS:
                raise RecordTooLargeError(f"a row may have at most {MOST_PARTS:,} delimiters and line ends")
            self.record.append(line)
            yield line
        self.ended = True

    def _split(self) -> Iterator[str]:
        held = StringIO(newline="")
        for text in self._texts():
            self._text, self._unread = text, StringIO(text, newline="")
            while line := self._unread.readline():
                if held.tell():
                    held.write(line)
                    self._check_length(held.tell())
                    if line[-1] in "\r\n":
                        yield held.getvalue()
                        held = StringIO(newline="")
                elif line[-1] in "\r\n":
                    yield line
                else:
                    held = StringIO(newline="")
                    held.write(line)
        if held.tell():
            yield held.getvalue()

    def _texts(self) -> Iterator[str]:
        decoder = TextDecoder()
        newlines = IncrementalNewlineDecoder(None, translate=False)  # the LF of a CRLF may be in the next chunk
        for chunk in self._chunks:
            text, fault = decoder.decode(chunk)
            yield newlines.decode(text)
            if fault:
                raise fault
        text, fault = decoder.decode(b"", final=True)
        yield newlines.decode(text, final=True)
        if fault:
            raise fault

    def _check_length(self, held: int) -> None:
        if self._length + held > LONGEST_RECORD:
            raise RecordTooLargeError(
                f"a row may have at most {LONGEST_RECORD:,} characters; perhaps a quote that opens a cell is not closed"
            )
