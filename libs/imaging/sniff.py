"""Tells by its first bytes what a file is. Names and content types say nothing reliable."""

import re
from enum import StrEnum

from libs.imaging.reasons import ImageError


class SourceFormat(StrEnum):
    """What can be decoded; the value is Pillow's name of the format."""

    JPEG = "JPEG"
    PNG = "PNG"
    GIF = "GIF"
    WEBP = "WEBP"
    BMP = "BMP"
    TIFF = "TIFF"
    AVIF = "AVIF"


_SUPPORTED = (
    (b"\xff\xd8\xff", SourceFormat.JPEG),
    (b"\x89PNG\r\n\x1a\n", SourceFormat.PNG),
    (b"GIF87a", SourceFormat.GIF),
    (b"GIF89a", SourceFormat.GIF),
    (b"II*\0", SourceFormat.TIFF),
    (b"MM\0*", SourceFormat.TIFF),
)

_UNSUPPORTED = (
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "PSD"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\x01\0", "ICO"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
)

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

# An SVG may begin with a byte order mark, an XML declaration, comments and a document type that declares entities.
# Each of them is taken whole and never tried again: "<!---->" forty times over would otherwise take days.
_SVG = re.compile(
    rb"\s*+(?>(?:<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE\s+svg[^>\[]*(?:\[[^\]]*\]\s*)?>)\s*+)*+<(?:\w+:)?svg[\s/>]",
    re.DOTALL | re.IGNORECASE,
)
_TEXT_HEAD_BYTES = 4096
_JUNK_HEAD_BYTES = 4096


def sniff(data: bytes) -> SourceFormat:
    """The format of `data`.

    Raises:
        ImageError: `empty`, `not_an_image`, `unsupported_format`; `truncated` where the signature is cut, `corrupt`
            where it is not at the beginning.
    """
    if not data:
        raise ImageError("empty", "there are no bytes")
    if len(data) < 3:
        raise ImageError("corrupt", "too short to be an image")
    for signature, source in _SUPPORTED:
        if data.startswith(signature):
            return source
        if signature.startswith(data):
            raise ImageError("truncated", f"only {len(data)} bytes of a {source}")
    for signature, name in _UNSUPPORTED:
        if data.startswith(signature):
            raise ImageError("unsupported_format", f"{name} is not supported")
    return _container(data) or _no_signature(data)


def _container(data: bytes) -> SourceFormat | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return SourceFormat.WEBP
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return SourceFormat.BMP
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    return None


def _by_brand(data: bytes) -> SourceFormat:
    """ISO base media files (ISO/IEC 14496-12) name their brands: the major one, a version, then the compatible ones."""
    box = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    brands = {box[offset : offset + 4] for offset in range(0, len(box), 4) if offset != 4}
    if brands & _AVIF_BRANDS:
        return SourceFormat.AVIF
    if brands & _HEIF_BRANDS:
        raise ImageError("unsupported_format", "HEIC is not supported")
    raise ImageError("not_an_image", "this is a video or another media file")


def _no_signature(data: bytes) -> SourceFormat:
    head = data[:_TEXT_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        head = head.decode("utf-16", errors="replace").encode()
    if _SVG.match(head):
        raise ImageError("unsupported_format", "SVG is not supported")
    if head.lstrip()[:1] == b"<":
        raise ImageError("not_an_image", "this is an HTML or XML document")
    if not data.startswith(b"PK") and (data[:2] == b"\xff\xd8" or b"\xff\xd8\xff" in data[:_JUNK_HEAD_BYTES]):
        raise ImageError("corrupt", "a JPEG with foreign bytes at or before its beginning")
    raise ImageError("not_an_image", f"no image begins with the bytes {data[:8].hex(' ')}")
