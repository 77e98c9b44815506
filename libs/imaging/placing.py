"""Resizes and turns pixels."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from libs.imaging.geometry import GAP, Size, is_on_its_side
from libs.imaging.turbo import Samples

_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The same as steps over rows and columns, before the two change places where the picture lies on its side.
_STEPS: Final = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1)}

# Rows and columns of a part that is transposed within the processor's nearest cache.
_PART: Final = (64, 128)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """A picture of an EXIF orientation (1 to 8) as it is to be looked at."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def resized(image: Image.Image, size: Size) -> Image.Image:
    """`image` in another size; transparent pixels lend no colour to their neighbours (Pillow premultiplies)."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=GAP)


def upright_samples(samples: Samples, orientation: int) -> Samples:
    """As `upright`, for pixels of one sample or of four: a turn by 90 degrees in half the time."""
    if orientation not in _STEPS:
        return samples
    rows, columns = _STEPS[orientation]
    pixels = samples.view(np.uint32 if samples.shape[2] == 4 else np.uint8)[::rows, ::columns, 0]
    moved = _transposed(pixels) if is_on_its_side(orientation) else np.ascontiguousarray(pixels)
    return moved.view(np.uint8).reshape(*moved.shape, samples.shape[2])


def _transposed(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Rows as columns, part by part: column by column, each pixel would come from far away in memory."""
    across = pixels.T
    made = np.empty(across.shape, across.dtype)
    height, width = _PART
    for top in range(0, made.shape[0], height):
        for left in range(0, made.shape[1], width):
            part = slice(top, top + height), slice(left, left + width)
            made[part] = across[part]
    return made
