"""The chunks of a WebP file (RFC 9649)."""

from collections.abc import Iterator

from libs.imaging.limits import MAX_CHUNKS
from libs.imaging.reasons import ImageError

_HEAD_BYTES = 12
_PICTURE = frozenset({b"VP8X", b"ALPH", b"VP8 ", b"VP8L"})
_FLAGS_BYTE = 20
_EXIF_FLAG, _XMP_FLAG, _ICC_FLAG, _ALPHA_FLAG = 0x08, 0x04, 0x20, 0x10


def readable(data: bytes) -> bytes:
    """The file so that Pillow leaves transparent what the first frame of an animation does not cover.

    It takes it for black where the header says that nothing is transparent, which is meant of the frames.
    """
    size = b""
    for kind, body in _chunks(data):
        if kind == b"VP8X":
            size = body[4:10]
        elif kind == b"ANMF":
            if body[:6] == bytes(6) and body[6:12] == size:
                return data
            return data[:_FLAGS_BYTE] + bytes((data[_FLAGS_BYTE] | _ALPHA_FLAG,)) + data[_FLAGS_BYTE + 1 :]
        elif kind in _PICTURE:
            return data
    return data


def cleaned(data: bytes, exif: bytes, *, with_profile: bool) -> bytes | None:
    """The same still picture without metadata but `exif`; None where that cannot be put in, or the picture is a frame.

    EXIF needs the extended header, which a file has that had some before. An animation may have a single frame.
    """
    parts = []
    extended = False
    for kind, body in _chunks(data):
        if kind == b"ANMF":
            return None
        if kind == b"VP8X":
            extended = True
            flags = body[0] & ~(_EXIF_FLAG | _XMP_FLAG | _ICC_FLAG)
            flags |= (_EXIF_FLAG if exif else 0) | (body[0] & _ICC_FLAG if with_profile else 0)
            parts.append(_chunk(kind, bytes((flags,)) + body[1:]))
        elif kind in _PICTURE or (kind == b"ICCP" and with_profile):
            parts.append(_chunk(kind, body))
    if exif and not extended:
        return None
    if exif:
        parts.append(_chunk(b"EXIF", exif.removeprefix(b"Exif\0\0")))
    whole = b"WEBP" + b"".join(parts)
    return b"RIFF" + len(whole).to_bytes(4, "little") + whole


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = _HEAD_BYTES
    end = 8 + int.from_bytes(data[4:8], "little")
    for _ in range(MAX_CHUNKS):
        if position + 8 > end:
            return
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 4], data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    raise ImageError("too_complex", f"more than {MAX_CHUNKS} chunks")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)
