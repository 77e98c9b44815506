"""Keeps the images of one upload on disk until all of it has been checked, and finds the URLs that repeat."""

import marshal
import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from itertools import starmap
from types import TracebackType
from typing import Self

from libs.documents import NewImage
from libs.egress import CanonicalUrl

BATCH = 1_000
"""Images in one batch that goes to MongoDB."""

_PAGE_CACHE_KIB = 8 * 1024
_SCHEMA = """
CREATE TABLE batches (first INTEGER PRIMARY KEY, images BLOB NOT NULL);
CREATE TABLE addresses (position INTEGER PRIMARY KEY, digest BLOB NOT NULL);
CREATE TABLE repeats (position INTEGER PRIMARY KEY, first INTEGER NOT NULL, copies INTEGER NOT NULL);
"""
# Sorted, since an index on digests, which come in no order, would be read and written all over for each image.
_FIND_REPEATS = """
CREATE TABLE repeated AS
  SELECT digest, min(position) AS first, count(*) - 1 AS copies FROM addresses GROUP BY digest HAVING copies > 0;
CREATE UNIQUE INDEX repeated_digest ON repeated (digest);
INSERT INTO repeats SELECT position, first, copies FROM addresses JOIN repeated USING (digest);
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
        # The fields of `NewImage`; the last two are set when the repeats are known.
        self._images: list[tuple[int, int, int, str, str, str, None, int]] = []
        self._digests: list[tuple[int, bytes]] = []
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
        position, host = self.images, address.host.removesuffix(".")
        self._images.append((position, self.rows - 1, *self._row, url, host, None, 0))
        self._digests.append((position, blake2b(address.text.encode(), digest_size=16).digest()))
        self.images += 1
        if len(self._images) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._images:
            values = (self._images[0][0], marshal.dumps(self._images))
            self._database.execute("INSERT INTO batches VALUES (?, ?)", values)
            self._database.executemany("INSERT INTO addresses VALUES (?, ?)", self._digests)
            self._images, self._digests = [], []

    def complete(self) -> None:
        """Writes what is still held in memory, and finds the URLs that repeat; nothing is added after it.

        Raises:
            sqlite3.OperationalError: the disk is full.
        """
        if not self._is_complete:
            self._flush()
            self._database.executescript(_FIND_REPEATS)
            self._is_complete = True

    def batches(self) -> Iterator[list[NewImage]]:
        """All images in order, at most `BATCH` at a time."""
        self.complete()
        for first, images in self._database.execute("SELECT first, images FROM batches ORDER BY first"):
            # What it was dumped as here; nobody else can open the file.
            batch = list(starmap(NewImage, marshal.loads(images)))  # noqa: S302
            repeats = "SELECT * FROM repeats WHERE position >= ? AND position < ?"
            for position, original, copies in self._database.execute(repeats, (first, first + len(batch))):
                is_first = position == original
                batch[position - first] = batch[position - first]._replace(
                    alias_of=None if is_first else original, copies=copies if is_first else 0
                )
            yield batch
