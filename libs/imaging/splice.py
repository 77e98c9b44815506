"""Puts an ICC profile and an EXIF block into a JPEG file, for encoders that write neither."""

from libs.imaging.exif import HEAD
from libs.imaging.jpeg import APP0, APP1, APP2, Segment

_PAYLOAD_BYTES = 65_533  # a segment's length is 16 bits and counts itself
_ICC = b"ICC_PROFILE\0"
_PIECE_BYTES = _PAYLOAD_BYTES - len(_ICC) - 2


def spliced(jpeg: bytes, profile: bytes | None, exif: bytes = b"") -> bytes:
    """`jpeg`, which has neither, with them behind its JFIF header (EXIF 2.32, 4.7.2; ICC.1:2022, B.4).

    What does not fit is left out: EXIF of more than a segment, a profile of more than 255.
    """
    segments = []
    if exif and len(exif) <= _PAYLOAD_BYTES:
        segments.append(Segment(APP1, HEAD + exif.removeprefix(HEAD)))
    if profile:
        pieces = [profile[start : start + _PIECE_BYTES] for start in range(0, len(profile), _PIECE_BYTES)]
        if len(pieces) <= 255:
            segments += [
                Segment(APP2, _ICC + bytes((number, len(pieces))) + piece)
                for number, piece in enumerate(pieces, start=1)
            ]
    if not segments:
        return jpeg
    # Some readers want EXIF first of all; but a JFIF header belongs right behind the beginning, and most agree to that.
    start = 4 + int.from_bytes(jpeg[4:6], "big") if jpeg[3] == APP0 else 2
    return b"".join((jpeg[:start], *(segment.head() for segment in segments), jpeg[start:]))
