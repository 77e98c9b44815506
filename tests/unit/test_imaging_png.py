import struct
import tracemalloc
import zlib
from typing import Any

import pytest

from libs.imaging import Options, compress
from tests.unit.pictures import BLUE, GREEN, RED, YELLOW, chunk, encoded, is_close, opened, photograph, png
from tests.unit.refusals import code_of


def test_a_wrong_check_sum_is_corrupt() -> None:
    """Pillow does not check the sums of image data; the decoded picture would be wrong."""
    whole = bytearray(encoded(photograph(), "PNG"))
    whole[whole.rindex(b"IEND") - 5] ^= 1  # the sum of the last IDAT
    assert code_of(bytes(whole)) == "corrupt"


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize(("depth", "colour", "row"), [(8, 0, 65), (8, 2, 193), (1, 0, 9), (16, 6, 513)])
def test_a_png_whose_data_end_early_is_truncated(depth: int, colour: int, row: int, interlace: int) -> None:
    """All chunks are whole, but the compressed rows stop halfway: no picture with a black bottom."""
    # Zeros are valid rows of any pass, each beginning with filter 0; an interlaced file takes a few more of them.
    assert code_of(png(64, 64, depth=depth, colour=colour, rows=bytes(row * 32), interlace=interlace)) == "truncated"
    whole = png(64, 64, depth=depth, colour=colour, rows=bytes(row * 128), interlace=interlace)
    assert compress(whole, Options()).height == 64


@pytest.mark.parametrize("size", [(64, 64), (61, 37), (3, 5), (1, 1)])
def test_an_interlaced_png_is_fine(size: tuple[int, int]) -> None:
    """The seven passes of a whole file add up, whichever of them are empty."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(
        b"\0" + b"\x90" * len(range(left, size[0], step))
        for left, top, step, row_step in passes
        for _ in range(top, size[1], row_step)
        if left < size[0]
    )
    image = opened(compress(png(*size, depth=8, colour=0, rows=rows, interlace=1), Options()).data)
    assert image.getextrema() == (0x90, 0x90)


def test_a_bomb_of_text_is_corrupt_and_takes_no_memory() -> None:
    """A text chunk that unpacks to 100 MB is not unpacked."""
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9))
    source = png(8, 8, depth=8, colour=0, rows=bytes(72), extra=[bomb])
    tracemalloc.start()
    try:
        assert code_of(source) == "corrupt"
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_many_texts_that_are_each_below_the_limit_are_a_bomb_together() -> None:
    """A thousand of a kilobyte unpack to a gigabyte, which is not waited for."""
    text = zlib.compress(bytes(1_000_000), 9)
    for part in (chunk(b"zTXt", b"Comment\0\0" + text), chunk(b"iTXt", b"Comment\0\1\0\0\0" + text)):
        assert code_of(png(8, 8, depth=8, colour=0, rows=bytes(72), extra=[part] * 1000)) == "corrupt"
        assert compress(png(8, 8, depth=8, colour=0, rows=bytes(72), extra=[part] * 9), Options()).width == 8


def test_a_png_of_endless_small_chunks_is_too_complex() -> None:
    """The same for a PNG."""
    assert code_of(png(8, 8, depth=8, colour=0, rows=bytes(72), extra=[chunk(b"prVt", b"")] * 100_001)) == "too_complex"


FORMS: tuple[Any, ...] = ("jpeg", "keep", "webp", "avif")
COLOURS = (RED, GREEN, BLUE, YELLOW)
PALETTE = chunk(b"PLTE", bytes((*RED, *GREEN, *BLUE, *YELLOW)))
CLEAR = chunk(b"tRNS", b"\0")
SIZE = (64, 16)


def indexed(*chunks: bytes) -> bytes:
    """A PNG of two bits a pixel with stripes of the colours 0 to 3, and chunks before its pixels."""
    rows = b"\0\0\0\0\0\x55\x55\x55\x55\xaa\xaa\xaa\xaa\xff\xff\xff\xff" * SIZE[1]
    return png(*SIZE, depth=2, colour=3, rows=rows, extra=chunks)


def stripes(data: bytes, **options: Any) -> list[tuple[int, ...]]:
    """The colour and the alpha in the middle of each stripe of what is made of a file."""
    image = opened(compress(data, Options(quality=95, **options)).data).convert("RGBA")
    found = [image.getpixel((image.width * (2 * stripe + 1) // 8, image.height // 2)) for stripe in range(4)]
    return [pixel for pixel in found if isinstance(pixel, tuple)]


def is_like(found: list[tuple[int, ...]], *wanted: tuple[int, ...]) -> bool:
    """Whether the stripes have these colours; alpha is full where it is not said."""
    return all(is_close(pixel, (*colour, 255)[:4]) for pixel, colour in zip(found, wanted, strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_a_palette_of_two_bits_with_transparency_keeps_its_colours(form: Any) -> None:
    """Four colours, of which the first is transparent and the second half so."""
    clear, half, *solid = stripes(indexed(PALETTE, chunk(b"tRNS", bytes((0, 128)))), format=form)
    if form == "jpeg":
        mixed = tuple((part + 255) // 2 for part in GREEN)
        assert is_like([clear, half, *solid], (255, 255, 255), mixed, BLUE, YELLOW)
    else:
        assert clear[3] == 0
        assert is_like([half, *solid], (*GREEN, 128), BLUE, YELLOW)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "chunks",
    [
        (),
        (chunk(b"PLTD", PALETTE[8:-4]), CLEAR),
        (chunk(b"PLTE", b""), CLEAR),
        (chunk(b"PLTE", b"four"),),
        (chunk(b"PLTE", bytes(3 * 257)),),
        (PALETTE, PALETTE),
        (chunk(b"IDAT", b""), PALETTE),
    ],
    ids=["missing", "by another name", "empty", "not in threes", "too long", "twice", "behind the pixels"],
)
def test_a_picture_whose_palette_is_broken_is_corrupt(chunks: tuple[bytes, ...], form: Any) -> None:
    """Its pixels are numbers of colours that nobody knows; Pillow shows black, or trips over it while it writes."""
    assert code_of(indexed(*chunks), Options(format=form)) == "corrupt"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{}, {"max_width": 48}], ids=["its size", "smaller"])
def test_a_colour_that_is_not_in_the_palette_is_black(form: Any, options: dict[str, int]) -> None:
    """As browsers show it; the picture is not written with fewer bits than its pixels need."""
    beyond = [bytes(4 + (7 * row * column) % 252 for column in range(32)) for row in range(SIZE[1])]
    rows = b"".join(b"\0" + bytes(16) + b"\1" * 16 + pixels for pixels in beyond)
    data = png(*SIZE, depth=8, colour=3, rows=rows, extra=[PALETTE])
    assert is_like(stripes(data, format=form, **options), RED, GREEN, (0, 0, 0), (0, 0, 0))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [b"tEXt", b"iTXt"])
@pytest.mark.parametrize(
    "name", ["transparency", "icc_profile", "exif", "interlace", "bbox", "default_image", "gamma", "background"]
)
def test_a_text_is_not_taken_for_a_fact_of_the_picture(name: str, kind: bytes, form: Any) -> None:
    """Pillow keeps texts by their names in the dictionary that holds transparency, profile and EXIF."""
    text = chunk(kind, name.encode() + (b"\0text" if kind == b"tEXt" else b"\0\0\0\0\0text"))
    for chunks in ((PALETTE, text), (text, PALETTE)):
        assert is_like(stripes(indexed(*chunks), format=form), *COLOURS)


STRAY = {
    "more than colours": (PALETTE, chunk(b"tRNS", bytes(5))),
    "more than 256": (PALETTE, chunk(b"tRNS", bytes(300))),
    "empty": (PALETTE, chunk(b"tRNS", b"")),
    "before the palette": (CLEAR, PALETTE),
    "a second one": (PALETTE, chunk(b"tRNS", b"\xff"), CLEAR),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stray", STRAY)
def test_transparency_that_breaks_the_rules_is_passed_over(stray: str, form: Any) -> None:
    """Browsers show such pictures solid, and so does what is made of them."""
    assert is_like(stripes(indexed(*STRAY[stray]), format=form), *COLOURS)


def test_transparency_behind_the_pixels_is_passed_over() -> None:
    """It comes too late for whoever draws row by row."""
    whole = indexed(PALETTE)
    assert is_like(stripes(whole[:-12] + CLEAR + whole[-12:], format="keep"), *COLOURS)


def test_of_a_transparent_gray_only_the_lowest_bits_count() -> None:
    """Two bytes for two bits: 0x0107 means 3, which is white."""
    rows = b"\0\0\0\0\0\x55\x55\x55\x55\xaa\xaa\xaa\xaa\xff\xff\xff\xff" * SIZE[1]
    data = png(*SIZE, depth=2, colour=0, rows=rows, extra=[chunk(b"tRNS", b"\x01\x07")])
    *solid, clear = stripes(data, format="webp")
    assert is_like(solid, (0,) * 3, (85,) * 3, (170,) * 3)
    assert clear[3] == 0


FRAME = struct.pack(">IIIIIHHBB", 0, 32, 16, 0, 0, 1, 10, 0, 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "broken",
    [
        chunk(b"gAMA", b"\0"),
        chunk(b"gAMA", b"\0\0\xb1\x8f")[:-1] + b"?",
        chunk(b"cHRM", b"short"),
        chunk(b"sRGB", b""),
        chunk(b"pHYs", b""),
        chunk(b"iCCP", b""),
        chunk(b"iCCP", b"name\0\0cut"),
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(2_000_000))),
        chunk(b"iCCP", b"a name of more bytes than there may be" * 3),
        chunk(b"eXIf", b"MM\0"),
        chunk(b"zTXt", b"Comment\0\7unknown"),
        chunk(b"iTXt", b"Comment\0\1\0cut"),
        chunk(b"acTL", b"cut"),
        chunk(b"fcTL", b"cut"),
        chunk(b"fcTL", FRAME) * 2,
    ],
    ids=lambda part: f"{part[4:8].decode()} of {len(part) - 12} bytes",
)
def test_what_is_broken_beside_the_pixels_fails_nothing(broken: bytes, form: Any) -> None:
    """Chunks that may be left out are, whatever Pillow thinks of them."""
    assert is_like(stripes(indexed(broken, PALETTE), format=form), *COLOURS)
    assert is_like(stripes(indexed(PALETTE, broken), format=form), *COLOURS)


def test_an_animation_whose_frames_are_broken_gives_its_first_picture() -> None:
    """The still picture is whole, whatever is wrong with how the others follow it."""
    control = chunk(b"acTL", struct.pack(">II", 3, 0))
    for frames in (b"", chunk(b"fcTL", FRAME), chunk(b"fcTL", bytes(26)) + chunk(b"fdAT", b"\0\0\0\x09junk")):
        data = indexed(PALETTE, control, frames)
        assert is_like(stripes(data), *COLOURS)
        assert compress(data, Options()).animated


def test_image_data_with_something_between_them_are_put_together() -> None:
    """Encoders may not do so, and viewers do not mind."""
    whole = indexed(PALETTE)
    start = whole.index(b"IDAT") - 4
    packed = whole[start + 8 : whole.index(b"IEND") - 8]
    parts = chunk(b"IDAT", packed[:9]) + chunk(b"tEXt", b"Comment\0between") + chunk(b"IDAT", packed[9:])
    assert is_like(stripes(whole[:start] + parts + whole[-12:]), *COLOURS)


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        (chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 2, 3, 0, 0, 0)), "corrupt"),
        (chunk(b"JDAT", b"critical by its capital letter"), "corrupt"),
        (chunk(b"prVt", b"private by its small one"), ""),
    ],
    ids=["a second header", "unknown and critical", "unknown and private"],
)
def test_a_chunk_that_must_be_understood_and_is_not_makes_a_file_corrupt(extra: bytes, code: str) -> None:
    """The first letter tells (5.4): what comes after may not be what it looks like."""
    data = indexed(PALETTE, extra)
    assert is_like(stripes(data), *COLOURS) if not code else code_of(data) == code


def test_apples_variant_of_png_is_not_supported() -> None:
    """Its first chunk says that colours are swapped and the data are packed in another way."""
    whole = indexed(PALETTE)
    assert code_of(whole[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + whole[8:]) == "unsupported_format"
