"""EXIF: which way up a picture is, and what of the rest may be kept."""

import struct
import warnings
from typing import Final, Literal

from PIL import ExifTags, Image

HEAD: Final = b"Exif\0\0"

_ORIENTATION = 0x0112
_INTEGER_FORMATS = {3: "H", 4: "I"}  # SHORT, as the standard has it, and LONG, as some cameras write it

_COPYRIGHT = frozenset({ExifTags.Base.Artist, ExifTags.Base.Copyright})
# What describes the picture. Anything else of the first directory is about the file (orientation, sizes, offsets) or is
# a way to hide a thumbnail or another metadata format in it.
_DESCRIPTION = _COPYRIGHT | {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
}
# A maker's note points to places within the file as it was; sizes are those of the source; the rest are directories.
_DROPPED_DETAILS = frozenset(
    {
        ExifTags.Base.MakerNote,
        ExifTags.Base.ExifImageWidth,
        ExifTags.Base.ExifImageHeight,
        ExifTags.Base.ExifInteroperabilityOffset,
    }
)


def orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, in an EXIF block (a TIFF structure, with or without `Exif` before it).

    1, upright, where the tag is missing or makes no sense or the block is broken. (EXIF 2.32, 4.6.4 A.)
    """
    tiff = exif.removeprefix(HEAD)
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


def kept(exif: bytes | Image.Exif, metadata: Literal["strip", "copyright", "keep"]) -> bytes:
    """What of an EXIF block goes on, as a block made anew with `Exif` before it; empty where there is nothing.

    A block that cannot be read is worth nothing. Made again from its own result, it stays as it is.
    """
    if metadata == "strip" or not exif:
        return b""
    try:
        with warnings.catch_warnings(action="ignore"):  # Pillow's remarks on odd blocks
            return _selected(_loaded(exif) if isinstance(exif, bytes) else exif, metadata)
    except Exception:  # noqa: BLE001 - Pillow raises nearly anything on broken EXIF, none of which is the picture's fault
        return b""


def _loaded(block: bytes) -> Image.Exif:
    found = Image.Exif()
    found.load(block if block.startswith(HEAD) else HEAD + block)
    return found


def _selected(found: Image.Exif, metadata: Literal["copyright", "keep"]) -> bytes:
    made = Image.Exif()
    wanted = {tag: found.get(tag) for tag in sorted(_COPYRIGHT if metadata == "copyright" else _DESCRIPTION)}
    details, place = {}, {}
    if metadata == "keep":
        details = {tag: value for tag, value in found.get_ifd(ExifTags.IFD.Exif).items() if tag not in _DROPPED_DETAILS}
        place = found.get_ifd(ExifTags.IFD.GPSInfo)
    for tag, value in wanted.items():
        if value is not None:
            made[tag] = value
    for directory, values in ((ExifTags.IFD.Exif, details), (ExifTags.IFD.GPSInfo, place)):
        if values:
            made.get_ifd(directory).update(values)
    return made.tobytes() if details or place or any(value is not None for value in wanted.values()) else b""
