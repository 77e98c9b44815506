"""How large a picture becomes and which way it is turned."""

from typing import Final

from PIL import Image

from libs.imaging.options import Options

Size = tuple[int, int]

UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of each EXIF orientation upright; 1 is upright."""

_FIRST_ON_ITS_SIDE = 5

# How much larger than asked a picture may come from the decoder's own scaling, for a good filter to work on: the gap
# that Pillow's documentation calls close to fair resampling (Image.thumbnail, reducing_gap).
_GAP = 2


def turned(size: Size, orientation: int) -> Size:
    """Width and height after a picture of `size` was brought upright, or before."""
    return (size[1], size[0]) if orientation >= _FIRST_ON_ITS_SIDE else size


def fitted(size: Size, options: Options) -> Size:
    """The size of the output of an upright picture: as large as fits, in proportion, and never larger than it is."""
    width, height = size
    share = min(1.0, (options.max_width or width) / width, (options.max_height or height) / height)
    return max(1, round(width * share)), max(1, round(height * share))


def least(size: Size) -> Size:
    """What a decoder should leave of a picture that becomes as small as `size`."""
    return size[0] * _GAP, size[1] * _GAP


def resized(image: Image.Image, size: Size) -> Image.Image:
    """`image` in another size; transparent pixels lend no colour to their neighbours (Pillow premultiplies)."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_GAP)
