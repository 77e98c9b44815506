"""Decodes bytes from outside with Pillow. Only ever called in a worker process."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from libs.imaging import containers, png
from libs.imaging.colour import plain
from libs.imaging.exif import orientation
from libs.imaging.jpeg import Jpeg
from libs.imaging.limits import check_size
from libs.imaging.reasons import ImageError
from libs.imaging.sniff import SourceFormat

# Importing a plugin registers it. Image.open would import all there are for a name it does not know yet.
PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

_ANIMATED = frozenset({SourceFormat.GIF, SourceFormat.PNG, SourceFormat.WEBP, SourceFormat.AVIF})

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """Upright pixels, `L` or `RGB`, that carry nothing else; `profile` says how to read the colours (None: sRGB)."""

    image: Image.Image
    profile: bytes | None
    animated: bool = False


def decode_jpeg(structure: Jpeg, clean: bytes, max_pixels: int) -> Picture:
    """Decodes `clean`, a JPEG without metadata, with the facts that `structure` holds of it.

    Raises:
        ImageError: as `decode`.
    """
    with _failures_as_reasons():
        image = _open(clean, SourceFormat.JPEG, max_pixels)
        image.load()
        return _picture(image, structure.profile, structure.orientation)


def decode(data: bytes, source: SourceFormat, max_pixels: int) -> Picture:
    """Decodes the first frame of any other format.

    Raises:
        ImageError: `too_many_pixels` (before decoding), `too_complex`, `truncated`, `corrupt`, `unsupported_format`.
    """
    containers.check_whole(data, source, max_pixels)
    facts = png.parse(data, max_pixels) if source is SourceFormat.PNG else None
    with _failures_as_reasons():
        image = _open(data, source, max_pixels)
        animated = source in _ANIMATED and bool(getattr(image, "is_animated", False))
        if source is SourceFormat.GIF:
            image = _first_gif_frame(image)
        image.load()
        if facts is not None:
            _check_rows(image, facts, data)
            _rescale_transparency(image, facts)
        # A TIFF's own tag has been followed by Pillow already.
        turned = orientation(image.info.get("exif", b""))
        return _picture(image, image.info.get("icc_profile"), turned, animated=animated)


def _open(data: bytes, source: SourceFormat, max_pixels: int) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = max_pixels  # for checks within plugins; beyond twice this they raise, below they only warn
    # One format only, so that nothing reaches a plugin that starts a program (EPS, Ghostscript) whatever it looks like.
    image = Image.open(io.BytesIO(data), formats=[source.value])
    check_size(*image.size, max_pixels)
    return image


def _picture(image: Image.Image, profile: bytes | None, turned: int, *, animated: bool = False) -> Picture:
    pixels, profile = plain(image, profile)
    if turned in _UPRIGHT:
        pixels = pixels.transpose(_UPRIGHT[turned])
    pixels.info = {}  # or a GIF's comment would be written into the JPEG
    return Picture(pixels, profile, animated)


def _first_gif_frame(image: Image.Image) -> Image.Image:
    """The first frame; canvas that it does not cover is transparent, where Pillow takes the palette's first colour."""
    extents = image.tile[0].extents if isinstance(image, GifImagePlugin.GifImageFile) else None
    if "transparency" in image.info or extents is None or extents == (0, 0, *image.size):
        return image
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image.convert("RGB").crop(extents), extents)
    return canvas


def _check_rows(image: Image.Image, facts: png.Png, data: bytes) -> None:
    """Pillow leaves rows black for which a well-formed file has no data; looked into only where that may be."""
    last_row = image.crop((0, facts.height - 1, facts.width, facts.height))
    if (facts.interlaced or last_row.getbbox(alpha_only=False) is None) and not facts.has_all_rows(data):
        raise ImageError("truncated", "rows are missing at the bottom")


def _rescale_transparency(image: Image.Image, facts: png.Png) -> None:
    """A transparent gray or colour is stated in the file's bit depth, which Pillow passes on as it is."""
    value = image.info.get("transparency")
    if image.mode == "L" and isinstance(value, int):
        image.info["transparency"] = facts.transparency_in_8_bits(value)
    elif image.mode == "RGB" and isinstance(value, tuple):
        image.info["transparency"] = tuple(facts.transparency_in_8_bits(part) for part in value)


@contextmanager
def _failures_as_reasons() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what matters is checked here
            yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on broken files
        raise _reason(error) from error


def _reason(error: Exception) -> ImageError:
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, Image.DecompressionBombError):
        return ImageError("too_many_pixels", said)
    if "out of memory" in said.lower():
        return ImageError("too_complex", said)
    if "truncated" in said.lower():
        return ImageError("truncated", said)
    if isinstance(error, UnidentifiedImageError):
        return ImageError("corrupt", "the header cannot be read")
    return ImageError("corrupt", said)
