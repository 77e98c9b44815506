import io
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from libs.imaging import Options, compress
from tests.unit.pictures import chunk, encoded, opened, photograph, png
from tests.unit.refusals import code_of

MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]
SIZE = (61, 37)


def picture(mode: str) -> Image.Image:
    """A photograph with pixels of a kind that PNG has."""
    if mode == "I;16":
        return photograph(*SIZE).convert("L").convert("I").point(lambda sample: sample * 257).convert("I;16")
    image = photograph(*SIZE).convert("RGB").convert(mode)
    if mode in {"LA", "RGBA"}:
        image.putalpha(Image.radial_gradient("L").resize(SIZE))
    return image


def in_parts(whole: bytes, packed: bytes, sizes: list[int]) -> bytes:
    """A PNG with other image data, in chunks of so many bytes and a last one of the rest."""
    parts = []
    for size in sizes:
        parts.append(chunk(b"IDAT", packed[:size]))
        packed = packed[size:]
    start = whole.index(b"IDAT") - 4
    return whole[:start] + b"".join(parts) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def image_data(whole: bytes) -> bytes:
    """What is packed in the only chunk of image data of a small PNG."""
    start = whole.index(b"IDAT")
    return whole[start + 4 : start + 4 + int.from_bytes(whole[start - 4 : start], "big")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_rows_are_what_pillow_makes_of_the_file_by_itself(mode: str, level: int) -> None:
    """Stored, packed with fixed and with their own codes: the pixels are those of the file."""
    whole = encoded(picture(mode), "PNG", compress_level=level)
    made = opened(compress(whole, Options(format="png")).data)
    assert ImageChops.difference(made.convert("RGBA"), picture_shown(whole)).getbbox(alpha_only=False) is None


def picture_shown(whole: bytes) -> Image.Image:
    """The pixels of a PNG in 8 bits, by Pillow."""
    image = Image.open(io.BytesIO(whole))
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda sample: sample / 257 + 0.5).convert("L").convert("RGBA")
    return image.convert("RGBA")


@given(sizes=st.lists(st.integers(0, 40), max_size=40), mode=st.sampled_from(MODES))
def test_image_data_may_be_cut_into_chunks_anywhere(sizes: list[int], mode: str) -> None:
    """Between the two bytes of their head, within a code, with nothing in them."""
    whole = encoded(picture(mode), "PNG")
    cut = in_parts(whole, image_data(whole), sizes)
    assert compress(cut, Options()).data == compress(whole, Options()).data


@pytest.mark.parametrize("depth", [1, 8, 16])
def test_rows_of_many_blocks_are_whole(depth: int) -> None:
    """Noise that takes several times what a stored block holds, in one chunk."""
    width, height = 1000, 400
    row_bytes = width * depth // 8
    noise = random.Random(depth).randbytes(row_bytes * height)  # noqa: S311 - pixels
    rows = b"".join(b"\0" + noise[start : start + row_bytes] for start in range(0, len(noise), row_bytes))
    made = opened(compress(png(width, height, depth=depth, colour=0, rows=rows), Options(format="png")).data)
    if depth == 1:
        assert made.convert("1").tobytes() == noise
    elif depth == 8:
        assert made.convert("L").tobytes() == noise
    else:
        wanted = bytes(int(int.from_bytes(noise[start : start + 2], "big") / 257 + 0.5) for start in range(0, 2000, 2))
        assert made.convert("L").crop((0, 0, width, 1)).tobytes() == wanted


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"\x78\x01", ""),
        (b"\x08\x1d", ""),
        (b"\x78\x02", "corrupt"),
        (b"\x79\x01", "corrupt"),
        (b"\x78\x20", "corrupt"),
    ],
    ids=["32 kB", "256 bytes", "wrong sum", "no method", "a dictionary of its own"],
)
def test_the_two_bytes_before_the_data_are_checked(head: bytes, code: str) -> None:
    """RFC 1950, 2.2: method, window, a dictionary that PNG does not know, and a check of the two."""
    whole = encoded(photograph(*SIZE), "PNG")  # refers to what is thousands of bytes back, which no decoder minds
    other = in_parts(whole, head + image_data(whole)[2:], [])
    assert code_of(other) == code if code else compress(other, Options()).data == compress(whole, Options()).data


@pytest.mark.parametrize(
    "packed",
    [b"\x07", b"\x05\xff\xff\xff\xff", b"\x01\x48\x00\x00\x00" + bytes(72), b"\x4b\x04\x11\x00\x00\x00"],
    ids=["no kind of block", "codes that do not add up", "a wrong length", "from before the beginning"],
)
def test_data_that_cannot_be_unpacked_are_corrupt(packed: bytes) -> None:
    """Though the check sum of their chunk is right."""
    whole = png(8, 8, depth=8, colour=0, rows=bytes(72))
    assert code_of(in_parts(whole, b"\x78\x01" + packed + bytes(8), [])) == "corrupt"


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 10, 200])
def test_data_that_stop_within_a_row_are_truncated(cut: int) -> None:
    """All chunks are whole and there, but what is packed in them is not."""
    whole = encoded(photograph(*SIZE), "PNG")
    assert code_of(in_parts(whole, image_data(whole)[:cut], [])) == "truncated"


def test_what_follows_the_last_row_does_not_count() -> None:
    """More rows than the header says, no check sum, bytes behind it: browsers show such pictures."""
    rows = b"".join(b"\0" + bytes([16 * number] * 8) for number in range(16))
    whole = png(8, 8, depth=8, colour=0, rows=rows[:72])
    wanted = compress(whole, Options()).data
    data = image_data(whole)
    others = [zlib.compress(rows), data[:-4], data + b"more"]
    assert [compress(in_parts(whole, other, []), Options()).data == wanted for other in others] == [True] * 3


@pytest.mark.parametrize("height", [8, 65_535 // 5, 65_535 * 3 // 5])
@pytest.mark.parametrize("apart", [False, True], ids=["with the rows", "in a chunk of its own"])
def test_a_wrong_check_sum_of_all_rows_is_corrupt(height: int, *, apart: bool) -> None:
    """Though every chunk's own is right: the rows were damaged before the file was written, or on purpose.

    Pillow sees it only where it stands in the same chunk as the last row.
    """
    whole = png(4, height, depth=8, colour=0, rows=bytes(5 * height))
    data = image_data(whole)
    assert compress(in_parts(whole, data, [len(data) - 4] * apart), Options()).height == height
    assert code_of(in_parts(whole, data[:-4] + b"sums", [len(data) - 4] * apart)) == "corrupt"


@pytest.mark.parametrize("interlace", [0, 1])
def test_rows_are_never_in_memory_together(interlace: int) -> None:
    """Sixteen megabytes from a file of kilobytes; they are there as Pillow's pixels, and one piece at a time."""
    rows = (b"\0" + bytes(4000)) * 4000 + bytes(interlace * 16_000)
    source = png(4000, 4000, depth=8, colour=0, rows=rows, interlace=interlace)
    tracemalloc.start()
    try:
        assert compress(source, Options(max_width=100)).width == 100
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
