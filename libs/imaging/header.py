"""What a file's header says of its size, read in microseconds and without a decoder: enough to estimate a cost by."""

import struct
from dataclasses import dataclass

from libs.imaging.limits import MAX_SEGMENTS
from libs.imaging.reasons import ImageError
from libs.imaging.sniff import SourceFormat, sniff

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # not DHT, JPG, DAC
_JPEG_WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9), 0xFF})
_HEAD_BYTES = 1 << 18
_TIFF_SIZES = {256: 0, 257: 1}

# Real files have tens of entries, a handful of boxes and an extent or two.
_MAX_ENTRIES = 1000
_MAX_BOXES = 16
_MAX_EXTENTS = 100
_BOX_HEAD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Header:
    """What a file is, and the width and height that it states; 0 where they cannot be told.

    `inks` says of a JPEG that it has four colours, which take more to convert.
    """

    source: SourceFormat
    width: int
    height: int
    inks: bool = False

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def read(data: bytes) -> Header | None:
    """The header of `data`, of which a beginning is enough for most formats; None where it is no image by its bytes.

    It is an estimate: the largest picture in the header counts, whatever else is wrong with the file.
    """
    try:
        source = sniff(data)
    except ImageError:
        return None
    try:
        if source is SourceFormat.JPEG:
            width, height, components = _jpeg(data)
            return Header(source, width, height, inks=components == 4)
        width, height = _READERS[source](data)
    except (struct.error, ValueError):
        return Header(source, 0, 0)
    return Header(source, width, height)


def _jpeg(data: bytes) -> tuple[int, int, int]:
    """Goes from segment to segment up to the frame (ITU-T T.81, B.2.2), as many as a file may have."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        position = data.index(b"\xff", position) + 1
        (marker,) = struct.unpack_from("B", data, position)
        if marker in _JPEG_FRAMES:
            height, width, components = struct.unpack_from(">HHB", data, position + 4)
            return width, height, components
        if marker not in _JPEG_WITHOUT_LENGTH:
            position += 1 + struct.unpack_from(">H", data, position + 1)[0]
    raise ValueError("no frame")


def _png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file, by its first chunk (RFC 9649). Raises struct.error or ValueError."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        low, high, more, most = struct.unpack_from("<HBHB", data, 24)
        return (low | high << 16) + 1, (more | most << 16) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise ValueError(f"a WebP file cannot begin with {chunk!r}")


def _bmp(data: bytes) -> tuple[int, int]:
    if int.from_bytes(data[14:18], "little") == 12:  # OS/2
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


def _tiff(data: bytes) -> tuple[int, int]:
    order = "<" if data[:2] == b"II" else ">"
    (offset,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, offset)
    size = [0, 0]
    for index in range(min(entries, _MAX_ENTRIES)):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", data, offset + 2 + 12 * index)
        if tag in _TIFF_SIZES:
            form = "H" if kind == 3 else "I"
            (size[_TIFF_SIZES[tag]],) = struct.unpack_from(f"{order}{form}", data, offset + 10 + 12 * index)
    return size[0], size[1]


def _avif(data: bytes) -> tuple[int, int]:
    """The largest of the image spatial extents (ISO/IEC 23008-12, 6.5.3): a grid's tiles have theirs too."""
    start, end = _meta_box(data)
    sizes: list[tuple[int, int]] = []
    position = data.find(b"ispe", start, end)
    while position >= 0 and len(sizes) < _MAX_EXTENTS:
        sizes.append(struct.unpack_from(">II", data, position + 8))
        position = data.find(b"ispe", position + 4, end)
    if position >= 0:
        raise ValueError("more extents than any picture has")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return width, height


def _meta_box(data: bytes) -> tuple[int, int]:
    """Where the box lies that tells of a file's items (ISO/IEC 14496-12, 8.11.1), which as a rule is the second."""
    position = 0
    for _ in range(_MAX_BOXES):
        size, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"meta":
            return position, position + min(size or _HEAD_BYTES, _HEAD_BYTES)
        if size < _BOX_HEAD_BYTES:
            break
        position += size
    raise ValueError("no meta box")


_READERS = {
    SourceFormat.PNG: _png,
    SourceFormat.GIF: _gif,
    SourceFormat.WEBP: webp_size,
    SourceFormat.BMP: _bmp,
    SourceFormat.TIFF: _tiff,
    SourceFormat.AVIF: _avif,
}
