"""A JPEG file without its metadata, and with the oddities mended that decoders commonly pass over."""

from libs.imaging import splice
from libs.imaging.jpeg import ADOBE_BYTES, APP0, APP14, APP15, COM, EOI, SOI, SOS, Jpeg, Segment

_BEGINNING, _END = bytes((0xFF, SOI)), bytes((0xFF, EOI))
_JFIF_VERSION = b"\1\2"
_WHOLE_SCAN = b"\0\x3f\0"  # all coefficients, with all their bits: what a sequential scan must say (T.81, B.2.3)


def cleaned(structure: Jpeg, exif: bytes = b"", *, padded: bool = True) -> bytes:
    """The same picture without comments, EXIF, XMP, IPTC, thumbnails, trailer and what lies between segments.

    A usable ICC profile stays, and `exif` is put in. A JFIF version that decoders do not know and the spectral range of
    a sequential scan, which has no meaning, are put right, so that a decoder can be strict about all that is left.
    Without `padded`, zeros that follow the last code of a scan go too. A file of which nothing is left out and in which
    nothing is changed is not written again.
    """
    segments: list[Segment] = []
    jfif_seen = False
    for segment in structure.segments:
        marker = segment.marker
        if marker == SOS:
            segments.append(_scan(segment, sequential=structure.is_sequential, padded=padded))
        elif marker == APP0:
            if not jfif_seen and _is_jfif(segment):
                segments.append(_jfif(segment))
                jfif_seen = True
        elif segment is structure.adobe:
            segments.append(Segment(APP14, segment.payload[:ADOBE_BYTES]))
        elif marker != COM and not APP0 <= marker <= APP15:
            segments.append(segment)
    if not exif and tuple(segments) == structure.segments and structure.is_seamless:
        return structure.data
    return splice.spliced(_written(segments), structure.profile, exif)


def _written(segments: list[Segment]) -> bytes:
    parts: list[bytes | memoryview] = [_BEGINNING]
    for segment in segments:
        parts += (segment.head(), segment.scan)
    parts.append(_END)
    return b"".join(parts)


def _jfif(segment: Segment) -> Segment:
    """What the JFIF header says decides how colours are read; behind its 14 bytes may lie a thumbnail."""
    version = segment.payload[5:7] if segment.payload[5] == 1 else _JFIF_VERSION
    return Segment(APP0, segment.payload[:5] + version + segment.payload[7:12] + b"\0\0")


def _scan(segment: Segment, *, sequential: bool, padded: bool) -> Segment:
    payload, scan = segment.payload, segment.scan
    if sequential and len(payload) == 4 + 2 * payload[0]:
        payload = payload[:-3] + _WHOLE_SCAN
    if not padded:
        bare = bytes(scan).rstrip(b"\0")
        scan = bare + b"\0" if bare.endswith(b"\xff") else bare  # FF 00 is the code FF
    return Segment(SOS, payload, scan)


def _is_jfif(segment: Segment) -> bool:
    return segment.payload.startswith(b"JFIF\0") and len(segment.payload) >= 14
