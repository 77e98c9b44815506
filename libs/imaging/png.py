"""The chunks of a PNG file (W3C PNG, third edition): whether they are whole, and what Pillow does not tell.

Where a file breaks the rules, it counts what libpng makes of it, which is what browsers show.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from isal.isal_zlib import crc32

from libs.imaging.limits import MAX_CHUNKS, check_size
from libs.imaging.reasons import ImageError

_SIGNATURE_BYTES = 8
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
# What Pillow is shown beside them. It stumbles over others though nothing of them is wanted, and keeps texts, by their
# names, among its own facts of a picture.
_SHOWN = frozenset({b"tRNS", b"iCCP", b"eXIf"})
# What a picture looks the same by: transparency, and how to read its colours. The first is any viewer's, an animation's
# further frames are not.
_PICTURE = _CRITICAL | {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sBIT"}
_INDEXED = 3
_MOST_COLOURS = 256
_INFLATE_BYTES = 1 << 20
_MOST_TEXT_BYTES = 16 << 20
_NO_PIXELS = struct.pack(">I4sI", 0, b"IDAT", crc32(b"IDAT"))

Place = tuple[int, int]
"""Where something begins in a file, and where it has ended."""


@dataclass(frozen=True, slots=True)
class Png:
    """The header of a PNG file, and where its image data lie.

    `shown` is a file of what Pillow is to see: a still picture without the chunks that it could misunderstand, and
    without its image data, which `libs.imaging.rows` unpacks.
    """

    width: int
    height: int
    bit_depth: int
    colour_type: int
    animated: bool = False
    image_data: tuple[Place, ...] = ()
    shown: bytes = b""

    def transparency_in_8_bits(self, value: int) -> int:
        """A sample value of this file, as its transparency chunk states it, on the scale that Pillow decodes to."""
        if self.bit_depth == 16:
            return value >> 8
        most = (1 << self.bit_depth) - 1
        return (value & most) * 255 // most  # only the lowest bits of the two bytes count (11.3.1.1)


def parse(data: bytes, max_pixels: int) -> Png:
    """Walks over the chunks and checks what Pillow does not: sums, order, the palette. Unpacks no pixels.

    Raises:
        ImageError: `too_many_pixels` by the header; `truncated` where the end is missing; `corrupt`; `too_complex`.
    """
    header = _header(data)
    check_size(header.width, header.height, max_pixels)
    walk = _Walk(data, header)
    for kind, start, end in _chunks(data):
        if kind in _CRITICAL:
            walk.critical(kind, start, end)
        elif kind[:1].islower():  # 5.4
            walk.ancillary(kind, start, end)
        else:
            raise ImageError("corrupt", f"chunk {kind!r} is critical and unknown")
    return walk.result()


class _Walk:
    """What the chunks up to here have told."""

    def __init__(self, data: bytes, header: Png) -> None:
        self._data = data
        self._header = header
        self._seen: set[bytes] = set()
        self._image_data: list[Place] = []
        self._shown = [data[:_SIGNATURE_BYTES]]
        self._colours = 0
        self._frames = 0
        self._text_bytes = 0

    def result(self) -> Png:
        """The facts, after the last chunk."""
        image_data = tuple(self._image_data)
        return replace(self._header, animated=self._frames > 1, image_data=image_data, shown=b"".join(self._shown))

    def critical(self, kind: bytes, start: int, end: int) -> None:
        """Takes a chunk without which there is no picture; raises `corrupt` for what cannot stand where it does."""
        if crc32(memoryview(self._data)[start - 4 : end]) != self._sum(end):
            raise ImageError("corrupt", f"wrong check sum of chunk {kind!r}")
        if kind == b"IDAT":
            self._begin_pixels()
            self._image_data.append((start, end))
            return
        if kind in self._seen:
            raise ImageError("corrupt", f"has two chunks {kind!r}")
        if kind == b"PLTE" and self._header.colour_type == _INDEXED:
            self._colours = _colours(end - start)
        self._seen.add(kind)
        self._show(start, end)

    def ancillary(self, kind: bytes, start: int, end: int) -> None:
        """Takes what is wanted of the others; what is broken or stands in the wrong place is passed over."""
        if kind in {b"zTXt", b"iTXt"}:
            self._check_text(_packed_text(kind, self._data[start:end]))
        elif kind == b"acTL" and not self._image_data and end - start == 8:
            self._frames = int.from_bytes(self._data[start : start + 4], "big")
        elif kind == b"fcTL":
            self._seen.add(kind)
        elif kind in _SHOWN and kind not in self._seen and self._is_usable(kind, self._data[start:end], self._sum(end)):
            self._seen.add(kind)
            self._show(start, end)

    def _show(self, start: int, end: int) -> None:
        self._shown.append(self._data[start - 8 : end + 4])

    def _check_text(self, packed: bytes) -> None:
        """Nobody reads texts; but one that unpacks to megabytes is meant to do harm, and so is the file."""
        unpacked = _unpacked_bytes(packed)
        self._text_bytes += unpacked
        if unpacked > _INFLATE_BYTES or self._text_bytes > _MOST_TEXT_BYTES:
            raise ImageError("corrupt", "a text that unpacks to megabytes")

    def _begin_pixels(self) -> None:
        if self._image_data:
            return
        self._shown.append(_NO_PIXELS)
        if self._header.colour_type == _INDEXED and not self._colours:
            raise ImageError("corrupt", "the palette is missing")
        if self._frames and b"fcTL" not in self._seen:
            self._frames += 1  # beside the animation, for viewers that know none

    def _is_usable(self, kind: bytes, body: bytes, wanted_sum: int) -> bool:
        if crc32(kind + body) != wanted_sum:
            return False
        if kind == b"eXIf":
            return True
        if self._image_data:  # too late for whoever draws row by row
            return False
        if kind == b"iCCP":
            return _is_profile(body)
        if self._header.colour_type == _INDEXED:
            return 1 <= len(body) <= self._colours
        return len(body) == {0: 2, 2: 6}.get(self._header.colour_type)

    def _sum(self, end: int) -> int:
        return int.from_bytes(self._data[end : end + 4], "big")


def _header(data: bytes) -> Png:
    header = data[_SIGNATURE_BYTES : _SIGNATURE_BYTES + 25]
    if len(header) < 25:
        raise ImageError("truncated", "ends within the header")
    length, kind, width, height, bit_depth, colour_type = struct.unpack_from(">I4sIIBB", header)
    if kind == b"CgBI":
        raise ImageError("unsupported_format", "Apple's variant of PNG is not supported")
    if kind != b"IHDR" or length != 13:
        raise ImageError("corrupt", "does not begin with a header")
    return Png(width, height, bit_depth, colour_type)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each chunk up to the last, where its body begins and where it has ended."""
    position = _SIGNATURE_BYTES
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            raise ImageError("truncated", "the end of the image is missing")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ImageError("truncated", f"ends within chunk {kind!r}")
        yield kind, position + 8, end - 4
        if kind == b"IEND":
            return
        position = end
    raise ImageError("too_complex", f"more than {MAX_CHUNKS} chunks")


def _colours(length: int) -> int:
    """How many colours a palette of `length` bytes has (11.2.2)."""
    if length % 3 or not 1 <= length // 3 <= _MOST_COLOURS:
        raise ImageError("corrupt", f"a palette of {length} bytes")
    return length // 3


def _packed_text(kind: bytes, body: bytes) -> bytes:
    """The compressed part of a text (11.3.3.3 and 11.3.3.4), behind its name; nothing where there is none."""
    _, _, rest = body.partition(b"\0")
    if kind == b"zTXt":
        return rest[1:]
    if rest[:1] != b"\1":
        return b""
    _, _, translated = rest[2:].partition(b"\0")
    return translated.partition(b"\0")[2]


def _is_profile(body: bytes) -> bool:
    """Whether Pillow unpacks a profile (11.3.2.3): it refuses the picture for one that it does not."""
    name, _, packed = body.partition(b"\0")
    return len(name) < 80 and packed[:1] == b"\0" and _unpacked_bytes(packed[1:]) <= _INFLATE_BYTES


def _unpacked_bytes(packed: bytes) -> int:
    """How many bytes are in there, counted no further than to one more than Pillow unpacks of a text or a profile."""
    try:
        return len(zlib.decompressobj().decompress(packed, _INFLATE_BYTES + 1))
    except zlib.error:
        return 0


def cleaned(data: bytes, exif: bytes, *, with_profile: bool) -> bytes:
    """A file that `parse` took, as a still picture without text, times, previews and metadata other than `exif`."""
    parts = [data[:_SIGNATURE_BYTES]]
    position = _SIGNATURE_BYTES
    kind = b""
    exif_due = bool(exif)
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        if exif_due and kind == b"IDAT":
            parts.append(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
            exif_due = False
        if kind in _PICTURE or (kind == b"iCCP" and with_profile):
            parts.append(data[position : position + 12 + length])
        position += 12 + length
    return b"".join(parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc32(kind + body))
