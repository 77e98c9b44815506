"""The rows of a PNG: unpacked here, put together by Pillow.

Pillow unpacks row by row, by zlib-ng; ISA-L does it at once, in well under half of the time (of Pillow's 28 ms for a
megapixel 18 are left, and 5 to unpack). And where the data end before the last row Pillow says so; by itself it leaves
black what is missing.
"""

import io
import struct
from collections.abc import Iterator

from isal.igzip_lib import DECOMP_ZLIB, IgzipDecompressor
from PIL import PngImagePlugin

from libs.imaging.png import Png

_HEAD = b"\x78\x01"  # RFC 1950, 2.2: method, window and a check of the two
_READ_BYTES = 1 << 16
_STORED_BYTES = (1 << 16) - 1  # RFC 1951, 3.2.4


class StillPng(PngImagePlugin.PngImageFile):
    """A PNG that Pillow reads the header of, and gets the rows of in pieces.

    The pieces are image data as they might stand in a file, but stored instead of packed. What follows the last row
    does not count, but for the check sum of all rows.
    """

    def __init__(self, data: bytes, facts: Png) -> None:
        self._pieces = _stored(data, facts)
        super().__init__(io.BytesIO(facts.shown))

    def load_read(self, read_bytes: int) -> bytes:  # noqa: ARG002 - a piece is as long as it is
        """The next piece, for Pillow, which asks for it while it loads; empty after the last."""
        return next(self._pieces, b"")


def _stored(data: bytes, facts: Png) -> Iterator[bytes]:
    """All rows as blocks that are not compressed.

    The last block does not say that it is the last: for more Pillow asks only when a row is missing, and then it finds
    the file truncated. Each is given when the next has been unpacked, so that their check sum has been seen before
    Pillow has the last row and asks no more.
    """
    piece = _HEAD
    for rows in _unpacked(data, facts):
        yield piece
        piece = struct.pack("<BHH", 0, len(rows), len(rows) ^ 0xFFFF) + rows
    yield piece


def _unpacked(data: bytes, facts: Png) -> Iterator[bytes]:
    """What is in the image data, in pieces that fit into a block."""
    inflate = IgzipDecompressor(DECOMP_ZLIB)
    for packed in _packed(memoryview(data), facts):
        rows = inflate.decompress(packed, _STORED_BYTES)
        while rows:
            yield rows
            rows = b"" if inflate.eof else inflate.decompress(b"", _STORED_BYTES)
        if inflate.eof:
            return


def _packed(data: memoryview, facts: Png) -> Iterator[memoryview]:
    """The image data of all chunks, in parts that are small beside a picture."""
    for start, end in facts.image_data:
        for position in range(start, end, _READ_BYTES):
            yield data[position : min(position + _READ_BYTES, end)]
