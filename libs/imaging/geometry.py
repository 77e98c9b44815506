"""How large a picture becomes."""

from libs.imaging.options import Options

Size = tuple[int, int]

_FIRST_ON_ITS_SIDE = 5

# How much larger than asked a picture may come from the decoder's own scaling, for a good filter to work on: the gap
# that Pillow's documentation calls close to fair resampling (Image.thumbnail, reducing_gap).
GAP = 2


def is_on_its_side(orientation: int) -> bool:
    """Whether the rows of a picture of this EXIF orientation become columns."""
    return orientation >= _FIRST_ON_ITS_SIDE


def turned(size: Size, orientation: int) -> Size:
    """Width and height after a picture of `size` was brought upright, or before."""
    return (size[1], size[0]) if is_on_its_side(orientation) else size


def fitted(size: Size, options: Options) -> Size:
    """The size of the output of an upright picture: as large as fits, in proportion, and never larger than it is."""
    width, height = size
    share = min(1.0, (options.max_width or width) / width, (options.max_height or height) / height)
    return max(1, round(width * share)), max(1, round(height * share))


def least(size: Size) -> Size:
    """What a decoder should leave of a picture that becomes as small as `size`."""
    return size[0] * GAP, size[1] * GAP
