import io
import random
import struct

import pytest
import simplejpeg  # type: ignore[import-untyped]
from PIL import Image, ImageChops, ImageOps, ImageStat

from libs.imaging import ImageError, Options, compress
from tests.unit.pictures import (
    corners,
    encoded,
    is_close,
    marker_segment,
    opened,
    oriented,
    photograph,
    quarters,
    with_segments,
)


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean distance of two pictures, in the worst of their channels."""
    assert (one.mode, one.size) == (other.mode, other.size)
    return float(max(ImageStat.Stat(ImageChops.difference(one, other)).mean))


SOURCES: dict[str, dict[str, object]] = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "RGB": {"keep_rgb": True},
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(400, 300), (401, 299)])
def test_the_fast_lane_gives_what_pillow_gives(kind: str, mode: str, size: tuple[int, int]) -> None:
    """Pixels are at least as close to the source's as those that Pillow saves at this quality, in as many bytes.

    The 4 % are for this noise, whose colours Pillow blurs; photographs differ by less (`tests.bench.imaging`).
    """
    source = encoded(photograph(*size).convert(mode), "JPEG", quality=92, **SOURCES[kind])
    before = opened(source)
    by_pillow = encoded(before, "JPEG", quality=50)
    result = compress(source, Options())
    after = opened(result.data)
    assert not result.kept
    assert abs(len(result.data) - len(by_pillow)) < 0.04 * len(by_pillow)
    assert difference(after, before) <= 1.01 * difference(opened(by_pillow), before)


def damaged(whole: bytes, seed: int, bit: int) -> bytes:
    """`whole` with one bit of its compressed data flipped."""
    start = whole.index(b"\xff\xda") + 14
    place = random.Random(seed).randrange(start, len(whole) - 2)  # noqa: S311 - a seeded choice of places
    return whole[:place] + bytes((whole[place] ^ 1 << bit,)) + whole[place + 1 :]


def taken(data: bytes) -> bool:
    """Whether a picture is made of `data`; if not, the reason has to be damage."""
    try:
        compress(data, Options())
    except ImageError as error:
        if error.code not in {"corrupt", "truncated"}:
            raise
        return False
    return True


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {}), ("RGB", {"restart_marker_blocks": 5})],
    ids=["baseline", "progressive", "gray", "CMYK", "restarts"],
)
def test_damage_that_the_decoder_can_tell_is_corrupt(mode: str, options: dict[str, object]) -> None:
    """Of a hundred single flipped bits Pillow alone takes nearly all; what libjpeg warns of is refused here."""
    whole = encoded(photograph().convert(mode), "JPEG", quality=85, **options)
    files = [damaged(whole, place, place % 8) for place in range(100)]
    warned = [not is_strictly_sound(data) for data in files]
    assert 2 < sum(warned) < 100
    assert [not taken(data) for data in files] == warned


def is_strictly_sound(data: bytes) -> bool:
    """Whether libjpeg-turbo reads all of a file without a warning."""
    space = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}[opened_header(data).mode]
    try:
        simplejpeg.decode_jpeg(data, space)
    except ValueError:
        return False
    return True


def opened_header(data: bytes) -> Image.Image:
    """A file's header by Pillow."""
    return Image.open(io.BytesIO(data))


def test_a_jpeg_that_ends_early_but_has_its_end_marker_is_corrupt() -> None:
    """Cut in the middle of its data and closed again: no picture with a gray bottom."""
    whole = encoded(photograph(), "JPEG", quality=85)
    assert not taken(whole[: len(whole) // 2] + b"\xff\xd9")


def odd(whole: bytes) -> bytes:
    """The same file with a JFIF version of its own, stray bytes before a marker and a spectral range of no meaning."""
    marked = whole.replace(b"JFIF\0\1\1", b"JFIF\0\7\1").replace(b"\x03\x11\0\x3f\0", b"\x03\x11\0\0\0")
    return marked[:20] + b"stray" + marked[20:]


def test_odd_markers_do_not_hide_damage() -> None:
    """Libjpeg tells its first warning only; each file is refused with them exactly where it is refused without."""
    whole = encoded(photograph(), "JPEG", quality=85)
    assert odd(whole) != whole
    assert compress(odd(whole), Options()).data == compress(whole, Options()).data
    assert not taken(odd(whole[: len(whole) // 2] + b"\xff\xd9"))
    files = [damaged(whole, place, place % 8) for place in range(100)]
    refused = [not taken(data) for data in files]
    assert any(refused)
    assert [not taken(odd(data)) for data in files] == refused


@pytest.mark.parametrize("count", [1, 2, 7, 5000])
@pytest.mark.parametrize("quality", [30, 92], ids=["kept", "encoded anew"])
def test_zeros_after_the_last_code_are_padding(count: int, quality: int) -> None:
    """Some cameras fill their files up with them; they belong to no picture."""
    whole = encoded(photograph(), "JPEG", quality=quality)
    padded = whole[:-2] + bytes(count) + whole[-2:]
    result = compress(padded, Options())
    assert result.kept == (quality == 30)
    assert difference(opened(result.data), opened(compress(whole, Options()).data)) == 0
    assert compress(result.data, Options()).data == result.data


def test_anything_else_after_the_last_code_is_damage() -> None:
    """Left-over bytes are how codes end that fell out of step."""
    whole = encoded(photograph(), "JPEG", quality=85)
    assert not taken(whole[:-2] + b"left over bytes" + whole[-2:])


def test_padding_ends_before_the_code_ff() -> None:
    """FF 00 stands for the byte FF, whose zero is no padding."""
    whole = encoded(Image.new("L", (8, 8), 255), "JPEG", quality=100)
    data = whole[:-2].rstrip(b"\0")
    for last in (data, data + b"\xff\0"):
        taken(last + b"\0\0\0" + whole[-2:])  # a picture or a reason, nothing else


def test_cmyk_is_decoded_as_pillow_decodes_it() -> None:
    """Four colours take the strict lane too, and are the same inks as Pillow's."""
    source = encoded(photograph().convert("CMYK"), "JPEG", quality=90)
    by_pillow = encoded(opened(source).convert("RGB"), "JPEG", quality=95)
    assert difference(opened(compress(source, Options(quality=95)).data), opened(by_pillow)) < 0.5


def test_a_file_that_only_pillow_decodes_is_decoded_by_pillow() -> None:
    """Samplings that the fast decoder does not know are no damage."""
    whole = encoded(photograph(), "JPEG", quality=92, subsampling=0)
    frame = whole.index(b"\xff\xc0") + 4
    odd = bytearray(whole)
    for component, factor in ((0, 0x41), (1, 0x11), (2, 0x11)):
        odd[frame + 7 + 3 * component] = factor
    before = taken(bytes(odd))  # other factors than it was coded with: more data are wanted than there are
    assert not before


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_scaling_within_the_decoder_keeps_position_and_colours(orientation: int, mode: str) -> None:
    """A picture of a twelfth of its size, from a decoder that gave an eighth or a fourth; upright."""
    source = quarters(960, 640).convert(mode)
    tag = oriented(orientation)
    data = with_segments(encoded(source, "JPEG", quality=92), marker_segment(0xE1, tag))
    small = opened(compress(data, Options(quality=95, max_width=80, max_height=80)).data)
    large = opened(compress(data, Options(quality=95)).data)
    assert small.size == ((80, 53) if orientation < 5 else (53, 80))
    assert small.mode == mode
    for found, wanted in zip(corners(small), corners(large), strict=True):
        assert is_close(found, wanted if isinstance(wanted, tuple) else (wanted,), 8)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_turning_on_the_fast_lane_moves_every_pixel_as_pillow_moves_it(orientation: int, mode: str) -> None:
    """Of sides that no part of a picture divides; without a loss, so that nothing may differ."""
    whole = encoded(photograph(401, 299).convert(mode), "JPEG", quality=92)
    data = with_segments(whole, marker_segment(0xE1, oriented(orientation)))
    tagged = opened(compress(whole, Options(format="png")).data)
    tagged.getexif()[0x0112] = orientation
    found = opened(compress(data, Options(format="png")).data)
    assert difference(found, ImageOps.exif_transpose(tagged)) == 0
    before = ImageOps.exif_transpose(opened(data))
    by_pillow = encoded(before, "JPEG", quality=50)
    assert difference(opened(compress(data, Options()).data), before) <= 1.01 * difference(opened(by_pillow), before)


def test_a_jfif_header_with_another_version_is_written_with_the_known_one() -> None:
    """A kept file is one that every strict decoder takes."""
    whole = encoded(photograph(), "JPEG", quality=30)
    odd = whole.replace(b"JFIF\0\1\1", b"JFIF\0\2\1").replace(b"\x03\x11\0\x3f\0", b"\x03\x11\0\0\0")
    result = compress(odd, Options())
    assert result.kept
    assert result.data == whole.replace(b"JFIF\0\1\1", b"JFIF\0\1\2")
    assert struct.unpack_from(">BB", result.data, 11) == (1, 2)
