"""Brings every kind of pixel that Pillow decodes to what a JPEG shows everywhere: gray or RGB, 8 bits, opaque."""

import io
from typing import cast

from PIL import Image, ImageCms, ImageMath

from libs.imaging import icc
from libs.imaging.reasons import ImageError

_SIXTEEN_BITS = 1 / 257  # 65,535 becomes 255
_WHITE = 255
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def plain(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """`image` as `L` or `RGB` on white, and the profile that its colours are to be read by (None: sRGB).

    Raises:
        ImageError: `unsupported_format` for pixels that are no ordinary colours.
    """
    if image.mode == "CMYK":
        return _from_cmyk(image, profile), None
    opaque = _opaque(image)
    return opaque, icc.usable(profile, icc.GRAY if opaque.mode == "L" else icc.RGB)


def _opaque(image: Image.Image) -> Image.Image:
    has_transparency = "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info
    match image.mode:
        case "I" | "F" | "I;16" | "I;16L" | "I;16B" | "I;16N":
            return _from_deep_gray(image)
        case "1" | "L" | "LA" | "La":
            gray = image.convert("L") if image.mode == "1" else image
            return _on_white(gray.convert("LA")) if has_transparency else gray
        case "P" | "PA" | "RGB" | "RGBA" | "RGBa" | "RGBX" | "YCbCr":
            return _on_white(image.convert("RGBA")) if has_transparency else image.convert("RGB")
    raise ImageError("unsupported_format", f"pixels of kind {image.mode} are not supported")


def _on_white(image: Image.Image) -> Image.Image:
    """Blends `LA` or `RGBA` with white by its alpha, so that what lies under transparent pixels leaves no halo."""
    alpha = image.getchannel("A")
    if image.mode == "LA":
        ground = Image.new("L", image.size, _WHITE)
        ground.paste(image.getchannel("L"), mask=alpha)
    else:
        ground = Image.new("RGB", image.size, (_WHITE,) * 3)
        ground.paste(image, mask=alpha)
    return ground


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
        mask = ImageMath.lambda_eval(lambda bands: (bands["wide"] == transparent) * 255, wide=wide.convert("I"))
        gray.paste(_WHITE, mask=mask.convert("L"))
    return gray


def _from_cmyk(image: Image.Image, profile: bytes | None) -> Image.Image:
    """CMYK as sRGB: by its profile, with white paper as white, or else by the plain formula that browsers use."""
    usable = icc.usable(profile, icc.CMYK)
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
