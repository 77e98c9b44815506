"""Decoded pixels on their way to an encoder."""

from dataclasses import dataclass

from PIL import Image

from libs.imaging.turbo import Samples


@dataclass(frozen=True, slots=True)
class Picture:
    """Upright pixels in their final size, and what goes into the file beside them.

    `pixels` are samples (gray or RGB), or an image of Pillow's: `L`, `RGB`, `LA`, `RGBA`, and where the output is PNG
    also `1` and `P`. `profile` says how to read the colours (None: sRGB), `exif` is what was to be kept.
    """

    pixels: Samples | Image.Image
    profile: bytes | None = None
    exif: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels.size
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def area(self) -> int:
        """Width times height."""
        return self.size[0] * self.size[1]

    def image(self) -> Image.Image:
        """The pixels as an image of Pillow's."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels
        return as_image(self.pixels)


def as_image(samples: Samples) -> Image.Image:
    """Gray or RGB samples of the fast lane as Pillow has them."""
    mode, raw = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("RGB", "RGBX")}[samples.shape[2]]
    return _unpacked(samples, mode, raw)


def as_inks(samples: Samples) -> Image.Image:
    """Samples of a JPEG of four colours as Pillow has them; it stores CMYK the other way round than the files do."""
    return _unpacked(samples, "CMYK", "CMYK;I")


def _unpacked(samples: Samples, mode: str, raw: str) -> Image.Image:
    return Image.frombytes(mode, (samples.shape[1], samples.shape[0]), samples, "raw", raw, 0, 1)
