"""Keeps the images of one upload on disk until all of it has been checked, and finds the URLs that repeat."""

import marshal
import sqlite3
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from libs.documents import NewImage
from libs.egress import CanonicalUrl
from services.ingest.plain import PlainRows
from services.ingest.repeats import Repeats

BATCH = 2_000
"""Images in one batch that goes to MongoDB, at most."""
MOST_CHARACTERS = 4 * 2**20
"""Of the names and URLs of a batch, but for what came with the last of them; a batch is in memory as a whole."""

_PAGE_CACHE_KIB = 8 * 1024
_SCHEMA = """
CREATE TABLE batches (first INTEGER PRIMARY KEY, images BLOB NOT NULL);
CREATE TABLE repeats (position INTEGER PRIMARY KEY, first INTEGER NOT NULL, copies INTEGER NOT NULL);
"""


class Spool:
    """A private temporary SQLite database that spills to disk and is gone when closed or when the process dies.

    A URL that stood before in the upload, in the same or another spelling of the same address, becomes an alias of
    its first occurrence. Not for use by two threads at once, but by one after the other.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_PAGE_CACHE_KIB};"
            f"{_SCHEMA} BEGIN;"
        )
        self._repeats = Repeats()
        # Of the images that are not written yet: row, serial number, product name, URL, host.
        self._rows: list[int] = []
        self._serial_numbers: list[int] = []
        self._names: list[str] = []
        self._urls: list[str] = []
        self._hosts: list[str] = []
        self._characters = 0
        self._row = (0, "")
        self._is_complete = False
        self.rows = 0
        self.images = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drops everything. Safe to call twice."""
        self._database.close()

    def begin_row(self, serial_number: int, product_name: str) -> None:
        """Begins the row that the images added until the next call belong to."""
        self._row = (serial_number, product_name)
        self.rows += 1

    def add_image(self, url: str, address: CanonicalUrl) -> None:
        """Adds an image to the row: `url` as it was written, `address` as it is understood."""
        serial_number, name = self._row
        self._rows.append(self.rows - 1)
        self._serial_numbers.append(serial_number)
        self._names.append(name)
        self._urls.append(url)
        self._hosts.append(_without_dot(address.host))
        self._repeats.add([address.text])
        self._count(1, len(name) + len(url))

    def add_rows(self, rows: PlainRows, addresses: Sequence[str], hosts: Sequence[str]) -> None:
        """Adds rows of one image each; `addresses` and `hosts` are those of their URLs as they are understood."""
        self._rows.extend(range(self.rows, self.rows + len(rows.urls)))
        self._serial_numbers.extend(rows.serial_numbers)
        self._names.extend(rows.names)
        self._urls.extend(rows.urls)
        self._hosts.extend(map(_without_dot, hosts))
        self._repeats.add(addresses)
        self.rows += len(rows.urls)
        self._count(len(rows.urls), _characters(rows.names, rows.urls))

    def _count(self, images: int, characters: int) -> None:
        self.images += images
        self._characters += characters
        while len(self._urls) >= BATCH or self._characters >= MOST_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        first = self.images - len(self._urls)
        columns: tuple[list[Any], ...] = (self._rows, self._serial_numbers, self._names, self._urls, self._hosts)
        images = marshal.dumps([column[:BATCH] for column in columns])
        self._database.execute("INSERT INTO batches VALUES (?, ?)", (first, images))
        for column in columns:
            del column[:BATCH]
        self._characters = _characters(self._names, self._urls)

    def complete(self) -> None:
        """Writes what is still held in memory, and finds the URLs that repeat; nothing is added after it.

        Raises:
            sqlite3.OperationalError: the disk is full.
        """
        if not self._is_complete:
            if self._urls:
                self._flush()
            self._database.executemany("INSERT INTO repeats VALUES (?, ?, ?)", self._repeats.found())
            self._is_complete = True

    def batches(self) -> Iterator[list[NewImage]]:
        """All images in order, at most `BATCH` at a time."""
        self.complete()
        for first, images in self._database.execute("SELECT first, images FROM batches ORDER BY first"):
            # What it was dumped as here; nobody else can open the file.
            columns = marshal.loads(images)  # noqa: S302
            batch = list(map(NewImage, range(first, self.images), *columns))
            repeats = "SELECT * FROM repeats WHERE position >= ? AND position < ?"
            for position, original, copies in self._database.execute(repeats, (first, first + len(batch))):
                is_first = position == original
                batch[position - first] = batch[position - first]._replace(
                    alias_of=None if is_first else original, copies=copies if is_first else 0
                )
            yield batch


def _characters(*columns: Sequence[str]) -> int:
    return sum(sum(map(len, column)) for column in columns)


def _without_dot(host: str) -> str:
    return host.removesuffix(".")
