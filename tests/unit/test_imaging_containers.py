import struct
from typing import Any

import pytest
from PIL import Image

from libs.imaging import Options, compress
from tests.unit.pictures import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    corners,
    encoded,
    is_close,
    opened,
    png,
    quarters,
    tiff,
    webp_animation,
)
from tests.unit.refusals import code_of

COLOURS = (RED, GREEN, BLUE, YELLOW)
FORMS: tuple[Any, ...] = ("jpeg", "webp", "png", "keep")


def is_quarters(data: bytes, **options: Any) -> bool:
    """Whether what is made of a file are the four colours, where they belong and in their size."""
    image = opened(compress(data, Options(quality=95, **options)).data).convert("RGB")
    return image.size == (96, 64) and all(map(is_close, corners(image), COLOURS))


def colour_tiff(strips: int, present: int | None = None, tags: dict[int, tuple[int, ...]] | None = None) -> bytes:
    """`quarters` as a TIFF of so many strips, of which the last are not there."""
    pixels = quarters().tobytes()
    length = len(pixels) // strips
    rows = {256: (96,), 257: (64,), 258: (8, 8, 8), 259: (1,), 262: (2,), 277: (3,), 278: (64 // strips,)}
    cut = [pixels[length * number : length * (number + 1)] for number in range(strips)]
    return tiff({**rows, **(tags or {})}, cut[:present])


@pytest.mark.parametrize("strips", [1, 2, 8, 64])
def test_a_tiff_of_any_number_of_strips_is_fine(strips: int) -> None:
    """All rows are there."""
    assert is_quarters(colour_tiff(strips))


@pytest.mark.parametrize("present", [1, 4, 7])
def test_a_tiff_without_its_last_strips_is_truncated(present: int) -> None:
    """Pillow alone makes a picture with a black bottom."""
    assert code_of(colour_tiff(8, present)) == "truncated"


def test_a_tiff_without_two_of_its_planes_is_truncated() -> None:
    """Pillow alone makes a picture all in red."""
    planes = [band.tobytes() for band in quarters().split()]
    tags = {256: (96,), 257: (64,), 258: (8, 8, 8), 259: (1,), 262: (2,), 277: (3,), 278: (64,), 284: (2,)}
    assert is_quarters(tiff(tags, planes))
    assert code_of(tiff(tags, planes[:1])) == "truncated"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_gray_tiff_whose_zero_is_white_is_the_right_way_round(bits: int, order: str) -> None:
    """As fax machines and X-ray pictures have it; a layout that Pillow does not know is not called broken."""
    gray = [255 - value for value in quarters().convert("L").tobytes()]
    pixels = bytes(gray) if bits == 8 else struct.pack(f"{order}{len(gray)}H", *(257 * value for value in gray))
    data = tiff({256: (96,), 257: (64,), 258: (bits,), 259: (1,), 262: (0,), 277: (1,), 278: (64,)}, [pixels], order)
    if bits == 16 and order == ">":
        assert code_of(data) == "unsupported_format"
        return
    image = opened(compress(data, Options(quality=95)).data)
    wanted = corners(quarters().convert("L"))
    assert (image.mode, image.size) == ("L", (96, 64))
    assert all(is_close(found, (value,), 3) for found, value in zip(corners(image), wanted, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_a_first_frame_smaller_than_its_canvas_lies_where_it_belongs(form: Any) -> None:
    """The rest of an animated WebP's canvas is empty."""
    part, whole = Image.new("RGB", (48, 32), RED), Image.new("RGB", (96, 64), BLUE)
    result = compress(webp_animation((96, 64), (48, 32, part), (0, 0, whole)), Options(format=form, quality=95))
    image = opened(result.data).convert("RGBA")
    empty = (255, 255, 255, 255) if form == "jpeg" else (0, 0, 0, 0)
    assert (image.size, result.animated, result.kept) == ((96, 64), True, False)
    assert corners(image)[:3] == [empty] * 3
    assert is_close(corners(image)[3], (*RED, 255))


@pytest.mark.parametrize("form", FORMS)
def test_an_animation_of_a_single_frame_is_a_picture(form: Any) -> None:
    """It is not kept without the chunk that has its pixels."""
    data = webp_animation((96, 64), (0, 0, quarters()))
    assert is_quarters(data, format=form)
    assert not compress(data, Options(format=form)).animated


def sizeless(form: str) -> bytes:
    """A file whose header says that it has no width."""
    whole = bytearray(encoded(quarters(), form))
    places = {"GIF": (6, "<H"), "BMP": (18, "<i"), "WEBP": (26, "<H")}
    place, kind = places.get(form, (whole.find(b"ispe") + 8, ">I"))
    struct.pack_into(kind, whole, place, 0)
    return bytes(whole)


@pytest.mark.parametrize(
    "data",
    [
        *(pytest.param(sizeless(form), id=form) for form in ("GIF", "BMP", "WEBP", "AVIF")),
        pytest.param(png(0, 9, depth=8, colour=0, rows=b""), id="PNG"),
        pytest.param(colour_tiff(1, tags={256: (0,)}), id="TIFF"),
        pytest.param(colour_tiff(1, tags={257: (0,)}), id="TIFF height"),
    ],
)
def test_a_picture_without_width_is_corrupt(data: bytes) -> None:
    """In every format that can say so."""
    assert code_of(data) == "corrupt"


def test_a_tiff_of_too_many_pixels_is_refused_by_its_directory() -> None:
    """Before anything is looked for in it."""
    assert code_of(colour_tiff(1, tags={256: (60_000,), 257: (60_000,)})) == "too_many_pixels"


def test_a_webp_of_endless_small_chunks_is_too_complex() -> None:
    """Megabytes of empty chunks are not walked over for ever."""
    whole = encoded(quarters(), "WEBP")
    padded = whole + b"JUNK\0\0\0\0" * 100_001
    assert is_quarters(whole + b"JUNK\0\0\0\0" * 9)
    assert code_of(padded[:4] + struct.pack("<I", len(padded) - 8) + padded[8:]) == "too_complex"


@pytest.mark.parametrize("rest", [b",", b",junk", b"!", b"!\xf9\x04", b"?", b",\0\0\0\0\xff\xff\xff\xff\0\2"])
def test_a_gif_whose_second_frame_is_broken_gives_its_first(rest: bytes) -> None:
    """What comes after the picture is not wanted."""
    whole = encoded(quarters(), "GIF")
    assert is_quarters(whole[:-1] + rest)
