import struct

import pytest
from PIL import Image, ImageCms

from libs.imaging import Options, compress
from tests.unit.pictures import (
    cmyk_profile,
    encoded,
    is_close,
    looks_like,
    marker_segment,
    opened,
    photograph,
    profile,
    with_segments,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def icc_segments(whole: bytes, piece: int) -> list[bytes]:
    """A profile as it lies in a JPEG file, `piece` bytes in each segment."""
    parts = [whole[start : start + piece] for start in range(0, len(whole), piece)]
    return [
        marker_segment(0xE2, b"ICC_PROFILE\0" + bytes((number, len(parts))) + part)
        for number, part in enumerate(parts, start=1)
    ]


@pytest.mark.parametrize(
    ("inks", "wanted"),
    [
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 0, 0, 128), (127, 127, 127)),
    ],
)
@pytest.mark.parametrize("marked", [True, False], ids=["Adobe marker", "no marker"])
def test_cmyk_jpegs_become_the_colours_that_browsers_show(
    inks: tuple[int, ...], wanted: tuple[int, ...], marked: bool
) -> None:
    """Chromium and Firefox take four colours as inverted whether or not an Adobe marker says so."""
    source = encoded(Image.new("CMYK", (48, 48), inks), "JPEG", quality=95)
    if not marked:
        start = source.index(b"\xff\xee")
        source = source[:start] + source[start + 2 + struct.unpack_from(">H", source, start + 2)[0] :]
    result = compress(source, Options())
    assert not result.kept
    assert looks_like(opened(result.data), Image.new("RGB", (48, 48), wanted), 6)


def test_ycck_jpegs_become_the_right_colours() -> None:
    """YCCK is CMYK with its first three colours turned into YCbCr; Adobe's transform 2 marks it."""
    # Red as Adobe stores it: no cyan (255), full magenta and yellow (0), no black (255). The first three are
    # complemented before they become YCbCr (libjpeg, jccolor.c); that Pillow inverts is undone here beforehand.
    y, cb, cr = Image.new("RGB", (48, 48), (0, 255, 255)).convert("YCbCr").split()
    planes = Image.merge(
        "CMYK", [band.point(lambda value: 255 - value) for band in (y, cb, cr)] + [Image.new("L", (48, 48))]
    )
    source = bytearray(encoded(planes, "JPEG", quality=95))
    adobe = source.index(b"Adobe")
    source[adobe + 11] = 2
    assert is_close(opened(compress(bytes(source), Options()).data).getpixel((24, 24)), (255, 0, 0), 10)


def test_cmyk_is_converted_by_its_profile_where_there_is_one() -> None:
    """An ink that its profile calls orange is orange, not the cyan that the plain formula makes of it."""
    inks = cmyk_profile({(0, 0, 0, 0): (100, 0, 0), (1, 0, 0, 0): (60, 40, 40)})
    source = Image.new("CMYK", (48, 48), (255, 0, 0, 0))
    source.paste((0, 0, 0, 0), (0, 0, 48, 16))
    result = compress(encoded(source, "JPEG", quality=95, icc_profile=inks), Options())
    image = opened(result.data)
    lab = Image.new("LAB", (1, 1), (153, 168, 168))
    orange = ImageCms.profileToProfile(
        lab, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert orange is not None
    wanted = orange.getpixel((0, 0))
    assert isinstance(wanted, tuple)
    assert wanted[0] > 2 * wanted[2]
    assert is_close(image.getpixel((24, 36)), tuple(int(part) for part in wanted), 12)
    assert is_close(image.getpixel((24, 6)), (255, 255, 255), 4)
    assert "icc_profile" not in image.info


def test_a_cmyk_profile_that_says_nothing_is_passed_over() -> None:
    """A profile without a table cannot be used; the plain formula then is the best there is."""
    source = encoded(Image.new("CMYK", (48, 48), (0, 255, 255, 0)), "JPEG", quality=95, icc_profile=profile(b"CMYK"))
    assert is_close(opened(compress(source, Options()).data).getpixel((24, 24)), (255, 0, 0), 6)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_profile_is_kept(form: str) -> None:
    """Wide gamuts keep their colours because the profile that says how to read them stays."""
    image = opened(compress(encoded(photograph(), form, icc_profile=SRGB), Options()).data)
    assert image.info["icc_profile"] == SRGB
    assert looks_like(image, photograph())


@pytest.mark.parametrize("quality", [30, 92], ids=["kept", "encoded anew"])
def test_a_profile_in_many_segments_is_kept(quality: int) -> None:
    """A profile longer than a segment is put together in the order of its numbers, wherever they stand."""
    whole = profile(b"RGB ", 150_000)
    plain = encoded(photograph(), "JPEG", quality=quality)
    source = with_segments(plain, *reversed(icc_segments(whole, 60_000)))
    image = opened(compress(source, Options()).data)
    assert image.info["icc_profile"] == whole
    assert looks_like(image, photograph())


@pytest.mark.parametrize("quality", [30, 92], ids=["kept", "encoded anew"])
@pytest.mark.parametrize(
    "segments",
    [
        icc_segments(profile(b"RGB ", 900), 300)[:2],
        icc_segments(profile(b"RGB ", 900)[:500], 300),
        icc_segments(profile(b"CMYK", 900), 900),
        icc_segments(b"too short", 900),
        [marker_segment(0xE2, b"ICC_PROFILE\0")],
    ],
    ids=["a piece missing", "cut", "of another space", "no header", "empty"],
)
def test_a_profile_that_cannot_be_used_is_left_out(segments: list[bytes], quality: int) -> None:
    """A broken profile fails nothing and is not passed on."""
    source = with_segments(encoded(photograph(), "JPEG", quality=quality), *segments)
    result = compress(source, Options())
    assert looks_like(opened(result.data), photograph())
    assert b"ICC_PROFILE" not in result.data


def test_a_gray_image_takes_no_profile_for_colours() -> None:
    """A profile of three channels on an image of one is invalid, and a gray one is kept."""
    gray = photograph().convert("L")
    assert b"ICC_PROFILE" not in compress(encoded(gray, "JPEG", quality=92, icc_profile=SRGB), Options()).data
    assert b"ICC_PROFILE" in compress(encoded(gray, "JPEG", quality=92, icc_profile=profile(b"GRAY")), Options()).data
