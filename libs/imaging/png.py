"""The chunks of a PNG file (W3C PNG, third edition): whether they are whole, and what Pillow does not tell.

Where a file breaks the rules, it counts what libpng makes of it, which is what browsers show.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from libs.imaging.limits import MAX_CHUNKS, check_size
from libs.imaging.reasons import ImageError

_SIGNATURE_BYTES = 8
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
# What a picture looks the same by: transparency, and how to read its colours. The first is any viewer's, an animation's
# further frames are not.
_PICTURE = _CRITICAL | {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sBIT"}
_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # for each colour type
_INDEXED = 3
_MOST_COLOURS = 256
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INFLATE_BYTES = 1 << 20

Place = tuple[int, int]
"""Where something begins in a file, and where it has ended."""


@dataclass(frozen=True, slots=True)
class Png:
    """The header of a PNG file, where its image data lie, and the chunks in it that Pillow must not see."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    interlaced: bool
    image_data: tuple[Place, ...] = ()
    misleading: tuple[Place, ...] = ()

    def readable(self, data: bytes) -> bytes:
        """The file without the chunks that Pillow would take for something else than they are."""
        if not self.misleading:
            return data
        parts = []
        position = 0
        for start, end in self.misleading:
            parts.append(data[position:start])
            position = end
        return b"".join((*parts, data[position:]))

    def transparency_in_8_bits(self, value: int) -> int:
        """A sample value of this file, as its transparency chunk states it, on the scale that Pillow decodes to."""
        if self.bit_depth == 16:
            return value >> 8
        most = (1 << self.bit_depth) - 1
        return (value & most) * 255 // most  # only the lowest bits of the two bytes count (11.3.1.1)

    def has_all_rows(self, data: bytes) -> bool:
        """Whether the image data unpack to as many bytes as all rows take. Unpacks them, in constant memory."""
        missing = self._bytes_of_rows()
        inflate = zlib.decompressobj()
        for start, end in self.image_data:
            packed = data[start:end]
            while packed and missing > 0:
                missing -= len(inflate.decompress(packed, _INFLATE_BYTES))
                packed = inflate.unconsumed_tail
        return missing <= 0

    def _bytes_of_rows(self) -> int:
        bits = self.bit_depth * _SAMPLES.get(self.colour_type, 1)
        total = 0
        for left, top, step, row_step in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            width, height = -(-(self.width - left) // step), -(-(self.height - top) // row_step)
            total += height * (1 + (width * bits + 7) // 8) if width > 0 and height > 0 else 0
        return total


def parse(data: bytes, max_pixels: int) -> Png:
    """Walks over the chunks and checks what Pillow does not: sums, order, the palette. Decompresses nothing.

    Raises:
        ImageError: `too_many_pixels` by the header; `truncated` where the end is missing; `corrupt`; `too_complex`.
    """
    header = _header(data)
    check_size(header.width, header.height, max_pixels)
    image_data = []
    misleading = []
    colours = 0
    is_transparent = False
    chunks = _chunks(data)
    next(chunks)  # the header
    for kind, body in chunks:
        if kind == b"IDAT":
            if header.colour_type == _INDEXED and not colours:
                raise ImageError("corrupt", "the palette is missing")
            image_data.append(body)
        elif kind == b"PLTE" and header.colour_type == _INDEXED:
            if colours:
                raise ImageError("corrupt", "has two palettes")
            colours = _colours(body)
        elif kind == b"tRNS":
            if is_transparent or image_data or not _is_transparency(body, header.colour_type, colours):
                misleading.append(_whole(body))
            else:
                is_transparent = True
        elif kind in _TEXT and data[body[0] : body[0] + 1].islower():
            misleading.append(_whole(body))  # Pillow keeps texts by their names, and among them facts of its own
        elif kind == b"IHDR" or (kind not in _CRITICAL and not kind[0] & 0x20):
            raise ImageError("corrupt", f"chunk {kind!r} cannot stand there")
    return replace(header, image_data=tuple(image_data), misleading=tuple(misleading))


def _header(data: bytes) -> Png:
    header = data[_SIGNATURE_BYTES : _SIGNATURE_BYTES + 25]
    if len(header) < 25:
        raise ImageError("truncated", "ends within the header")
    length, kind, width, height, bit_depth, colour_type, interlaced = struct.unpack_from(">I4sIIBBxxB", header)
    if kind == b"CgBI":
        raise ImageError("unsupported_format", "Apple's variant of PNG is not supported")
    if kind != b"IHDR" or length != 13:
        raise ImageError("corrupt", "does not begin with a header")
    return Png(width, height, bit_depth, colour_type, bool(interlaced))


def _chunks(data: bytes) -> Iterator[tuple[bytes, Place]]:
    """The kind of each chunk up to the last, and where its body lies. Checks the sums of those that matter."""
    view = memoryview(data)
    position = _SIGNATURE_BYTES
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            raise ImageError("truncated", "the end of the image is missing")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ImageError("truncated", f"ends within chunk {kind!r}")
        if kind in _CRITICAL and zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageError("corrupt", f"wrong check sum of chunk {kind!r}")
        yield kind, (position + 8, end - 4)
        if kind == b"IEND":
            return
        position = end
    raise ImageError("too_complex", f"more than {MAX_CHUNKS} chunks")


def _whole(body: Place) -> Place:
    return body[0] - 8, body[1] + 4


def _colours(palette: Place) -> int:
    """How many colours a palette has (11.2.2)."""
    length = palette[1] - palette[0]
    if length % 3 or not 1 <= length // 3 <= _MOST_COLOURS:
        raise ImageError("corrupt", f"a palette of {length} bytes")
    return length // 3


def _is_transparency(body: Place, colour_type: int, colours: int) -> bool:
    """Whether a transparency chunk has the length that goes with the colours (11.3.1.1); others are passed over."""
    length = body[1] - body[0]
    return 1 <= length <= colours if colour_type == _INDEXED else length == {0: 2, 2: 6}.get(colour_type)


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
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
