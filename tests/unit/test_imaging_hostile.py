import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
from PIL import Image

from libs.imaging import ImageError, Options, compress
from tests.unit.pictures import (
    ARITHMETIC,
    encoded,
    is_close,
    looks_like,
    marker_segment,
    opened,
    patched_frame,
    photograph,
    png,
    quarters,
    with_segments,
)
from tests.unit.refusals import code_of


def archive() -> bytes:
    """A ZIP with a JPEG in it, stored as it is."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as file:
        file.writestr("a.jpg", encoded(quarters(), "JPEG"))
    return output.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"\xff", "corrupt", id="one byte"),
        pytest.param(b"\x89PNG", "truncated", id="half a signature"),
        pytest.param(b"\0" * 100_000, "not_an_image", id="zeros"),
        pytest.param(b"A text that was named .jpg\n", "not_an_image", id="text"),
        pytest.param(b"<!DOCTYPE html><html><body>Not found <svg/></body></html>", "not_an_image", id="HTML"),
        pytest.param(b"\xef\xbb\xbf\n <html></html>", "not_an_image", id="HTML with a byte order mark"),
        pytest.param(archive(), "not_an_image", id="ZIP"),
        pytest.param(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(99), "not_an_image", id="MP4"),
        pytest.param(b"BM, the text of a letter that happens to begin so", "not_an_image", id="text that begins BM"),
        pytest.param(SVG, "unsupported_format", id="SVG"),
        pytest.param(b"<?xml?>\n<!-- a\nb --><!DOCTYPE svg>" + SVG, "unsupported_format", id="SVG with all before it"),
        pytest.param(b'<!DOCTYPE svg [<!ENTITY a "b">\n]>' + SVG, "unsupported_format", id="SVG with entities"),
        pytest.param(b"<!---->" * 500 + SVG, "unsupported_format", id="SVG behind comments"),
        pytest.param(b"<!---->" * 500 + b"<p>", "not_an_image", id="endless comments"),
        pytest.param(b"\xff\xfe" + SVG.decode().encode("utf-16-le"), "unsupported_format", id="SVG in UTF-16"),
        pytest.param(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "unsupported_format", id="PDF"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_format", id="EPS"),
        pytest.param(b"\xc5\xd0\xd3\xc6" + bytes(60), "unsupported_format", id="EPS with a preview"),
        pytest.param(b"8BPS\0\1" + bytes(60), "unsupported_format", id="PSD"),
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "unsupported_format", id="HEIC"),
        pytest.param(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "unsupported_format", id="JPEG XL"),
        pytest.param(encoded(quarters(), "ICO"), "unsupported_format", id="ICO"),
        pytest.param(b"junk" + encoded(quarters(), "JPEG"), "corrupt", id="junk before SOI"),
        pytest.param(b"\xff\xd8hello", "corrupt", id="SOI alone"),
    ],
)  # fmt: skip
def test_the_bytes_decide_what_a_file_is(data: bytes, code: str) -> None:
    """Each kind of file that is no supported image has its reason, by its bytes alone."""
    assert code_of(data) == code


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("WEBP", {}),
        ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("AVIF", {}),
    ],
)  # fmt: skip
def test_a_cut_file_is_truncated(form: str, options: dict[str, object], share: float) -> None:
    """Wherever it is cut, no picture with a missing bottom comes out."""
    whole = encoded(photograph(), form, **options)
    assert code_of(whole[: int(len(whole) * share)]) == "truncated"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_file_without_its_last_bytes_is_truncated(form: str) -> None:
    """Two bytes short is short."""
    assert code_of(encoded(photograph(), form)[:-2]) == "truncated"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_broken_bytes_give_a_reason_or_a_picture_but_nothing_else(form: str) -> None:
    """Single bytes flipped all over a file never lead to an error without a reason."""
    whole = encoded(photograph(48, 32), form)
    seen = set()
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        broken = bytearray(whole)
        broken[position] ^= 0xA5
        try:
            seen.add(compress(bytes(broken), Options(max_pixels=1_000_000)).format)
        except ImageError as error:
            seen.add(error.code)
        except MemoryError:
            seen.add("too_complex")  # what a worker makes of it
    assert seen - {"jpeg"}
    assert seen <= {
        "jpeg",
        "corrupt",
        "truncated",
        "too_many_pixels",
        "too_complex",
        "unsupported_format",
        "not_an_image",
    }


def huge_jpeg() -> bytes:
    """A small JPEG whose header speaks of four thousand million pixels."""
    return patched_frame(encoded(quarters(), "JPEG"), offset=1, value=b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(huge_jpeg(), id="JPEG of 65535x65535"),
        pytest.param(huge_jpeg()[:700], id="the same, cut"),
        pytest.param(png(30_000, 30_000, depth=8, colour=0, rows=b""), id="PNG of 30000x30000"),
        pytest.param(png(65_501, 1, depth=8, colour=0, rows=bytes(65_502)), id="longer than a JPEG can be"),
        pytest.param(b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;", id="GIF"),
        pytest.param(b"RIFF\x22\0\0\0WEBPVP8X\x0a" + bytes(7) + b"\xff\x3f\0\xff\x3f\0VP8 \x08" + bytes(11), id="WebP"),
        pytest.param(b"BM" + struct.pack("<4I2i2H2I2i2I", 99, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6), id="BMP"),
    ],
)  # fmt: skip
def test_too_many_pixels_are_refused_by_the_header(data: bytes) -> None:
    """No memory is taken for a picture that is refused."""
    tracemalloc.start()
    try:
        assert code_of(data) == "too_many_pixels"
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_the_limit_of_pixels_is_exact() -> None:
    """Pillow's own limit only warns up to twice its value."""
    source = encoded(quarters(), "PNG")
    assert compress(source, Options(max_pixels=96 * 64)).width == 96
    assert code_of(source, Options(max_pixels=96 * 64 - 1)) == "too_many_pixels"


@pytest.mark.parametrize(
    "data",
    [
        patched_frame(encoded(quarters(), "JPEG"), offset=1, value=b"\0\0"),
        patched_frame(encoded(quarters(), "JPEG"), offset=3, value=b"\0\0"),
        png(0, 9, depth=8, colour=0, rows=b""),
    ],
    ids=["JPEG height", "JPEG width", "PNG width"],
)
def test_a_picture_without_area_is_corrupt(data: bytes) -> None:
    """Zero width or height."""
    assert code_of(data) == "corrupt"


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan stands in it `count` times."""
    whole = encoded(photograph(), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + b"\xff\xd9"


def test_a_progressive_jpeg_is_fine_and_one_of_a_thousand_scans_is_too_complex() -> None:
    """Each scan walks over all pixels again: a small file, hours of work."""
    assert looks_like(opened(compress(scans(1), Options()).data), photograph())
    assert code_of(scans(1000)) == "too_complex"


def test_scans_are_counted_by_the_pixels_that_they_walk_over() -> None:
    """Thirty scans are fine for a small picture, and too many for one of fifty megapixels."""
    assert code_of(scans(25)) == "corrupt"  # the same scan again and again is damage, but takes no time
    large = patched_frame(scans(25), offset=1, value=struct.pack(">HH", 7000, 7000))
    assert code_of(large) == "too_complex"


def test_a_jpeg_of_endless_small_segments_is_too_complex() -> None:
    """Megabytes of empty comments are not walked over for ever."""
    assert code_of(with_segments(encoded(quarters(), "JPEG"), b"\xff\xfe\0\2" * 20_000)) == "too_complex"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"value": b"\x0c"}, "unsupported_format"),
        ({"marker": 0xC3}, "unsupported_format"),
        ({"marker": 0xC5}, "unsupported_format"),
        ({"marker": 0xCB}, "unsupported_format"),
        ({"offset": 5, "value": b"\x02"}, "unsupported_format"),
    ],
    ids=["12 bits", "lossless", "hierarchical", "lossless arithmetic", "two components"],
)
def test_jpeg_processes_that_the_library_cannot_decode_are_unsupported(changes: dict[str, object], code: str) -> None:
    """They are told from broken files by their frame header."""
    assert code_of(patched_frame(encoded(quarters(), "JPEG"), **changes)) == code  # type: ignore[arg-type]


def test_an_arithmetic_jpeg_is_decoded_and_never_kept() -> None:
    """Browsers cannot read arithmetic coding, so that even a coarse one is encoded anew."""
    result = compress(ARITHMETIC, Options(quality=90))
    image = opened(result.data)
    assert image.size == (64, 48)
    assert all(
        is_close(image.getpixel((x, y)), ((3 * x + 2 * y) % 256,), 12) for x, y in ((10, 10), (40, 20), (20, 40))
    )
    assert b"\xff\xc9" not in result.data
    assert not result.kept


def test_damage_to_an_arithmetic_jpeg_is_noticed() -> None:
    """Huffman codes where arithmetic ones should be: Pillow alone makes a picture of them."""
    assert code_of(patched_frame(encoded(photograph().convert("L"), "JPEG", quality=5), marker=0xC9)) == "corrupt"


ODDITIES: dict[str, Callable[[bytes], bytes]] = {
    "junk before a marker": lambda data: data[:2] + b"\xff\xfe\0\4ab" + b"stray" + data[2:],
    "fill bytes": lambda data: data[:2] + b"\xff" * 7 + data[2:],
    "JFIF 2.x": lambda data: data.replace(b"JFIF\0\1\1", b"JFIF\0\2\1"),
    "odd spectral end": lambda data: data.replace(b"\x03\x11\0\x3f\0", b"\x03\x11\0\0\0"),
    "bytes after the end": lambda data: data + b"trailer",
    "a truncated JFIF segment": lambda data: with_segments(data, marker_segment(0xE0, b"JFIF\0\1")),
}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_good_pictures_with_odd_markers_are_fine(oddity: str) -> None:
    """What decoders commonly pass over fails nothing."""
    whole = encoded(quarters(), "JPEG", quality=95)
    odd = ODDITIES[oddity](whole)
    assert odd != whole
    assert looks_like(opened(compress(odd, Options()).data), quarters())


def test_a_jpeg_with_an_impossible_marker_is_corrupt() -> None:
    """A reserved marker within the compressed data means that bits have flipped."""
    whole = encoded(photograph(), "JPEG")
    middle = whole.index(b"\xff\xda") + 400
    assert code_of(whole[:middle] + b"\xff\x45" + whole[middle + 2 :]) == "corrupt"


def test_a_scan_whose_header_is_empty_is_corrupt() -> None:
    """Not even the number of its components is there."""
    whole = encoded(photograph(), "JPEG")
    start = whole.index(b"\xff\xda")
    assert code_of(whole[:start] + b"\xff\xda\0\2" + whole[start + 14 :]) == "corrupt"


def test_an_animation_of_very_many_frames_costs_no_more_than_its_first() -> None:
    """Frames beyond the first are not decoded: the last of them is broken here."""
    frames = [quarters(), *(Image.new("RGB", (96, 64), (number % 256, 40, 50)) for number in range(300))]
    whole = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    result = compress(whole[:-40], Options())
    assert result.animated
    assert looks_like(opened(result.data), frames[0])


def test_a_gigabyte_of_zeros_is_not_looked_through() -> None:
    """Its first bytes say that it is no image; the download has a limit of its own."""
    tracemalloc.start()
    try:
        assert code_of(bytes(1 << 30)) == "not_an_image"
        assert tracemalloc.get_traced_memory()[1] < (1 << 30) + 8_000_000
    finally:
        tracemalloc.stop()


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"


@pytest.mark.parametrize(
    "before", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0"], ids=["nothing", "JPEG", "PNG", "TIFF"]
)
def test_postscript_never_reaches_the_plugin_that_starts_ghostscript(before: bytes) -> None:
    """Whatever a file pretends to be, only that format's own plugin is asked; this one is not even there."""
    script = (
        "import sys\n"
        "from libs.imaging import ImageError, Options, compress\n"
        "try:\n    compress(sys.stdin.buffer.read(), Options())\n"
        "except ImageError as error:\n    print(error.code)\n"
        "print('PIL.EpsImagePlugin' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], input=before + EPS, stdout=subprocess.PIPE, check=True)
    code, is_loaded = said.stdout.decode().split()
    assert code in {"unsupported_format", "corrupt", "truncated", "too_many_pixels"}
    assert is_loaded == "False"
