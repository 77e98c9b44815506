"""Writes a picture in one of the output formats."""

import io
from typing import Final, Literal

import numpy as np
from PIL import AvifImagePlugin, Image

from libs.imaging import packing, splice, turbo
from libs.imaging.colour import coloured
from libs.imaging.limits import check_output
from libs.imaging.picture import Picture

Form = Literal["jpeg", "png", "webp", "avif"]

EXTENSIONS: Final[dict[Form, str]] = {"jpeg": "jpg", "png": "png", "webp": "webp", "avif": "avif"}
LOSSLESS: Final = frozenset({"png"})
"""Formats that know no quality."""
TRANSPARENT: Final = frozenset({"png", "webp", "avif"})
"""Formats that can leave transparent what is."""

# Of libaom, which Pillow's wheels bring: blocks are split into squares only. Measured on photographs, soft and sharp,
# and a product with text, at qualities from 40 to 92: at 50 from 1.09 to 1.13 times as fast, a hundredth more bytes at
# the most, and the same dissimilarity (`libs.imaging.likeness`) within a hundredth of it. A notch of `speed` instead
# takes a tenth more bytes.
_AOM: Final = {"enable-rect-partitions": "0"}
_AVIF: Final = {"advanced": _AOM if AvifImagePlugin.get_codec_version("aom") else None}


def encode(picture: Picture, form: Form, quality: int) -> bytes:
    """The file; `quality` is passed over where `form` is lossless.

    Raises:
        ImageError: `too_many_pixels`, the format cannot hold a picture of that size.
    """
    check_output(*picture.size, form)
    if form == "jpeg":
        return splice.spliced(_jpeg(picture, quality), picture.profile, picture.exif)
    image, profile = picture.image(), picture.profile
    if form == "png":
        strategy = packing.strategy(image)
        return _saved(image, "PNG", icc_profile=profile, exif=picture.exif, compress_type=strategy)
    image, profile = coloured(image, profile)
    if form == "webp":
        return _saved(image, "WEBP", quality=quality, icc_profile=profile, exif=picture.exif)
    # One thread: a worker is meant to take one core, and there are as many as there are cores.
    return _saved(image, "AVIF", quality=quality, icc_profile=profile, exif=picture.exif, max_threads=1, **_AVIF)


def _jpeg(picture: Picture, quality: int) -> bytes:
    if isinstance(picture.pixels, np.ndarray):
        return turbo.encode(picture.pixels, quality)
    return _saved(picture.image(), "JPEG", quality=quality)


def _saved(image: Image.Image, form: str, **parameters: object) -> bytes:
    output = io.BytesIO()
    image.save(output, form, **{name: value for name, value in parameters.items() if value})
    return output.getvalue()
