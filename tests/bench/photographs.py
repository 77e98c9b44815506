"""Pictures for the benchmarks of the codecs, of any size, which cost an encoder what photographs cost it."""

import io
import random
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

_SIDE, _QUALITY = 800, 93
_SCALES = ((4, 10), (16, 25), (64, 40), (256, 60))  # detail of so many pixels, and how strong it is


@cache
def photograph(width: int, height: int) -> Image.Image:
    """Detail at all scales, the coarser the stronger, as in nature; no two of different sizes are alike."""
    rng = np.random.default_rng(width * 65_537 + height)
    whole = np.full((height, width, 3), 128, np.float32)
    for scale, strength in _SCALES:
        detail = rng.normal(0, strength, (height // scale + 2, width // scale + 2, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(detail[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            whole[..., channel] += np.asarray(layer)
    return Image.fromarray(whole.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """`image` as a file of Pillow's format `form`."""
    output = io.BytesIO()
    image.save(output, form, **options)
    return output.getvalue()


def sides(megapixels: float) -> tuple[int, int]:
    """Width and height, 4 to 3, of a picture of so many megapixels."""
    height = round((megapixels * 1_000_000 * 3 / 4) ** 0.5)
    return height * 4 // 3, height


class Crops:
    """Photographs of a shop, 800 by 800 pixels and about 0.16 MB each, cut from one scene: no two are alike."""

    def __init__(self) -> None:
        self._scene = photograph(2400, 1800)
        columns, rows = (length - _SIDE for length in self._scene.size)
        self._places = iter(random.Random(1).sample(range(columns * rows), columns * rows))  # noqa: S311 (no secret)
        self._columns = columns

    def take(self, count: int) -> Iterator[bytes]:
        """The next ones, as JPEG files."""
        for _ in range(count):
            top, left = divmod(next(self._places), self._columns)
            yield encoded(self._scene.crop((left, top, left + _SIDE, top + _SIDE)), "JPEG", quality=_QUALITY)
