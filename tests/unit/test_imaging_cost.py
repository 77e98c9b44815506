from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from libs.imaging import CodecPool, Options, cost_bytes, cost_seconds, header
from libs.imaging.sniff import SourceFormat
from tests.unit.pictures import encoded, marker_segment, oriented, photograph, profile, quarters, with_segments

LEAST = cost_bytes(b"no image at all", Options())
FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_header_is_read_without_a_decoder(form: str, mode: str) -> None:
    """Width and height as Pillow finds them, from the first bytes."""
    if form == "JPEG" and mode == "RGBA":
        mode = "CMYK"
    data = encoded(photograph(123, 77).convert(mode), form)
    assert header.read(data) == header.Header(SourceFormat(form), 123, 77, inks=mode == "CMYK")


def test_every_kind_of_webp_and_bmp_is_read() -> None:
    """Lossy, lossless and extended; upside down, and OS/2's."""
    image = photograph(123, 77)
    for options in ({"lossless": True}, {"quality": 50}, {"icc_profile": profile(b"RGB ")}):
        assert header.read(encoded(image, "WEBP", **options)) == header.Header(SourceFormat.WEBP, 123, 77)
    bmp = bytearray(encoded(image, "BMP"))
    bmp[22:26] = (-77).to_bytes(4, "little", signed=True)
    assert header.read(bytes(bmp)) == header.Header(SourceFormat.BMP, 123, 77)
    old = bytes(bmp[:14]) + (12).to_bytes(4, "little") + (123).to_bytes(2, "little") + (77).to_bytes(2, "little")
    assert header.read(old) == header.Header(SourceFormat.BMP, 123, 77)


def test_a_thumbnail_is_not_taken_for_the_picture() -> None:
    """The frame counts, and none that lies within a segment before it."""
    thumbnail = encoded(quarters(16, 12), "JPEG")
    data = with_segments(encoded(photograph(123, 77), "JPEG"), marker_segment(0xE1, oriented(6) + thumbnail))
    assert header.read(data) == header.Header(SourceFormat.JPEG, 123, 77)


@pytest.mark.parametrize("form", FORMATS)
def test_a_header_that_is_cut_or_broken_is_no_error(form: str) -> None:
    """The estimate is made before anything is known of the file."""
    whole = encoded(photograph(123, 77), form)
    for length in range(0, 200, 3):
        assert cost_bytes(whole[:length], Options()) >= LEAST
        broken = whole[:length] + b"\xff" * 9 + whole[length + 9 :]
        assert cost_bytes(broken, Options()) >= LEAST
        assert cost_seconds(broken, Options()) > 0


def sized(form: str, width: int, height: int) -> bytes:
    """A file of one colour."""
    return encoded(Image.new("L", (width, height)), form)


def test_a_cost_follows_the_pixels_and_what_is_asked_for() -> None:
    """More pixels, transparency and heavier encoders cost more; a smaller output costs less."""
    small, large = sized("JPEG", 400, 300), sized("JPEG", 4000, 3000)
    assert LEAST < cost_bytes(small, Options()) < cost_bytes(large, Options())
    heavier = [cost_bytes(large, Options(format=form)) for form in ("jpeg", "webp", "avif")]
    assert heavier == sorted(heavier)
    assert cost_bytes(large, Options(format="avif", max_width=400)) < cost_bytes(large, Options(format="avif"))
    assert cost_bytes(sized("PNG", 4000, 3000), Options(format="webp")) > cost_bytes(large, Options(format="webp"))
    assert cost_bytes(large, Options(format="keep")) == cost_bytes(large, Options())


def test_what_will_be_refused_costs_next_to_nothing() -> None:
    """Too many pixels are refused by the header; a picture whose size cannot be told may have as many as any."""
    huge = sized("PNG", 3000, 2000)
    assert cost_bytes(huge, Options(max_pixels=5_999_999)) < LEAST + 8 * len(huge) + 1
    assert cost_bytes(huge, Options(max_pixels=6_000_000)) > LEAST + 6_000_000


def box(kind: bytes, body: bytes = b"") -> bytes:
    """A box of an ISO base media file."""
    return (8 + len(body)).to_bytes(4, "big") + kind + body


BRAND = box(b"ftyp", b"avif\0\0\0\0avif")
EXTENT = box(b"ispe", bytes(4) + (64).to_bytes(4, "big") * 2)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xd8\xff\xe0", id="JPEG without a frame"),
        pytest.param(b"\xff\xd8" + b"\xff\xfe\0\2" * 20_000, id="JPEG of endless segments"),
        pytest.param(b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65_535), id="TIFF of endless entries"),
        pytest.param(BRAND + box(b"meta", EXTENT * 5000), id="AVIF of endless extents"),
        pytest.param(BRAND + box(b"free") * 5000 + box(b"meta", EXTENT), id="AVIF of endless boxes"),
        pytest.param(BRAND + bytes(5000), id="AVIF with a box of no size"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_read_in_a_few_steps_costs_as_much_as_any(data: bytes) -> None:
    """It is read in the service's own process, which has others to serve."""
    assert header.read(data) is not None
    assert cost_bytes(data, Options(max_pixels=1_000_000)) > LEAST + 12 * 1_000_000
    assert header.read(BRAND + box(b"free") + box(b"meta", EXTENT)) == header.Header(SourceFormat.AVIF, 64, 64)


def test_searching_takes_longer_than_encoding_once() -> None:
    """A target and a likeness are found by trying; each try has its time."""
    data = sized("JPEG", 1000, 1000)
    once = cost_seconds(data, Options(format="webp"))
    assert cost_seconds(data, Options(format="webp", quality="auto")) > once
    assert cost_seconds(data, Options(format="webp", max_bytes=9)) > once


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def pool() -> AsyncIterator[CodecPool]:
    """A worker whose own limits are far off, so that the costs are what limits it."""
    async with CodecPool(1, 8 << 30, 600.0) as opened:
        yield opened


SIZE = (2000, 1500)
HEAVY: dict[str, tuple[str, dict[str, Any]]] = {
    "CMYK, turned": ("JPEG", {"mode": "CMYK", "exif": oriented(6)}),
    "progressive, turned": ("JPEG", {"mode": "RGB", "progressive": True, "subsampling": 0, "exif": oriented(6)}),
    "RGBA, turned": ("PNG", {"mode": "RGBA", "compress_level": 1, "exif": oriented(6)}),
    "palette": ("GIF", {"mode": "P", "transparency": 0}),
    "float": ("TIFF", {"mode": "F"}),
    "lossless, turned": ("WEBP", {"mode": "RGBA", "lossless": True, "method": 0, "exif": oriented(6)}),
}


@pytest.mark.parametrize("form", ["jpeg", "webp"])
@pytest.mark.parametrize("kind", HEAVY)
async def test_a_worker_gets_enough_for_the_heaviest_pictures(pool: CodecPool, kind: str, form: Any) -> None:
    """What an image costs is what it may take, and it is enough."""
    source, options = HEAVY[kind]
    asked = {name: value for name, value in options.items() if name != "mode"}
    data = encoded(photograph(*SIZE).convert(options["mode"]), source, **asked)
    result = await pool.compress(data, Options(format=form))
    assert result.width * result.height == SIZE[0] * SIZE[1]
