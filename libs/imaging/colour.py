"""Brings every kind of pixel that Pillow decodes to what is shown everywhere: gray or RGB, 8 bits."""

import io
from typing import cast

from PIL import Image, ImageCms, ImageMath

from libs.imaging import icc
from libs.imaging.reasons import ImageError

Ground = tuple[int, int, int]

_SIXTEEN_BITS = 1 / 257  # 65,535 becomes 255
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_GRAYS = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_COLOURS = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"})


def plain(image: Image.Image, profile: bytes | None, ground: Ground | None) -> tuple[Image.Image, bytes | None]:
    """`image` as `L` or `RGB` on `ground`, and the profile that its colours are to be read by (None: sRGB).

    Without a `ground`, what is transparent stays so, as `LA` or `RGBA`.

    Raises:
        ImageError: `unsupported_format` for pixels that are no ordinary colours.
    """
    if image.mode == "CMYK":
        return _converted(image, profile, icc.CMYK), None
    if image.mode not in _GRAYS | _COLOURS:
        raise ImageError("unsupported_format", f"pixels of kind {image.mode} are not supported")
    pixels = _bytes(image)
    if ground is not None and "A" in pixels.getbands():
        pixels = _on(pixels, ground)
    return pixels, icc.usable(profile, icc.GRAY if pixels.mode in {"L", "LA"} else icc.RGB)


def coloured(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Gray as `RGB` or `RGBA`, for formats that have no gray; its tones as its profile says, which is used up."""
    if image.mode not in {"L", "LA"}:
        return image, profile
    colours = _converted(image.getchannel("L"), profile, icc.GRAY)
    if image.mode == "LA":
        colours.putalpha(image.getchannel("A"))
    return colours, None


def _bytes(image: Image.Image) -> Image.Image:
    """`image` with 8 bits for each of its channels, of which alpha is one where anything may be transparent."""
    has_transparency = "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info
    if image.mode in {"1", "L", "LA", "La"}:
        gray = image.convert("L") if image.mode == "1" else image
        wanted = "LA" if has_transparency else "L"
        return gray if gray.mode == wanted else gray.convert(wanted)
    if image.mode in _GRAYS:
        return _from_deep_gray(image)
    wanted = "RGBA" if has_transparency else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _on(image: Image.Image, ground: Ground) -> Image.Image:
    """Blends `LA` or `RGBA` with `ground` by its alpha, so that what lies under transparent pixels leaves no halo."""
    gray = image.mode == "LA" and len(set(ground)) == 1
    colours = image if gray or image.mode == "RGBA" else image.convert("RGBA")
    blended = Image.new("L", image.size, ground[0]) if gray else Image.new("RGB", image.size, ground)
    blended.paste(colours.getchannel("L") if gray else colours, mask=colours.getchannel("A"))
    return blended


def _from_deep_gray(image: Image.Image) -> Image.Image:
    """Scales 16 bits to 8, where `convert` alone would clip to white.

    Samples that do not fit into 16 bits have no scale that is common to all files; they are stretched to what occurs.
    """
    wide = image if image.mode in {"I;16", "F"} else image.convert("I")
    lowest, highest = cast("tuple[float, float]", wide.getextrema())  # a pair of pairs only where there are more bands
    scale, offset = _SIXTEEN_BITS, 0.5  # half, since the conversion cuts decimals off
    if wide.mode == "F" or lowest < 0 or highest > 65_535:
        scale = 255 / (highest - lowest) if highest > lowest else 0.0
        offset = 0.5 - lowest * scale
    gray = wide.point(lambda sample: sample * scale + offset).convert("L")
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = ImageMath.lambda_eval(lambda bands: (bands["wide"] != transparent) * 255, wide=wide.convert("I"))
        gray.putalpha(alpha.convert("L"))
    return gray


def _converted(image: Image.Image, profile: bytes | None, space: bytes) -> Image.Image:
    """`image` as sRGB: by its profile, with white paper as white, or else by the plain formula that browsers use."""
    usable = icc.usable(profile, space)
    if usable is None:
        return image.convert("RGB")
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(usable)),
            _SRGB,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError):  # a profile that promises a table and has none: as good as no profile
        return image.convert("RGB")
    if converted is None:
        raise TypeError("profileToProfile answers None only when it works in place")
    return converted
