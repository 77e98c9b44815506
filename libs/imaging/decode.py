"""Decodes bytes from outside. Only ever called in a worker process."""

import io
import struct
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

from libs.imaging import containers, exif, geometry, header, icc, placing, png, webp
from libs.imaging.colour import plain
from libs.imaging.encoding import TRANSPARENT, Form
from libs.imaging.limits import check_output, check_size
from libs.imaging.options import Options
from libs.imaging.picture import Picture
from libs.imaging.reasons import ImageError
from libs.imaging.rows import StillPng
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

# A worker is meant to take one core; by itself the decoder starts a thread for each.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_ANIMATED = frozenset({SourceFormat.GIF, SourceFormat.WEBP, SourceFormat.AVIF})


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture as it is to be written, and what its source was.

    `clean` is the source without the metadata that are not wanted, where that shows the very same picture: nothing was
    turned, resized or converted. `size` is what the source's header says.
    """

    picture: Picture
    source: SourceFormat
    size: tuple[int, int]
    clean: bytes | None = None
    animated: bool = False


def decode(data: bytes, source: SourceFormat, form: Form, options: Options) -> Decoded:
    """Decodes the first frame of a file that is no JPEG, by Pillow.

    Raises:
        ImageError: `too_many_pixels` (before decoding), `too_complex`, `truncated`, `corrupt`, `unsupported_format`.
    """
    containers.check_whole(data, source, options.max_pixels)
    facts = png.parse(data, options.max_pixels) if source is SourceFormat.PNG else None
    with failures_as_reasons():
        if facts is not None:
            image: Image.Image = StillPng(data, facts)
        else:
            readable = webp.readable(data) if source is SourceFormat.WEBP else data
            image = opened(readable, source, options.max_pixels)
        stored = image.size
        animated = facts.animated if facts else source in _ANIMATED and _is_animated(image)
        if source is SourceFormat.GIF:
            image = _first_gif_frame(image, transparent=form in TRANSPARENT)
        # A TIFF's own tag is followed by Pillow while it loads, and turns its size too.
        turned = 1 if source is SourceFormat.TIFF else exif.orientation(image.info.get("exif", b""))
        size = geometry.fitted(geometry.turned(stored, turned), options)
        check_output(*size, form)
        image.load()
        if facts is not None:
            _rescale_transparency(image, facts)
            turned = exif.orientation(image.info.get("exif", b""))  # it may stand behind the pixels
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            size = geometry.fitted(image.size, options)
            image = _black_is_zero(image)
        found = image.getexif() if source is SourceFormat.TIFF else image.info.get("exif", b"")
        kept = exif.kept(found, options.metadata)
        untouched = turned == 1 and size == image.size and not animated
        clean = _clean(data, source, image, kept) if untouched else None
        profile = image.info.get("icc_profile")
        picture = finished(image, profile, kept, turned, size=size, form=form, options=options)
        return Decoded(picture, source, stored, clean, animated)


def opened(data: bytes, source: SourceFormat, max_pixels: int) -> Image.Image:
    """The file's header, read by Pillow. Raises what Pillow raises; `too_many_pixels` and `corrupt` by its size."""
    Image.MAX_IMAGE_PIXELS = max_pixels  # for checks within plugins; beyond twice this they raise, below they only warn
    # One format only, so that nothing reaches a plugin that starts a program (EPS, Ghostscript) whatever it looks like.
    try:
        image = Image.open(io.BytesIO(data), formats=[source.value])
    except UnidentifiedImageError as error:
        known = header.read(data)
        if source is not SourceFormat.TIFF or known is None or not known.pixels:
            raise
        raise ImageError("unsupported_format", "pixels of a kind that is not supported") from error
    check_size(*image.size, max_pixels)
    return image


def finished(
    image: Image.Image,
    profile: bytes | None,
    kept: bytes,
    turned: int,
    *,
    size: geometry.Size,
    form: Form,
    options: Options,
) -> Picture:
    """Loaded pixels in the colours, the size and the position in which they are written."""
    transparency = image.info.get("transparency")
    if form == "png" and _is_lean(image) and turned == 1 and image.size == size:
        image.info = {} if transparency is None else {"transparency": transparency}
        return Picture(image, icc.usable(profile, icc.RGB if image.mode == "P" else icc.GRAY), kept)
    pixels, profile = plain(image, profile, None if form in TRANSPARENT else options.ground)
    pixels = placing.upright(placing.resized(pixels, geometry.turned(size, turned)), turned)
    pixels.info = {}  # or a GIF's comment would be written into the output
    return Picture(pixels, profile, kept)


def _is_lean(image: Image.Image) -> bool:
    """Whether it has one bit a pixel or a palette for all pixels: what is beyond one is black, but not when written."""
    if image.mode != "P":
        return image.mode == "1"
    highest = image.getextrema()[1]
    return isinstance(highest, int) and 3 * highest < len(image.getpalette() or ())


def _is_animated(image: Image.Image) -> bool:
    """Whether something comes after the first frame; what is wrong with it is no concern of the first."""
    try:
        return bool(getattr(image, "is_animated", False))
    except (struct.error, SyntaxError, OSError, ValueError, IndexError):
        return True


def _clean(data: bytes, source: SourceFormat, image: Image.Image, kept: bytes) -> bytes | None:
    """The file without metadata, for the formats that are written too."""
    profile = icc.usable(image.info.get("icc_profile"), icc.GRAY if image.mode in {"1", "L", "LA"} else icc.RGB)
    if source is SourceFormat.PNG:
        return png.cleaned(data, kept, with_profile=profile is not None)
    if source is SourceFormat.WEBP:
        return webp.cleaned(data, kept, with_profile=profile is not None)
    # An AVIF's metadata cannot be taken out without moving its pixels.
    found = image.info.get("exif", b"").removeprefix(exif.HEAD)
    as_wanted = found == kept.removeprefix(exif.HEAD) and "xmp" not in image.info
    return data if source is SourceFormat.AVIF and as_wanted else None


def _first_gif_frame(image: Image.Image, *, transparent: bool) -> Image.Image:
    """The first frame; canvas that it does not cover is transparent, where Pillow takes the palette's first colour."""
    extents = image.tile[0].extents if isinstance(image, GifImagePlugin.GifImageFile) else None
    if "transparency" in image.info or extents is None or extents == (0, 0, *image.size):
        return image
    canvas = Image.new("RGBA", image.size, (255, 255, 255, 0)) if transparent else Image.new("RGB", image.size, "white")
    canvas.paste(image.convert("RGB").crop(extents), extents)
    return canvas


def _black_is_zero(image: TiffImagePlugin.TiffImageFile) -> Image.Image:
    """Gray the right way round (TIFF 6.0, photometric interpretation 0): of 16 bits Pillow takes it as it comes."""
    if image.mode != "I;16" or image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) != 0:
        return image
    return image.point(lambda sample: sample * -1 + 65_535)


def _rescale_transparency(image: Image.Image, facts: png.Png) -> None:
    """A transparent gray or colour is stated in the file's bit depth, which Pillow passes on as it is."""
    value = image.info.get("transparency")
    if image.mode == "L" and isinstance(value, int):
        image.info["transparency"] = facts.transparency_in_8_bits(value)
    elif image.mode == "RGB" and isinstance(value, tuple):
        image.info["transparency"] = tuple(facts.transparency_in_8_bits(part) for part in value)


@contextmanager
def failures_as_reasons() -> Iterator[None]:
    """Whatever Pillow raises on a broken file, as an ImageError; memory errors as they are."""
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
