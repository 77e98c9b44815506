"""The one thing that EXIF is read for: which way up the picture is."""

import struct

_ORIENTATION = 0x0112
_INTEGER_FORMATS = {3: "H", 4: "I"}  # SHORT, as the standard has it, and LONG, as some cameras write it


def orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, in an EXIF block (a TIFF structure, with or without `Exif` before it).

    1, upright, where the tag is missing or makes no sense or the block is broken. (EXIF 2.32, 4.6.4 A.)
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (ifd,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, ifd)
        for index in range(entries):
            entry = ifd + 2 + 12 * index
            tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, entry)
            if tag == _ORIENTATION and count == 1 and kind in _INTEGER_FORMATS:
                (value,) = struct.unpack_from(f"{order}{_INTEGER_FORMATS[kind]}", tiff, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
