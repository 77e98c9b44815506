"""Whole files of every format, in the shapes in which they come."""

import base64
import io
from collections.abc import Iterator

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.unit.pictures import (
    ARITHMETIC,
    encoded,
    exif,
    marker_segment,
    oriented,
    photograph,
    profile,
    quarters,
    rgb_profile,
    tiff,
    webp_animation,
    with_segments,
)

LARGE = (4000, 3000)


def seeds() -> dict[str, bytes]:
    """Small files by name, and of each format one of twelve megapixels in one colour."""
    return {f"{form} {number}": data for form, files in _small() for number, data in enumerate(files)} | dict(_large())


def _small() -> Iterator[tuple[str, list[bytes]]]:
    image, gray = photograph(96, 72), photograph(96, 72).convert("L")
    clear = image.convert("RGBA")
    clear.putalpha(gray)
    palette = quarters().quantize(4)
    wide = rgb_profile((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
    tag = oriented(6)
    frames = {"save_all": True, "append_images": [image.rotate(20), image.rotate(40)], "duration": 50}
    deep = Image.frombytes("I;16", (48, 36), photograph(96, 72).convert("L").tobytes()[: 48 * 36 * 2])
    yield (
        "jpeg",
        [
            encoded(image, "JPEG", quality=85),
            encoded(image, "JPEG", quality=30, optimize=True, icc_profile=wide),
            encoded(image, "JPEG", quality=85, progressive=True, subsampling=0, exif=tag),
            encoded(image, "JPEG", quality=85, restart_marker_blocks=4, comment=b"comment"),
            encoded(image, "JPEG", quality=75, keep_rgb=True),
            encoded(image.convert("CMYK"), "JPEG", quality=85, icc_profile=profile(b"CMYK")),
            encoded(gray, "JPEG", quality=85, icc_profile=profile(b"GRAY")),
            encoded(image, "MPO", save_all=True, append_images=[gray.convert("RGB")]),
            with_segments(
                encoded(image, "JPEG"), marker_segment(0xE1, exif(0x8298, 2, b"me\0")), marker_segment(0xE2, b"MPF\0")
            ),
            ARITHMETIC,
        ],
    )
    yield (
        "png",
        [
            encoded(image, "PNG", icc_profile=wide, exif=tag),
            encoded(clear, "PNG"),
            encoded(gray, "PNG", transparency=7),
            encoded(gray.convert("LA"), "PNG"),
            encoded(palette, "PNG", transparency=bytes((0, 128, 255, 255))),
            encoded(gray.convert("1"), "PNG"),
            encoded(deep, "PNG"),
            encoded(image, "PNG", **frames),
            encoded(palette, "PNG", pnginfo=_described(), dpi=(300, 300)),
        ],
    )
    yield (
        "webp",
        [
            encoded(image, "WEBP", quality=70, icc_profile=wide, exif=tag),
            encoded(clear, "WEBP", quality=70),
            encoded(clear, "WEBP", lossless=True),
            encoded(image, "WEBP", **frames),
            webp_animation((96, 72), (0, 0, image)),
            webp_animation((96, 72), (8, 8, clear.crop((0, 0, 64, 48))), (0, 0, clear)),
        ],
    )
    yield "gif", [encoded(palette, "GIF", transparency=1), encoded(image.quantize(64), "GIF", **frames)]
    yield "bmp", [encoded(form, "BMP") for form in (image, gray, gray.convert("1"), clear)]
    yield (
        "tiff",
        [
            encoded(image, "TIFF", exif=tag, icc_profile=wide),
            *(
                encoded(image, "TIFF", compression=kind)
                for kind in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
            ),
            encoded(gray.convert("1"), "TIFF", compression="group4"),
            encoded(image.convert("CMYK"), "TIFF"),
            encoded(image.convert("LAB"), "TIFF"),
            encoded(gray.convert("F"), "TIFF"),
            encoded(deep, "TIFF"),
            encoded(clear, "TIFF"),
            _strips(gray),
        ],
    )
    yield (
        "avif",
        [
            encoded(image, "AVIF", quality=60, exif=tag, icc_profile=wide),
            encoded(clear, "AVIF", quality=60, subsampling="4:4:4"),
            encoded(image, "AVIF", **frames),
        ],
    )
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    yield (
        "other",
        [
            svg,
            b"%PDF-1.7\n",
            b"<!doctype html><p>Not found",
            base64.b64decode("UEsDBAoAAAAAAA=="),
            io.DEFAULT_BUFFER_SIZE * b"\0",
        ],
    )


def _described() -> PngInfo:
    """Texts of every kind, of which one has a name that Pillow uses itself."""
    told = PngInfo()
    told.add_text("Comment", "plain")
    told.add_text("transparency", "packed", zip=True)
    told.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>", zip=True)
    return told


def _strips(gray: Image.Image) -> bytes:
    """A TIFF of several strips in which white is zero."""
    pixels, rows = gray.tobytes(), 8
    size = gray.width * rows
    tags: dict[int, tuple[int, ...]] = {
        256: (gray.width,),
        257: (gray.height,),
        258: (8,),
        259: (1,),
        262: (0,),
        277: (1,),
        278: (rows,),
    }
    return tiff(tags, [pixels[start : start + size] for start in range(0, len(pixels), size)])


def _large() -> Iterator[tuple[str, bytes]]:
    plain = Image.new("RGB", LARGE, (200, 90, 30))
    variants: dict[str, dict[str, object]] = {
        "JPEG": {"progressive": True, "subsampling": 0},
        "PNG": {"compress_level": 9},
        "WEBP": {"method": 0},
        "GIF": {},
        "TIFF": {"compression": "tiff_adobe_deflate"},
        "AVIF": {"speed": 10},
    }
    for form, options in variants.items():
        yield f"{form.lower()} large", encoded(plain, form, **options)
    yield "png large RGBA", encoded(Image.new("RGBA", LARGE, (200, 90, 30, 90)), "PNG")
    yield "webp large lossless", encoded(Image.new("RGBA", LARGE, (200, 90, 30, 90)), "WEBP", lossless=True, method=0)
    yield "tiff large float", encoded(Image.new("F", LARGE, 0.5), "TIFF", compression="tiff_adobe_deflate")
    yield "jpeg large CMYK", encoded(Image.new("CMYK", LARGE, (9, 90, 30, 9)), "JPEG", exif=oriented(6))
