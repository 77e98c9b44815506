import struct

import pytest
from PIL import Image

from libs.imaging import Options, compress
from tests.unit.pictures import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    chunk,
    corners,
    encoded,
    is_close,
    looks_like,
    opened,
    oriented,
    photograph,
    png,
    quarters,
    with_segments,
)

COLOURS = (RED, GREEN, BLUE, YELLOW)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_every_supported_format_becomes_an_upright_jpeg_of_its_size_and_colours(form: str) -> None:
    """Whatever goes in, a JPEG of the same size comes out that looks the same."""
    options = {"quality": 95} if form in {"JPEG", "WEBP", "AVIF"} else {}
    result = compress(encoded(quarters(), form, **options), Options())
    image = opened(result.data)
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (96, 64))
    assert (result.format, result.extension, result.width, result.height) == ("jpeg", "jpg", 96, 64)
    assert not result.animated
    assert all(is_close(found, wanted) for found, wanted in zip(corners(image), COLOURS, strict=True))


def test_a_photograph_becomes_smaller_and_is_named_by_its_content() -> None:
    """The name is the SHA-256 of the data and the extension, and the quality is the one asked for."""
    source = encoded(photograph(), "JPEG", quality=92)
    result = compress(source, Options())
    assert len(result.data) < len(source)
    assert looks_like(opened(result.data), photograph())
    assert not result.kept
    assert not result.larger_than_source
    assert result.name.endswith(".jpg")
    assert len(result.name) == 68
    assert compress(source, Options()).name == result.name
    assert opened(result.data).quantization == opened(encoded(photograph(), "JPEG", quality=50)).quantization  # type: ignore[attr-defined]


def test_a_higher_quality_gives_more_bytes() -> None:
    """The asked quality is what the encoder uses."""
    source = encoded(photograph(), "PNG")
    assert len(compress(source, Options(quality=80)).data) > len(compress(source, Options(quality=30)).data)


@pytest.mark.parametrize("quality", [0, 96])
def test_a_quality_outside_the_scale_is_refused(quality: int) -> None:
    """Options that no encoder knows are a mistake of the caller."""
    with pytest.raises(ValueError, match="quality"):
        Options(quality=quality)


# Where the first row and the first column of the stored picture are on the upright one: EXIF 2.32, 4.6.4 A.
SIDES = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip
OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}


def stored(orientation: int) -> Image.Image:
    """What a camera stores whose upright picture is `quarters()`."""
    by_sides = {
        frozenset({"top", "left"}): RED,
        frozenset({"top", "right"}): GREEN,
        frozenset({"bottom", "left"}): BLUE,
        frozenset({"bottom", "right"}): YELLOW,
    }
    row, column = SIDES[orientation]
    colours = [by_sides[frozenset({r, c})] for r in (row, OPPOSITE[row]) for c in (column, OPPOSITE[column])]
    return quarters(*((96, 64) if orientation < 5 else (64, 96)), colours)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_comes_out_upright_and_untagged(orientation: int, form: str) -> None:
    """The pixels are turned as the tag says, and the tag is gone."""
    tag = Image.Exif()
    tag[0x0112] = orientation
    options = {"quality": 95} if form in {"JPEG", "WEBP", "AVIF"} else {}
    result = compress(encoded(stored(orientation), form, exif=tag, **options), Options())
    image = opened(result.data)
    assert (image.size, result.width, result.height) == ((96, 64), 96, 64)
    assert all(is_close(found, wanted) for found, wanted in zip(corners(image), COLOURS, strict=True))
    assert not image.getexif()


@pytest.mark.parametrize(
    "tag",
    [
        oriented(0),
        oriented(9),
        oriented(99),
        b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, 2, 2) + b"6\0\0\0" + bytes(4),
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 400) + b"broken",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0nonsense",
        b"Exif\0\0",
    ],
    ids=["0", "9", "99", "a string", "entries missing", "offset beyond the end", "no TIFF", "empty"],
)
def test_an_orientation_that_makes_no_sense_counts_as_upright(tag: bytes) -> None:
    """Nonsense in EXIF turns nothing and fails nothing."""
    source = with_segments(encoded(quarters(), "JPEG", quality=95), b"\xff\xe1", struct.pack(">H", len(tag) + 2), tag)
    image = opened(compress(source, Options()).data)
    assert image.size == (96, 64)
    assert all(is_close(found, wanted) for found, wanted in zip(corners(image), COLOURS, strict=True))


def test_a_grayscale_jpeg_stays_one_channel() -> None:
    """Gray is not blown up to three channels, and its tones are the same."""
    gray = photograph().convert("L")
    assert looks_like(opened(compress(encoded(gray, "JPEG", quality=95), Options()).data), gray)


@pytest.mark.parametrize(
    ("mode", "colour", "wanted"),
    [
        ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 128), (255, 127, 127)),
        ("LA", (0, 0), (255,)),
        ("LA", (0, 128), (127,)),
    ],
)
def test_alpha_is_blended_with_white(mode: str, colour: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """What is transparent becomes white, what is half transparent half white, whatever colour lies under it."""
    image = opened(compress(encoded(Image.new(mode, (40, 40), colour), "PNG"), Options()).data)
    assert is_close(image.getpixel((20, 20)), wanted, 4)


def test_black_under_transparent_pixels_leaves_no_halo() -> None:
    """At a soft white edge over transparent black no pixel is darker than the edge makes it."""
    alpha = Image.linear_gradient("L").resize((64, 64))
    source = Image.merge("RGBA", [alpha.point(lambda value: 255 if value else 0)] * 3 + [alpha])
    image = opened(compress(encoded(source, "PNG"), Options(quality=95)).data).convert("L")
    darkest = image.getextrema()[0]
    assert isinstance(darkest, int | float)
    assert darkest >= 250


def test_transparent_palette_entries_become_white() -> None:
    """A palette with tRNS, one entry or many half-transparent ones."""
    source = quarters().quantize(4)
    index = source.getpixel((24, 16))
    assert isinstance(index, int)
    one = opened(compress(encoded(source, "PNG", transparency=index), Options()).data)
    assert [is_close(found, wanted) for found, wanted in zip(corners(one), COLOURS, strict=True)] == [
        False,
        True,
        True,
        True,
    ]
    assert is_close(one.getpixel((24, 16)), (255, 255, 255))
    half = opened(compress(encoded(source, "PNG", transparency=bytes([128] * 4)), Options()).data)
    wanted = tuple((part + 255) // 2 for part in GREEN)
    assert is_close(corners(half)[1], wanted)


def gray_rows(values: list[int]) -> bytes:
    """Sixteen rows of sixteen pixels for each value."""
    return b"".join(b"\0" + struct.pack(">H", value) * 16 for value in values for _ in range(16))


def test_sixteen_bit_gray_is_scaled_and_not_clipped_to_white() -> None:
    """65,535 is white, half of it is middle gray."""
    source = png(16, 48, depth=16, colour=0, rows=gray_rows([0, 32896, 65535]))
    image = opened(compress(source, Options()).data)
    assert image.mode == "L"
    assert [is_close(image.getpixel((8, y)), (value,), 4) for y, value in ((8, 0), (24, 128), (40, 255))] == [True] * 3


def test_sixteen_bit_gray_with_a_transparent_value_shows_white_there() -> None:
    """The transparent gray of 16 bits is compared in 16 bits."""
    transparent = chunk(b"tRNS", struct.pack(">H", 300))
    source = png(16, 48, depth=16, colour=0, rows=gray_rows([300, 301, 20000]), extra=[transparent])
    image = opened(compress(source, Options(quality=90)).data)
    assert [is_close(image.getpixel((8, y)), (value,), 6) for y, value in ((8, 255), (24, 1), (40, 78))] == [True] * 3


def test_two_bit_gray_with_a_transparent_value_shows_white_there() -> None:
    """A transparent gray is stated in the bits of the file, 0 to 3 here."""
    rows = b"".join(b"\0" + bytes([value * 0b01010101]) * 4 for value in (1, 2) for _ in range(16))
    source = png(16, 32, depth=2, colour=0, rows=rows, extra=[chunk(b"tRNS", struct.pack(">H", 1))])
    image = opened(compress(source, Options(quality=90)).data)
    assert is_close(image.getpixel((8, 8)), (255,), 6)
    assert is_close(image.getpixel((8, 24)), (170,), 6)


@pytest.mark.parametrize("alpha", [False, True])
def test_sixteen_bit_colour_is_scaled(alpha: bool) -> None:
    """RGB and RGBA with 16 bits keep their colours."""
    samples = (0xE6E6, 0x1414, 0x8080, 0xFFFF)[: 3 + alpha]
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples) * 16
    image = opened(compress(png(16, 16, depth=16, colour=6 if alpha else 2, rows=row * 16), Options()).data)
    assert is_close(image.getpixel((8, 8)), (0xE6, 0x14, 0x80))


def test_sixteen_bit_gray_with_alpha_is_blended() -> None:
    """LA with 16 bits, which Pillow decodes as RGBA."""
    row = b"\0" + struct.pack(">2H", 0, 0x8080) * 16
    image = opened(compress(png(16, 16, depth=16, colour=4, rows=row * 16), Options()).data).convert("L")
    assert is_close(image.getpixel((8, 8)), (127,), 4)


def test_one_bit_images_become_black_and_white() -> None:
    """Mode 1 is gray, its white is 255."""
    source = Image.new("1", (64, 64))
    source.paste(1, (0, 0, 32, 64))
    image = opened(compress(encoded(source, "PNG"), Options()).data)
    assert image.mode == "L"
    assert is_close(image.getpixel((10, 10)), (255,), 6)
    assert is_close(image.getpixel((50, 10)), (0,), 6)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_deep_tiff_samples_are_scaled(mode: str) -> None:
    """Integers of 16 and 32 bits and floats: dark stays dark, bright stays bright, nothing is clipped."""
    source = Image.new("I", (48, 16))
    for index, value in enumerate((0, 32896, 65535)):
        source.paste(value, (16 * index, 0, 16 * index + 16, 16))
    image = opened(compress(encoded(source if mode == "I" else source.convert(mode), "TIFF"), Options()).data)
    assert [is_close(image.getpixel((x, 8)), (value,), 6) for x, value in ((8, 0), (24, 128), (40, 255))] == [True] * 3


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_gives_its_first_frame_and_is_flagged(form: str) -> None:
    """None of the others, nor a mixture."""
    frames = [photograph(), quarters(240, 160), Image.new("RGB", (240, 160), BLUE)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=100)
    result = compress(data, Options())
    assert result.animated
    assert looks_like(opened(result.data), frames[0])


def test_a_first_gif_frame_smaller_than_the_canvas_lies_on_white() -> None:
    """What a frame does not cover is transparent, not the palette's first colour."""
    frame = bytearray(encoded(Image.new("P", (32, 32), 1), "GIF"))
    frame[6:10] = struct.pack("<HH", 64, 64)
    image = opened(compress(bytes(frame), Options()).data)
    assert image.size == (64, 64)
    assert is_close(image.getpixel((56, 56)), (255, 255, 255), 6)
    assert is_close(image.getpixel((10, 10)), (0, 0, 0), 12)


@pytest.mark.parametrize("size", [(1, 1), (1, 77), (77, 1), (65_500, 1), (1, 65_500), (17, 33)])
def test_odd_sizes_are_fine(size: tuple[int, int]) -> None:
    """From a single pixel to the longest line a JPEG can hold."""
    result = compress(encoded(Image.new("RGB", size, RED), "PNG"), Options())
    image = opened(result.data)
    assert image.size == size == (result.width, result.height)
    assert is_close(image.getpixel((size[0] // 2, size[1] // 2)), RED)


def test_a_result_larger_than_a_source_of_another_format_is_flagged() -> None:
    """A PNG of one colour is smaller than any JPEG; the asked format is given all the same."""
    source = encoded(Image.new("1", (8, 8)), "PNG")
    result = compress(source, Options())
    assert len(result.data) > len(source)
    assert result.larger_than_source
    assert not result.kept


def test_a_multi_picture_file_gives_its_primary_image() -> None:
    """MPO, as stereo cameras and telephones write it, is a JPEG with others behind it; it is no animation."""
    source = encoded(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32), BLUE)], quality=95)
    result = compress(source, Options())
    image = opened(result.data)
    assert (image.format, image.size, result.animated) == ("JPEG", (96, 64), False)
    assert all(is_close(found, wanted) for found, wanted in zip(corners(image), COLOURS, strict=True))
    assert b"MPF" not in result.data
