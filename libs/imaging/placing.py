"""Resizes and turns pixels."""

from typing import Final

from PIL import Image

from libs.imaging.geometry import GAP, Size

_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """A picture of an EXIF orientation (1 to 8) as it is to be looked at."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def resized(image: Image.Image, size: Size) -> Image.Image:
    """`image` in another size; transparent pixels lend no colour to their neighbours (Pillow premultiplies)."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=GAP)
