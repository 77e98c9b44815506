import io
import struct
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageCms

from libs.imaging import ImageError, Options, compress
from tests.unit.pictures import (
    BLUE,
    GREEN,
    RED,
    YELLOW,
    corners,
    encoded,
    is_close,
    looks_like,
    marker_segment,
    opened,
    oriented,
    photograph,
    profile,
    quarters,
    rgb_profile,
    with_segments,
)

COLOURS = (RED, GREEN, BLUE, YELLOW)
SOURCES = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
FORMATS = ("jpeg", "webp", "avif", "png")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_format_becomes_every_other(source: str, form: Any) -> None:
    """Size and colours stay, and the facts say what was made of what."""
    options = {"quality": 95} if source in {"JPEG", "WEBP", "AVIF"} else {}
    data = encoded(quarters(), source, **options)
    result = compress(data, Options(format=form, quality=80))
    image = opened(result.data)
    assert (image.format, image.size) == (form.upper(), (96, 64))
    assert all(is_close(found, wanted) for found, wanted in zip(corners(image.convert("RGB")), COLOURS, strict=True))
    assert (result.format, result.extension) == (form, {"jpeg": "jpg"}.get(form, form))
    assert result.name.endswith(f".{result.extension}")
    assert (result.width, result.height, result.source_width, result.source_height) == (96, 64, 96, 64)
    assert (result.source_bytes, result.source_format) == (len(data), source.lower())
    assert result.larger_than_source == (len(result.data) > len(data))
    assert result.quality == (None if form == "png" or result.kept else 80)
    assert result.decode_seconds > 0
    assert result.encode_seconds > 0


@pytest.mark.parametrize("source", SOURCES)
def test_keep_stays_in_the_format_of_the_source_or_gives_a_png(source: str) -> None:
    """What is not written (GIF, BMP, TIFF) becomes what loses nothing."""
    result = compress(encoded(photograph(), source), Options(format="keep"))
    wanted = source if source in {"JPEG", "PNG", "WEBP", "AVIF"} else "PNG"
    assert opened(result.data).format == wanted
    assert result.format == wanted.lower()


@pytest.mark.parametrize("form", ["webp", "avif", "png"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_stays_so_where_the_format_can(mode: str, form: Any) -> None:
    """The background is for JPEG only."""
    source = quarters().convert("RGBA")
    source.paste((0, 0, 0, 0), (0, 0, 48, 32))
    data = encoded(source.quantize(8) if mode == "P" else source.convert(mode), "PNG")
    image = opened(compress(data, Options(format=form, quality=80, background="#ff0000")).data).convert("RGBA")
    clear, solid = image.getpixel((20, 16)), image.getpixel((70, 16))
    assert isinstance(clear, tuple)
    assert isinstance(solid, tuple)
    assert (clear[3], solid[3]) == (0, 255)
    assert is_close(solid[:3], GREEN if mode != "LA" else (round(0.299 * 20 + 0.587 * 200 + 0.114 * 40),) * 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
@pytest.mark.parametrize("ground", [(10, 120, 250), (90, 90, 90), (255, 255, 255)])
def test_a_background_shows_through_what_is_transparent(mode: str, ground: tuple[int, int, int]) -> None:
    """Wholly where it is transparent, half where it is half; gray pictures take colour from it where it has some."""
    source = Image.new("RGBA", (64, 64), (200, 200, 200, 0))
    source.paste((200, 200, 200, 128), (32, 0, 64, 64))
    if mode == "P":
        source = source.quantize(4)
    data = encoded(source.convert(mode), "TIFF" if mode == "PA" else "PNG")
    if mode == "PA":
        data = encoded(source, "TIFF")
    options = Options(quality=90, background=f"#{bytes(ground).hex()}")
    image = opened(compress(data, options).data).convert("RGB")
    assert is_close(image.getpixel((16, 32)), ground, 8)
    assert is_close(image.getpixel((48, 32)), tuple((part + 200) // 2 for part in ground), 8)


def test_a_transparent_gray_of_sixteen_bits_stays_transparent() -> None:
    """The alpha that a tRNS chunk means goes into formats that have one."""
    source = Image.new("I;16", (32, 32), 30_000)
    source.paste(0, (0, 0, 16, 32))
    output = io.BytesIO()
    source.save(output, "PNG", transparency=0)
    image = opened(compress(output.getvalue(), Options(format="png")).data).convert("LA")
    assert image.getpixel((8, 8)) == (0, 0)
    assert is_close(image.getpixel((24, 8)), (117, 255), 1)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({"max_width": 120}, (120, 80)),
        ({"max_height": 20}, (30, 20)),
        ({"max_width": 100, "max_height": 20}, (30, 20)),
        ({"max_width": 7, "max_height": 7}, (7, 5)),
        ({"max_width": 1}, (1, 1)),
        ({"max_width": 241, "max_height": 161}, (240, 160)),
        ({"max_width": 65_500}, (240, 160)),
    ],
    ids=str,
)
def test_a_picture_is_made_to_fit_and_never_enlarged(
    source: str, limits: dict[str, int], size: tuple[int, int]
) -> None:
    """In proportion, and with the colours where they were; not kept where it was made smaller."""
    data = encoded(quarters(240, 160), source)
    result = compress(data, Options(quality=95, **limits))
    image = opened(result.data)
    assert image.size == size == (result.width, result.height)
    assert (result.source_width, result.source_height) == (240, 160)
    if size != (240, 160):
        assert not result.kept
    if min(size) >= 20:
        assert all(is_close(found, wanted, 24) for found, wanted in zip(corners(image), COLOURS, strict=True))
    assert compress(result.data, Options(quality=95, **limits)).data == result.data


def test_limits_are_those_of_the_upright_picture() -> None:
    """A picture stored on its side is turned before it is measured."""
    tag = marker_segment(0xE1, oriented(6))
    result = compress(with_segments(encoded(quarters(96, 64), "JPEG"), tag), Options(max_width=32))
    assert (result.width, result.height) == (32, 48)


def test_an_avif_of_too_many_pixels_is_refused_by_the_header() -> None:
    """Its encoder takes too long; made to fit, it is fine."""
    huge = encoded(Image.new("L", (4001, 3000)), "PNG")
    with pytest.raises(ImageError, match="too_many_pixels: 4001x3000: AVIF is made of at most 12000000 pixels"):
        compress(huge, Options(format="avif"))
    assert compress(huge, Options(format="avif", max_width=100)).width == 100


@pytest.mark.parametrize(("form", "most"), [("webp", 16_383), ("avif", 32_768)])
def test_a_format_refuses_sides_that_it_cannot_hold(form: Any, most: int) -> None:
    """A WebP cannot be written with more pixels on a side, an AVIF not be read."""
    long = encoded(Image.new("L", (most + 1, 8)), "PNG")
    with pytest.raises(ImageError, match=rf"too_many_pixels.*{form}"):
        compress(long, Options(format=form))
    made = compress(long, Options(format=form, max_width=most))
    assert opened(made.data).size == (made.width, made.height) == (most, 8)


@pytest.mark.parametrize("form", ["jpeg", "webp", "avif"])
@pytest.mark.parametrize("source", ["JPEG", "PNG"])
def test_a_target_is_met_by_the_highest_quality_that_reaches_it(source: str, form: Any) -> None:
    """Half the bytes, and with one more step of quality it would be too many."""
    data = encoded(photograph(), source, **({"quality": 90} if source == "JPEG" else {}))
    most = len(data) // 2
    result = compress(data, Options(format=form, target_ratio=0.5))
    assert len(result.data) <= most
    assert not result.target_missed
    assert result.quality is not None
    if result.quality < 95:
        above = compress(data, Options(format=form, quality=result.quality + 1))
        assert len(above.data) > most
    assert compress(data, Options(format=form, max_bytes=most)).data == result.data


def test_a_target_that_no_quality_reaches_gives_the_smallest_and_says_so() -> None:
    """A hundred bytes are no picture."""
    data = encoded(photograph(), "JPEG", quality=90)
    result = compress(data, Options(max_bytes=100))
    assert (result.quality, result.target_missed, result.kept) == (1, True, False)
    assert len(result.data) < len(compress(data, Options(quality=9)).data)


def test_a_source_that_is_small_enough_is_kept() -> None:
    """Not encoded anew when it is below the asked bytes, nor when its metadata were what was too much."""
    plain = encoded(photograph(), "JPEG", quality=90)
    within = compress(plain, Options(max_bytes=len(plain)))
    assert (within.kept, within.data, within.quality) == (True, plain, None)
    heavy = with_segments(plain, *[marker_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(60_000))] * 3)
    halved = compress(heavy, Options(target_ratio=0.5))
    assert (halved.kept, halved.data) == (True, plain)


@pytest.mark.parametrize("quality", [20, 60, 95])
@pytest.mark.parametrize("source", ["JPEG", "PNG"])
def test_auto_takes_the_lowest_quality_that_looks_alike(source: str, quality: int) -> None:
    """A soft picture needs less than a grainy one; the quality is told, and no JPEG becomes larger."""
    options = {"quality": quality} if source == "JPEG" else {}
    data = encoded(photograph(), source, **options)
    result = compress(data, Options(quality="auto"))
    assert len(result.data) <= len(data)
    assert result.kept or result.quality in range(1, 96)
    soft = compress(encoded(Image.linear_gradient("L").convert("RGB"), "PNG"), Options(quality="auto"))
    assert soft.quality is not None
    if result.quality is not None and source == "PNG":
        assert soft.quality < result.quality


@pytest.mark.parametrize("form", ["webp", "avif"])
def test_auto_serves_the_other_formats_too(form: Any) -> None:
    """The measure is of pixels, whatever the encoder."""
    result = compress(encoded(photograph(), "PNG"), Options(quality="auto", format=form))
    assert result.quality in range(1, 96)


def described() -> Image.Exif:
    """EXIF with everything in it: who, what, where, which way up and a thumbnail."""
    tag = Image.Exif()
    tag[ExifTags.Base.Artist] = "ARTIST"
    tag[ExifTags.Base.Copyright] = "COPYRIGHT"
    tag[ExifTags.Base.Make] = "MAKER"
    tag[ExifTags.Base.Orientation] = 6
    tag[ExifTags.Base.XPComment] = "HIDDEN".encode("utf-16-le")
    tag.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.DateTimeOriginal: "2026:01:02 03:04:05"})
    tag.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.MakerNote: b"HIDDEN", ExifTags.Base.ExifImageWidth: 64})
    tag.get_ifd(ExifTags.IFD.GPSInfo).update({ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSMapDatum: "PLACE"})
    return tag


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("metadata", ["strip", "copyright", "keep"])
def test_as_much_metadata_is_kept_as_was_asked(source: str, form: Any, metadata: Any) -> None:
    """Orientation, thumbnail and hidden things never; the place only where all that describes is kept."""
    data = encoded(quarters(64, 96), source, exif=described().tobytes() + b"THUMBNAIL", quality=80)
    result = compress(data, Options(format=form, metadata=metadata, quality=50))
    image = opened(result.data)
    found = image.getexif()
    assert image.size == (96, 64)
    assert ExifTags.Base.Orientation not in found
    assert b"THUMBNAIL" not in result.data
    assert b"HIDDEN" not in result.data.replace(b"\0", b"")
    assert found.get(ExifTags.Base.Copyright) == (None if metadata == "strip" else "COPYRIGHT")
    assert found.get(ExifTags.Base.Artist) == (None if metadata == "strip" else "ARTIST")
    assert found.get(ExifTags.Base.Make) == ("MAKER" if metadata == "keep" else None)
    place = found.get_ifd(ExifTags.IFD.GPSInfo).get(ExifTags.GPS.GPSMapDatum)
    assert place == ("PLACE" if metadata == "keep" else None)
    taken = found.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    assert taken == ("2026:01:02 03:04:05" if metadata == "keep" else None)
    if metadata == "strip":
        assert b"Exif" not in result.data


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("metadata", ["copyright", "keep"])
def test_a_kept_file_has_the_metadata_that_were_asked_for(source: str, metadata: Any) -> None:
    """Put in anew beside the source's own compressed data; running again changes nothing."""
    tag = described()
    del tag[ExifTags.Base.Orientation]
    options = Options(format="keep", metadata=metadata)
    first = encoded(quarters(), source, exif=tag.tobytes(), quality=10, optimize=True)
    result = compress(first, options)
    assert result.kept
    assert opened(result.data).getexif()[ExifTags.Base.Copyright] == "COPYRIGHT"
    assert (b"PLACE" in result.data) == (metadata == "keep")
    again = compress(result.data, options)
    assert (again.data, again.kept) == (result.data, True)
    assert compress(result.data, Options(format="keep")).data == compress(first, Options(format="keep")).data


@pytest.mark.parametrize("block", [b"Exif\0\0broken", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(60_000)])
def test_broken_exif_is_not_kept_and_fails_nothing(block: bytes) -> None:
    """What cannot be read cannot be passed on."""
    source = with_segments(encoded(quarters(), "JPEG", quality=92), marker_segment(0xE1, block))
    assert b"Exif" not in compress(source, Options(metadata="keep")).data


WIDE = {
    "Display P3": rgb_profile((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "Adobe RGB": rgb_profile((0.640, 0.330), (0.210, 0.710), (0.150, 0.060)),
    "ProPhoto": rgb_profile((0.735, 0.265), (0.160, 0.840), (0.037, 0.001)),
}


def seen(data: bytes) -> Image.Image:
    """The colours of a file as a viewer that heeds profiles shows them, in Lab."""
    image = opened(data)
    found = image.info.get("icc_profile")
    own = ImageCms.ImageCmsProfile(io.BytesIO(found)) if found else ImageCms.createProfile("sRGB")
    lab = ImageCms.profileToProfile(image.convert("RGB"), own, ImageCms.createProfile("LAB"), outputMode="LAB")
    assert lab is not None
    return lab


@pytest.mark.parametrize("gamut", WIDE)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("form", FORMATS)
def test_wide_gamuts_show_the_same_colours(source: str, gamut: str, form: Any) -> None:
    """What a viewer shows is compared, and taking the same numbers for sRGB would show something else."""
    options = {"quality": 95} if source in {"JPEG", "WEBP", "AVIF"} else {}
    vivid = quarters(colours=((250, 20, 30), (20, 240, 40), (30, 40, 250), (240, 200, 20)))
    data = encoded(vivid, source, icc_profile=WIDE[gamut], **options)
    after = compress(data, Options(format=form, quality=90)).data
    assert all(is_close(a, b, 10) for a, b in zip(corners(seen(after)), corners(seen(data)), strict=True))  # type: ignore[arg-type]
    as_srgb = seen(encoded(vivid, "PNG"))
    assert not all(is_close(a, b, 10) for a, b in zip(corners(as_srgb), corners(seen(data)), strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["webp", "avif"])
def test_gray_with_a_profile_keeps_its_tones_where_there_is_no_gray(form: Any) -> None:
    """A profile of one channel does not fit on three; one that cannot be used is left out."""
    gray = encoded(Image.linear_gradient("L"), "JPEG", quality=92, icc_profile=profile(b"GRAY"))
    image = opened(compress(gray, Options(format=form)).data)
    assert "icc_profile" not in image.info
    assert is_close(image.convert("L").getpixel((128, 128)), (128,), 6)


@pytest.mark.parametrize("form", ["webp", "png", "avif"])
@pytest.mark.parametrize("metadata", ["strip", "copyright"])
def test_compressing_an_output_of_another_format_again_changes_nothing(form: Any, metadata: Any) -> None:
    """A second loss must be worth it, which that of an output never is."""
    for source in (photograph(), photograph(64, 48).convert("RGBA"), quarters().convert("L"), quarters().quantize(4)):
        tag = described()
        options = Options(format=form, metadata=metadata)
        first = compress(encoded(source, "PNG", exif=tag.tobytes()), options)
        second = compress(first.data, options)
        assert second.kept
        assert second.data == first.data
        assert not second.larger_than_source


def test_an_animation_is_never_kept() -> None:
    """Its first frame is what is asked for."""
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, BLUE)]
    for form in ("WEBP", "PNG", "AVIF"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=100)
        result = compress(data, Options(format="keep"))
        assert (result.animated, result.kept, result.format) == (True, False, form.lower())
        assert not getattr(opened(result.data), "is_animated", False)
        assert looks_like(opened(result.data), frames[0])


@pytest.mark.parametrize("form", ["WEBP", "PNG", "AVIF"])
def test_frames_after_the_first_are_not_decoded(form: str) -> None:
    """Two hundred of them, of which the last is broken, cost no more than one."""
    frames = [photograph(64, 48).rotate(angle) for angle in range(0, 100, 2)]
    whole = bytearray(encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=10))
    if form != "PNG":
        whole[-400:-100] = bytes(300)
    result = compress(bytes(whole), Options())
    assert result.animated
    assert looks_like(opened(result.data), frames[0])


def test_an_ultra_hdr_gives_its_primary_image() -> None:
    """A JPEG with a gain map behind it, named in XMP and in an MPF segment: the picture that every viewer shows."""
    gain_map = encoded(Image.linear_gradient("L").resize((48, 32)), "JPEG")
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta hdrgm:Version="1.0">Container:Directory</x:xmpmeta>'
    primary = with_segments(encoded(quarters(), "JPEG", quality=95), marker_segment(0xE1, xmp))
    index = b"MPF\0MM\0*" + struct.pack(">IH", 8, 0)
    result = compress(with_segments(primary, marker_segment(0xE2, index)) + gain_map, Options())
    image = opened(result.data)
    assert (image.format, image.size, result.animated) == ("JPEG", (96, 64), False)
    assert all(is_close(found, wanted) for found, wanted in zip(corners(image), COLOURS, strict=True))
    assert b"hdrgm" not in result.data
    assert b"MPF" not in result.data


@pytest.mark.parametrize("share", [0.001, 0.03, 0.2, 0.5, 0.9])
def test_a_target_of_a_large_picture_is_met_as_well(share: float) -> None:
    """A sample tells where to look, and whole files decide."""
    data = encoded(photograph(1920, 1280), "JPEG", quality=90)
    result = compress(data, Options(target_ratio=share))
    assert result.quality is not None
    assert result.target_missed == (len(result.data) > len(data) * share)
    if not result.target_missed and result.quality < 95:
        assert len(compress(data, Options(quality=result.quality + 1)).data) > len(data) * share
    if result.target_missed:
        assert result.quality == 1
