import struct
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from libs.imaging import Options, compress
from tests.unit.pictures import (
    encoded,
    looks_like,
    marker_segment,
    opened,
    oriented,
    photograph,
    profile,
    quarters,
    with_segments,
)


def secret_segments() -> list[bytes]:
    """Everything in which a camera or an editor hides what is nobody's business."""
    thumbnail = encoded(quarters(32, 24), "JPEG")
    tag = Image.Exif()
    tag.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 29: "GPS-SECRET"})
    tag[0x010F] = "CAMERA-SECRET"
    return [
        marker_segment(0xE0, b"JFXX\0\x10" + thumbnail),
        marker_segment(0xE1, b"Exif\0\0" + tag.tobytes().removeprefix(b"Exif\0\0") + thumbnail),
        marker_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>XMP-SECRET</x:xmpmeta>"),
        marker_segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0eIPTC-SECRET\0\0\0"),
        marker_segment(0xE2, b"MPF\0MPF-SECRET"),
        marker_segment(0xEB, b"JUMBF-SECRET"),
        marker_segment(0xFE, b"COMMENT-SECRET"),
    ]


@pytest.mark.parametrize("quality", [30, 92], ids=["kept", "encoded anew"])
@pytest.mark.parametrize("progressive", [False, True])
def test_no_metadata_of_a_jpeg_is_in_the_output(quality: int, progressive: bool) -> None:
    """GPS, comments, XMP, IPTC and thumbnails are gone in either way, and so is what follows the image."""
    plain = encoded(photograph(), "JPEG", quality=quality, progressive=progressive)
    result = compress(with_segments(plain, *secret_segments()) + b"TRAILER-SECRET", Options())
    assert result.kept == (quality == 30)
    assert b"SECRET" not in result.data
    assert b"Exif" not in result.data
    assert result.data.count(b"\xff\xd8\xff") == 1
    assert looks_like(opened(result.data), photograph())


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_no_metadata_of_another_format_is_in_the_output(form: str) -> None:
    """Text, EXIF, XMP and comments of other formats go no further either."""
    tag = Image.Exif()
    tag[0x010F] = "CAMERA-SECRET"
    options: dict[str, object] = {"comment": b"COMMENT-SECRET"} if form == "GIF" else {"exif": tag.tobytes()}
    if form in {"PNG", "WEBP", "AVIF"}:
        options["xmp"] = b"<x:xmpmeta>XMP-SECRET</x:xmpmeta>"
    source = encoded(photograph(), form, **options)
    assert b"SECRET" in source
    result = compress(source, Options())
    assert b"SECRET" not in result.data
    assert looks_like(opened(result.data), photograph())


def test_a_jpeg_at_the_asked_quality_or_below_is_kept() -> None:
    """Its own compressed data goes on, pixel for pixel; a single step less would not make it smaller."""
    for quality in (50, 30):
        source = encoded(photograph(), "JPEG", quality=quality)
        result = compress(source, Options())
        assert result.kept
        assert not result.larger_than_source
        assert result.data == source
        assert not compress(source, Options(quality=quality - 2)).kept


def test_a_kept_jpeg_loses_its_metadata_and_keeps_its_pixels_and_profile() -> None:
    """Entropy-coded data and profile are the source's; the thumbnail in its JFIF header is cut off."""
    colours = profile(b"RGB ")
    plain = encoded(photograph(), "JPEG", quality=40, icc_profile=colours, dpi=(300, 300))
    end = plain.index(b"JFIF\0") + 14
    thumbnailed = plain[:4] + struct.pack(">H", 16 + 12) + plain[6 : end - 2] + b"\2\2" + b"SECRETSECRET" + plain[end:]
    result = compress(with_segments(thumbnailed, *secret_segments()), Options())
    assert result.kept
    assert result.data == plain
    assert opened(result.data).info["icc_profile"] == colours


def test_a_jpeg_whose_encoding_would_be_larger_is_kept() -> None:
    """Fine tables but hardly any detail, and Huffman tables made to measure: nothing is gained by encoding anew."""
    small = encoded(Image.new("L", (8, 8), 128), "JPEG", quality=90, optimize=True)
    result = compress(small, Options())
    assert result.kept
    assert len(result.data) <= len(small)


@pytest.mark.parametrize("quality", [20, 50])
def test_a_jpeg_that_must_be_turned_is_never_kept(quality: int) -> None:
    """Without its tag it would lie on its side; if turning makes it larger, that is said."""
    plain = encoded(photograph(), "JPEG", quality=quality)
    tag = oriented(6)
    result = compress(with_segments(plain, b"\xff\xe1", struct.pack(">H", len(tag) + 2), tag), Options())
    assert not result.kept
    assert looks_like(opened(result.data), photograph().transpose(Image.Transpose.ROTATE_270))
    assert result.larger_than_source == (len(result.data) > len(plain) + 4 + len(tag))


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {"max_width": 100}), ("RGB", {"format": "webp"}), ("RGB", {"format": "png"}), ("CMYK", {})],
    ids=["resized", "WebP", "PNG", "CMYK"],
)
def test_a_jpeg_that_cannot_stay_as_it_is_is_never_kept(mode: str, options: dict[str, Any]) -> None:
    """However coarse it is: another size, another format or colours that browsers do not show are encoded anew."""
    source = encoded(photograph().convert(mode), "JPEG", quality=10)
    result = compress(source, Options(**options))
    assert not result.kept
    shown = opened(result.data)
    assert shown.format == options.get("format", "jpeg").upper()
    assert shown.mode == "RGB"
    assert shown.width == min(photograph().width, options.get("max_width", 65_500))
    assert result.larger_than_source == (len(result.data) > len(source))
    assert compress(encoded(photograph(), "JPEG", quality=10), Options()).kept


def test_a_turned_jpeg_that_grew_is_flagged() -> None:
    """Progressive coding is smaller than ours, and it cannot be kept."""
    tag = oriented(3)
    plain = encoded(photograph(960, 640), "JPEG", quality=50, progressive=True)
    source = with_segments(plain, b"\xff\xe1", struct.pack(">H", len(tag) + 2), tag)
    result = compress(source, Options())
    assert len(result.data) > len(source)
    assert result.larger_than_source
    assert not result.kept
    assert looks_like(opened(result.data), photograph(960, 640).transpose(Image.Transpose.ROTATE_180))


def test_a_jpeg_without_subsampled_colours_and_with_tables_of_its_own_is_measured_by_their_sum() -> None:
    """Tables of another shape count by their steps taken together."""
    coarse = [list(range(20, 20 + 2 * 64, 2)), [120] * 64]
    assert compress(encoded(photograph(), "JPEG", qtables=coarse), Options()).kept
    fine = [[2] * 64, [2] * 64]
    assert not compress(encoded(photograph(), "JPEG", qtables=fine), Options()).kept


def test_an_rgb_jpeg_keeps_its_colours() -> None:
    """Adobe's marker says that the three channels are RGB; it must survive where the data are kept."""
    source = encoded(photograph(), "JPEG", quality=3, keep_rgb=True)
    result = compress(source, Options())
    before, after = opened(source).getpixel((60, 40)), opened(result.data).getpixel((60, 40))
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    assert all(abs(a - b) < 25 for a, b in zip(before, after, strict=True))


def adobe(transform: int, more: bytes = b"") -> bytes:
    """An Adobe marker that says how the colours are coded: 0 is RGB, 1 is YCbCr."""
    return marker_segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes((transform,)) + more)


def test_of_adobes_markers_a_kept_jpeg_has_the_one_that_counts_and_nothing_behind_it() -> None:
    """The last whole one decides on the colours; its 12 bytes go on once, and what else calls itself Adobe does not."""
    source = encoded(photograph(), "JPEG", quality=3, keep_rgb=True)
    whole = adobe(0)
    assert source.count(whole) == 1
    junk = [adobe(1, b"SECRET" * 180), marker_segment(0xEE, b"AdobeSECRET"), marker_segment(0xEE, b"Adobe_CM SECRET")]
    marked = with_segments(source, *junk[:2]).replace(whole, adobe(0, b"SECRET" * 180) + junk[1])
    result = compress(marked, Options())
    assert result.kept
    assert result.data == source


SOURCES: dict[str, Callable[[], bytes]] = {
    "fine": lambda: encoded(photograph(), "JPEG", quality=92),
    "middle": lambda: encoded(photograph(), "JPEG", quality=52),
    "coarse": lambda: encoded(photograph(), "JPEG", quality=20),
    "coarse, 4:4:4": lambda: encoded(photograph(), "JPEG", quality=45, subsampling=0),
    "progressive": lambda: encoded(photograph(), "JPEG", quality=60, progressive=True),
    "optimised": lambda: encoded(photograph(), "JPEG", quality=51, optimize=True),
    "restarts": lambda: encoded(photograph(), "JPEG", quality=30, restart_marker_blocks=3),
    "gray": lambda: encoded(photograph().convert("L"), "JPEG", quality=80),
    "tiny": lambda: encoded(quarters(2, 2), "JPEG", quality=90),
    "RGB": lambda: encoded(photograph(), "JPEG", quality=15, keep_rgb=True),
    "CMYK": lambda: encoded(photograph().convert("CMYK"), "JPEG", quality=30),
    "profile": lambda: encoded(photograph(), "JPEG", quality=30, icc_profile=profile(b"RGB ", 90_000)),
    "broken profile": lambda: encoded(photograph(), "JPEG", quality=30, icc_profile=profile(b"GRAY")),
    "secrets": lambda: with_segments(encoded(photograph(), "JPEG", quality=30), *secret_segments()),
    "two JFIF headers": lambda: with_segments(
        encoded(photograph(), "JPEG", quality=30), marker_segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    ),
    "stray bytes": lambda: with_segments(
        encoded(photograph(), "JPEG", quality=30), marker_segment(0xFE, b""), b"stray", b"\xff\xff\xff"
    ),
    "PNG": lambda: encoded(photograph(), "PNG"),
    "RGBA": lambda: encoded(photograph().convert("RGBA"), "PNG"),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("quality", [50, 75])
def test_compressing_an_output_again_changes_nothing(kind: str, quality: int) -> None:
    """Outputs are fixed points, and no JPEG that could be kept grows."""
    source = SOURCES[kind]()
    options = Options(quality=quality)
    first = compress(source, options)
    second = compress(first.data, options)
    assert second.data == first.data
    assert second.name == first.name
    assert second.kept
    assert first.larger_than_source == (len(first.data) > len(source))
    if kind not in {"PNG", "RGBA", "CMYK"}:
        assert not first.larger_than_source
    if kind not in {"tiny", "secrets"}:  # not what Pillow opens without a warning
        assert looks_like(opened(first.data).convert("RGB"), opened(source).convert("RGB"))
