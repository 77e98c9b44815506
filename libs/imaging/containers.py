"""Whether a WebP, AVIF, GIF or TIFF file is as its header says: Pillow cannot tell, or does not."""

import struct

from libs.imaging.header import webp_size
from libs.imaging.limits import check_size
from libs.imaging.reasons import ImageError
from libs.imaging.sniff import SourceFormat

_SHORT = 3  # the kind of a value of 16 bits
_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _PLANES = 256, 257, 259, 277, 284
_STRIP_OFFSETS, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS = 273, 278, 322, 323, 324
_OLD_JPEG, _SEPARATE = 6, 2


def check_whole(data: bytes, source: SourceFormat, max_pixels: int) -> None:
    """Refuses a file that is shorter than it says.

    Raises:
        ImageError: `truncated`, `corrupt`; `too_many_pixels` for WebP, since opening it takes memory for all pixels,
            for GIF, which Pillow makes as large as its first frame, and for TIFF.
    """
    if source is SourceFormat.WEBP:
        _check_webp(data, max_pixels)
    elif source is SourceFormat.AVIF:
        _check_boxes(data)
    elif source is SourceFormat.GIF:
        _check_gif(data, max_pixels)
    elif source is SourceFormat.TIFF:
        _check_tiff(data, max_pixels)


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


def _check_gif(data: bytes, max_pixels: int) -> None:
    """GIF89a, 18: the logical screen at 6."""
    if len(data) < 10:
        raise ImageError("truncated", "ends within the header")
    width, height = struct.unpack_from("<HH", data, 6)
    check_size(width, height, max_pixels)


def _check_tiff(data: bytes, max_pixels: int) -> None:
    """TIFF 6.0, section 2: the offset of the first directory at 4; it holds a count and entries of 12 bytes."""
    if len(data) < 8:
        raise ImageError("truncated", "ends within the header")
    order = "<" if data[:2] == b"II" else ">"
    (offset,) = struct.unpack_from(f"{order}I", data, 4)
    if offset + 2 > len(data) or offset + 2 + 12 * struct.unpack_from(f"{order}H", data, offset)[0] > len(data):
        raise ImageError("truncated", "the directory of the image is missing")
    (entries,) = struct.unpack_from(f"{order}H", data, offset)
    _check_strips(dict(_tag(data, order, offset + 2 + 12 * number) for number in range(entries)), max_pixels)


def _tag(data: bytes, order: str, position: int) -> tuple[int, tuple[int, int]]:
    """An entry of the directory: what it is of, how many values it has, and the first of them if it stands there."""
    tag, kind, count = struct.unpack_from(f"{order}HHI", data, position)
    (value,) = struct.unpack_from(f"{order}H" if kind == _SHORT else f"{order}I", data, position + 8)
    return tag, (count, value)


def _check_strips(tags: dict[int, tuple[int, int]], max_pixels: int) -> None:
    """TIFF 6.0, sections 3 and 15: where each strip or tile lies. Pillow leaves black what no strip is there for."""

    def value(tag: int, default: int) -> int:
        return tags[tag][1] if tag in tags else default

    width, height = value(_WIDTH, 0), value(_HEIGHT, 0)
    check_size(width, height, max_pixels)
    is_tiled = _TILE_WIDTH in tags
    across = value(_TILE_WIDTH, width) if is_tiled else width
    down = value(_TILE_HEIGHT, height) if is_tiled else min(value(_ROWS_PER_STRIP, height), height)
    if not across or not down or value(_COMPRESSION, 1) == _OLD_JPEG:  # Pillow refuses the one, libtiff knows the other
        return
    needed = -(-width // across) * -(-height // down)
    if value(_PLANES, 1) == _SEPARATE:
        needed *= value(_SAMPLES, 1)
    found, _ = tags.get(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS, (0, 0))
    if found < needed:
        raise ImageError("truncated", f"{found} of {needed} strips of the image")
