"""Whether a WebP, AVIF or TIFF file is cut short: Pillow only says that it cannot read such a file."""

import struct

from libs.imaging.header import webp_size
from libs.imaging.limits import check_size
from libs.imaging.reasons import ImageError
from libs.imaging.sniff import SourceFormat


def check_whole(data: bytes, source: SourceFormat, max_pixels: int) -> None:
    """Refuses a file that is shorter than it says.

    Raises:
        ImageError: `truncated`; for a WebP also `too_many_pixels`, since opening it takes memory for all its pixels.
    """
    if source is SourceFormat.WEBP:
        _check_webp(data, max_pixels)
    elif source is SourceFormat.AVIF:
        _check_boxes(data)
    elif source is SourceFormat.TIFF:
        _check_tiff(data)


def _check_webp(data: bytes, max_pixels: int) -> None:
    """RFC 9649: the RIFF size at 4, the first chunk at 12."""
    if len(data) < 30:
        raise ImageError("truncated", "ends within the header")
    try:
        check_size(*webp_size(data), max_pixels)
    except ValueError as error:
        raise ImageError("corrupt", str(error)) from error
    size = int.from_bytes(data[4:8], "little") + 8
    if size > len(data):
        raise ImageError("truncated", f"{len(data)} of {size} bytes")


def _check_boxes(data: bytes) -> None:
    """ISO/IEC 14496-12, 4.2: boxes of a size and a type; size 1 means that 64 bits of it follow, 0 up to the end."""
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size == 0:
            return
        if size < 8:
            raise ImageError("corrupt", "a box without a size")
        position += size
    if position > len(data):
        raise ImageError("truncated", f"{len(data)} of {position} bytes")


def _check_tiff(data: bytes) -> None:
    """TIFF 6.0, section 2: the offset of the first directory at 4; it holds a count and entries of 12 bytes."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        raise ImageError("truncated", "ends within the header")
    (offset,) = struct.unpack_from(f"{order}I", data, 4)
    if offset + 2 > len(data) or offset + 2 + 12 * struct.unpack_from(f"{order}H", data, offset)[0] > len(data):
        raise ImageError("truncated", "the directory of the image is missing")
