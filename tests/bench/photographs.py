"""Pictures for the benchmarks of the codecs, of any size, which cost an encoder what photographs cost it."""

import io
from functools import cache

import numpy as np
from PIL import Image

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
