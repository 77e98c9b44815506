"""Keeps the images of one upload on disk until all of it has been checked, and finds the URLs that repeat."""

import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from types import TracebackType
from typing import Self

from yarl import URL

from libs.documents import NewImage

BATCH = 1_000
"""Images in one batch that goes to MongoDB."""

_PAGE_CACHE_KIB = 8 * 1024
_SCHEMA = """
CREATE TABLE rows (row INTEGER PRIMARY KEY, serial_number INTEGER NOT NULL, product_name TEXT NOT NULL);
CREATE TABLE images (
  position INTEGER PRIMARY KEY, row INTEGER NOT NULL, url TEXT NOT NULL, host TEXT NOT NULL, digest BLOB NOT NULL
);
CREATE TABLE seen (digest BLOB PRIMARY KEY, first INTEGER NOT NULL, copies INTEGER NOT NULL) WITHOUT ROWID;
"""
_SEEN = "INSERT INTO seen VALUES (?, ?, 0) ON CONFLICT (digest) DO UPDATE SET copies = copies + 1"
_ALL = """
SELECT position, row, serial_number, product_name, url, host, nullif(first, position), iif(first = position, copies, 0)
FROM images JOIN rows USING (row) JOIN seen USING (digest) ORDER BY position
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
        self._rows: list[tuple[int, int, str]] = []
        self._images: list[tuple[int, int, str, str, bytes]] = []
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

    def add_row(self, serial_number: int, product_name: str) -> None:
        """Ends the row that the images added since the last call belong to."""
        self._rows.append((self.rows, serial_number, product_name))
        self.rows += 1

    def add_image(self, url: str, address: URL) -> None:
        """Adds an image to the row that is not ended yet: `url` as it was written, `address` as it is understood."""
        digest = blake2b(str(address).encode(), digest_size=16).digest()
        self._images.append((self.images, self.rows, url, (address.raw_host or "").removesuffix("."), digest))
        self.images += 1
        if len(self._images) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Writes what is still held in memory. Raises `sqlite3.OperationalError` when the disk is full."""
        execute = self._database.executemany
        execute("INSERT INTO rows VALUES (?, ?, ?)", self._rows)
        execute("INSERT INTO images VALUES (?, ?, ?, ?, ?)", self._images)
        execute(_SEEN, [(digest, position) for position, _, _, _, digest in self._images])
        self._rows, self._images = [], []

    def batches(self) -> Iterator[list[NewImage]]:
        """All images in order, at most `BATCH` at a time."""
        self.flush()
        found = self._database.execute(_ALL)
        while batch := found.fetchmany(BATCH):
            yield [
                NewImage(
                    position=position,
                    row=row,
                    serial_number=serial_number,
                    product_name=product_name,
                    url=url,
                    host=host,
                    alias_of=alias_of,
                    copies=copies,
                )
                for position, row, serial_number, product_name, url, host, alias_of, copies in batch
            ]
