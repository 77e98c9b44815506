"""How much a compressed picture differs from its source, for `quality="auto"`.

The measure is the structural dissimilarity of Wang, Bovik, Sheikh and Simoncelli (Image Quality Assessment: From Error
Visibility to Structural Similarity, IEEE Transactions on Image Processing 13(4), 2004): DSSIM = (1 - SSIM) / 2 of the
brightness, averaged over windows of 8x8 pixels every four pixels, as video encoders take it. Windows where the source
is of one brightness are left out, or else the white around a product would make up for what the product loses.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Luma = NDArray[np.float32]

BOUND: Final = 0.01
"""The most that an output of `quality="auto"` may differ: SSIM 0.98.

People call a picture good (a mean opinion score of 4 of 5) from 0.95 and excellent from 0.99, by the mapping of Zinner,
Hohlfeld, Abboud and Hossfeld, Impact of Frame Rate and Resolution on Objective QoE Metrics, QoMEX 2010. At 0.95 this
measure gives qualities from 18 to 30, where blocks show in skies; at 0.98 from 36 for soft pictures to 85 for a small
product on white.
"""

_TILE, _TILES = 256, 16  # a megapixel; tiles begin on the 16-pixel grid of JPEG's blocks, as in the whole picture
_STEP = 4
_RANGE = 255.0
_C1, _C2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2  # the paper's constants
_PLAIN_VARIANCE = 1.0  # a deviation of one step of brightness


def sample(image: Image.Image) -> Image.Image:
    """A megapixel at most of `image`: tiles from all over it, side by side. A smaller picture is taken whole."""
    width, height = image.size
    if width * height <= _TILES * _TILE * _TILE or min(width, height) < _TILE:
        return image
    across = min(max(1, round((_TILES * width / height) ** 0.5)), width // _TILE, _TILES)
    down = min(_TILES // across, height // _TILE)
    tiles = Image.new(image.mode, (across * _TILE, down * _TILE))
    for row in range(down):
        for column in range(across):
            left = _place(column, across, width)
            top = _place(row, down, height)
            tiles.paste(image.crop((left, top, left + _TILE, top + _TILE)), (column * _TILE, row * _TILE))
    return tiles


def luma(image: Image.Image) -> Luma:
    """The brightness of a picture."""
    return np.asarray(image.convert("L"), np.float32)


def dissimilarity(one: Luma, other: Luma) -> float:
    """DSSIM of another picture from `one`, which has the same size: 0 where they are equal, 1 at the most."""
    if min(one.shape) < 2 * _STEP:  # smaller than a window: repeated until there is one
        again = tuple(-(-2 * _STEP // side) for side in one.shape)
        one, other = np.tile(one, again), np.tile(other, again)
    mean_one, mean_other = _means(one), _means(other)
    square_one, square_other, product = mean_one * mean_one, mean_other * mean_other, mean_one * mean_other
    variance_one = _means(one * one) - square_one
    variance_other = _means(other * other) - square_other
    covariance = _means(one * other) - product
    similarity = ((2 * product + _C1) * (2 * covariance + _C2)) / (
        (square_one + square_other + _C1) * (variance_one + variance_other + _C2)
    )
    structured = similarity[variance_one > _PLAIN_VARIANCE]
    return float((1 - (structured if structured.size else similarity).mean(dtype=np.float64)) / 2)


def _place(index: int, count: int, side: int) -> int:
    return (side - _TILE) * index // max(1, count - 1) // 16 * 16 if count > 1 else (side - _TILE) // 32 * 16


def _means(values: Luma) -> Luma:
    """Means over windows of two steps, at every step; what is left over at the right and below is not looked at."""
    down, across = values.shape[0] // _STEP, values.shape[1] // _STEP
    blocks = values[: down * _STEP, : across * _STEP].reshape(down, _STEP, across, _STEP).sum(axis=(1, 3))
    windows: Luma = (blocks[:-1, :-1] + blocks[:-1, 1:] + blocks[1:, :-1] + blocks[1:, 1:]) / (4 * _STEP * _STEP)
    return windows
