"""The chunks of a WebP file (RFC 9649)."""

from collections.abc import Iterator

_HEAD_BYTES = 12
_PICTURE = frozenset({b"VP8X", b"ALPH", b"VP8 ", b"VP8L"})
_EXIF_FLAG, _XMP_FLAG, _ICC_FLAG = 0x08, 0x04, 0x20


def cleaned(data: bytes, exif: bytes, *, with_profile: bool) -> bytes | None:
    """The same still picture without metadata but `exif`; None where that cannot be put in.

    EXIF needs the extended header, which a file has that had some before.
    """
    parts = []
    extended = False
    for kind, body in _chunks(data):
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
    while position + 8 <= end:
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 4], data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)
