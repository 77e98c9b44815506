"""What may be asked of a compression."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Self

QUALITIES: Final = (1, 95)  # beyond 95 libjpeg's files grow by much and look the same
FORMATS: Final = ("jpeg", "keep", "webp", "avif", "png")
METADATA: Final = ("strip", "copyright", "keep")

# A WebP or AVIF quality is not libjpeg's, but all three run from worst to best in the same range.
_COLOUR = re.compile(r"#[0-9a-f]{6}", re.ASCII)
_LARGEST_SIDE = 65_500
_LIMITS = frozenset({"max_pixels"})


class OptionError(ValueError):
    """An option has a value that is not accepted; `field` is its name, the message says what is."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.field, str(self).removeprefix(f"{self.field} "))


@dataclass(frozen=True, slots=True)
class Options:
    """How to compress one image.

    How much: `quality`, on libjpeg's scale from 1 to 95, or `"auto"`, the lowest at which the picture still looks like
    its source (`libs.imaging.likeness` has the measure and its bound). Or else a size: `target_ratio` of the source's
    bytes, more than 0 and less than 1, or `max_bytes`; the highest quality that reaches it is taken, or the lowest
    there is where none does. PNG output is lossless and knows no quality.

    What: `format`, where `"keep"` is the source's own, or PNG for those that are not written (GIF, BMP, TIFF);
    `max_width` and `max_height` in pixels, into which the upright picture is made to fit, never enlarged;
    `background`, `#rrggbb`, for what is transparent where the output is JPEG (the other formats stay transparent);
    `metadata`, of which EXIF is what can be kept: `"strip"` none, `"copyright"` the artist and the copyright, `"keep"`
    what describes the picture, GPS included, but never the orientation (the pixels are upright) or a thumbnail.

    `max_pixels` is the largest source, width times height: a limit of the service and no part of the document.

    Raises:
        OptionError: a ValueError that names the field and says what is accepted.
    """

    quality: int | Literal["auto"] = 50
    max_pixels: int = 50_000_000
    target_ratio: float | None = None
    max_bytes: int | None = None
    format: Literal["jpeg", "keep", "webp", "avif", "png"] = "jpeg"
    max_width: int | None = None
    max_height: int | None = None
    background: str = "#ffffff"
    metadata: Literal["strip", "copyright", "keep"] = "strip"

    def __post_init__(self) -> None:
        if self.quality != "auto":
            _check_whole("quality", self.quality, *QUALITIES, also=", or auto")
        _check_whole("max_pixels", self.max_pixels, 1, None)
        if self.target_ratio is not None and not (_is_number(self.target_ratio) and 0 < self.target_ratio < 1):
            raise OptionError("target_ratio", f"must be more than 0 and less than 1, not {self.target_ratio!r}")
        if self.max_bytes is not None:
            _check_whole("max_bytes", self.max_bytes, 1, None)
        for side in ("max_width", "max_height"):
            if (value := getattr(self, side)) is not None:
                _check_whole(side, value, 1, _LARGEST_SIDE)
        _check_choice("format", self.format, FORMATS)
        _check_choice("metadata", self.metadata, METADATA)
        if not _COLOUR.fullmatch(str(self.background).lower()):
            raise OptionError("background", f"must be a colour like #ffffff, not {self.background!r}")
        self._check_one_measure()

    def _check_one_measure(self) -> None:
        """Quality 50 is the default and may stand beside a size; `from_document` tells whether it was asked for."""
        asked = [name for name in ("target_ratio", "max_bytes") if getattr(self, name) is not None]
        if len(asked) == 2 or (asked and self.quality != 50):
            other = "max_bytes" if len(asked) == 2 else "quality"
            raise OptionError(asked[0], f"cannot be combined with {other}")
        if asked and self.format == "png":
            raise OptionError(asked[0], "cannot be reached by PNG, which loses nothing")

    @property
    def ground(self) -> tuple[int, int, int]:
        """`background` as red, green and blue."""
        red, green, blue = bytes.fromhex(self.background[1:])
        return red, green, blue

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of what a request may ask for."""
        return tuple(field.name for field in fields(cls) if field.name not in _LIMITS)

    def to_document(self) -> dict[str, Any]:
        """A flat dictionary of JSON values, the same for options that mean the same; nothing stands for None."""
        values = {name: getattr(self, name) for name in self.names()}
        values["background"] = self.background.lower()
        if self.target_ratio is not None or self.max_bytes is not None:
            del values["quality"]
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, max_pixels: int = 50_000_000) -> Self:
        """Options from a dictionary as `to_document` gives it, or from a form, where every value is a string.

        What is missing, None or empty has its default.

        Raises:
            OptionError: a name that no option has, or a value that is not accepted.
        """
        given = {name: value for name, value in document.items() if value not in (None, "")}
        for name in given:
            if name not in cls.names():
                raise OptionError(name, f"is not an option; there are {', '.join(cls.names())}")
        if "quality" in given and (measure := next((n for n in ("target_ratio", "max_bytes") if n in given), None)):
            raise OptionError(measure, "cannot be combined with quality")
        return cls(max_pixels=max_pixels, **{name: _parsed(name, value) for name, value in given.items()})


def _parsed(name: str, value: object) -> Any:
    """A value as its field has it, where it is a string that can be read so; else as it is, to be refused by name."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if name == "target_ratio":
        try:
            return float(text)
        except ValueError:
            return value
    if name in {"quality", "max_bytes", "max_width", "max_height"} and re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        return int(text)
    return text.lower()


def _check_whole(field: str, value: object, least: int, most: int | None, *, also: str = "") -> None:
    whole = value if isinstance(value, int) and not isinstance(value, bool) else None
    if whole is None or whole < least or (most is not None and whole > most):
        accepted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise OptionError(field, f"must be a whole number {accepted}{also}, not {value!r}")


def _check_choice(field: str, value: object, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise OptionError(field, f"must be one of {', '.join(accepted)}, not {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
