"""The chunks of a PNG file (W3C PNG, third edition): whether they are whole, and what Pillow does not tell."""

import struct
import zlib
from dataclasses import dataclass

from libs.imaging.limits import MAX_CHUNKS, check_size
from libs.imaging.reasons import ImageError

_SIGNATURE_BYTES = 8
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
# What a picture looks the same by: transparency, and how to read its colours. The first is any viewer's, an animation's
# further frames are not.
_PICTURE = _CRITICAL | {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sBIT"}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # for each colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INFLATE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Png:
    """The header of a PNG file, and where its image data lie."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    interlaced: bool
    image_data: tuple[slice, ...]

    def transparency_in_8_bits(self, value: int) -> int:
        """A sample value of this file, as its transparency chunk states it, on the scale that Pillow decodes to."""
        if self.bit_depth == 16:
            return value >> 8
        return value * 255 // ((1 << self.bit_depth) - 1)

    def has_all_rows(self, data: bytes) -> bool:
        """Whether the image data unpack to as many bytes as all rows take. Unpacks them, in constant memory."""
        missing = self._bytes_of_rows()
        inflate = zlib.decompressobj()
        for place in self.image_data:
            packed = data[place]
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
    """Walks over the chunks and checks the sums that Pillow skips, without decompressing anything.

    Raises:
        ImageError: `too_many_pixels` by the header; `truncated` where the end is missing; `corrupt`; `too_complex`.
    """
    view = memoryview(data)
    header = data[_SIGNATURE_BYTES : _SIGNATURE_BYTES + 25]
    if len(header) < 25:
        raise ImageError("truncated", "ends within the header")
    length, kind, width, height, bit_depth, colour_type, interlaced = struct.unpack_from(">I4sIIBBxxB", header)
    if kind != b"IHDR" or length != 13:
        raise ImageError("corrupt", "does not begin with a header")
    check_size(width, height, max_pixels)
    image_data = []
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
        if kind == b"IDAT":
            image_data.append(slice(position + 8, end - 4))
        if kind == b"IEND":
            return Png(width, height, bit_depth, colour_type, bool(interlaced), tuple(image_data))
        position = end
    raise ImageError("too_complex", f"more than {MAX_CHUNKS} chunks")


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
