"""ICC profiles: whether one is fit to be used."""

_HEADER_BYTES = 128

RGB = b"RGB "
GRAY = b"GRAY"
CMYK = b"CMYK"


def usable(profile: bytes | None, space: bytes) -> bytes | None:
    """`profile` if it is whole and describes `space`, else None.

    A profile of another space than the pixels' is worse than none: viewers disagree on what to do with it.
    (ICC.1:2022, 7.2: size at 0, space at 16, `acsp` at 36.)
    """
    if profile is None or len(profile) < _HEADER_BYTES:
        return None
    size = int.from_bytes(profile[:4], "big")
    if not _HEADER_BYTES <= size <= len(profile) or profile[36:40] != b"acsp" or profile[16:20] != space:
        return None
    return profile


def assemble(segments: list[bytes]) -> bytes | None:
    """The profile that lies in a JPEG's APP2 payloads, in pieces that may be in any order; None if one is missing.

    Each begins with `ICC_PROFILE`, zero, its number from 1 and the number of all. (ICC.1:2022, B.4.)
    """
    pieces = {payload[12]: payload[14:] for payload in segments if len(payload) > 14}
    if not pieces or set(pieces) != set(range(1, segments[0][13] + 1)):
        return None
    return b"".join(pieces[number] for number in sorted(pieces))
