"""What may be asked of a compression: the fields of an upload's form, of its request and of the command line.

Light on purpose: ingest validates by it and installs no codec.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

QUALITIES: Final = (1, 95)
"""Of libjpeg's scale; beyond 95 files grow by much and look the same. WebP's and AVIF's run from worst to best too."""

REVISION: Final = 4
"""Of the codec: raised when the same bytes and options give another output, so that earlier ones do not serve."""

_LARGEST_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION


def _said(words: str) -> WrapValidator:
    """Refuses with `words` what the type would refuse in several sentences, or in a pattern."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise ValueError(words) from error

    return WrapValidator(check)


def _optional(schema: dict[str, Any]) -> None:
    schema.pop("default", None)  # absent is absent: null would not be accepted


_Side = Annotated[int, Field(ge=1, le=_LARGEST_SIDE)]


class RequestOptions(BaseModel):
    """How the images of one request are compressed.

    How much is lost is said by one of `quality`, `target_ratio` and `max_bytes`; where no quality reaches the size that
    is asked for, the lowest is taken. (`libs.imaging.likeness` has the measure of `auto` and its bound.)

    Raises:
        ValueError: a value is out of its range, or two contradict each other; pydantic's, which names the field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quality: Annotated[
        Annotated[int, Field(ge=QUALITIES[0], le=QUALITIES[1])] | Literal["auto"],
        _said("must be a whole number from {} to {}, or auto".format(*QUALITIES)),
    ] = Field(
        default=50,
        description=(
            "How good the pictures stay, on libjpeg's scale; `auto` takes for each image the lowest quality at which "
            "it still looks like its source."
        ),
    )
    target_ratio: Annotated[float, Field(gt=0, lt=1)] | SkipJsonSchema[None] = Field(
        default=None,
        description="Instead of `quality`: the highest with which an image takes at most this part of its bytes.",
        json_schema_extra=_optional,
    )
    max_bytes: Annotated[int, Field(ge=1, le=2**31 - 1)] | SkipJsonSchema[None] = Field(
        default=None,
        description="Instead of `quality`: the highest with which an image takes at most so many bytes.",
        json_schema_extra=_optional,
    )
    format: Literal["jpeg", "keep", "webp", "avif", "png"] = Field(
        default="jpeg",
        description="Format of the compressed images; `keep` is the source's own, or PNG where that is not written.",
    )
    max_width: _Side | SkipJsonSchema[None] = Field(
        default=None,
        description="Images are scaled down, in proportion, to be at most so wide; none is enlarged.",
        json_schema_extra=_optional,
    )
    max_height: _Side | SkipJsonSchema[None] = Field(
        default=None,
        description="Images are scaled down, in proportion, to be at most so high; none is enlarged.",
        json_schema_extra=_optional,
    )
    background: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$"), _said("must be a colour such as #ffffff")] = Field(
        default="#ffffff", description="The colour behind what is transparent, where the output is JPEG."
    )
    metadata: Literal["strip", "copyright", "keep"] = Field(
        default="strip",
        description=(
            "What stays of the EXIF: nothing, the artist and the copyright, or what describes the picture (where it "
            "was taken, too). Orientation and thumbnails never stay, colour profiles always."
        ),
    )

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        asked = [
            name
            for name in ("quality", "target_ratio", "max_bytes")
            if name in self.model_fields_set and getattr(self, name) is not None
        ]
        if len(asked) > 1:
            raise ValueError(f"{asked[1]}: give only one of quality, target_ratio and max_bytes")
        if self.format == "png" and self.has_target:
            raise ValueError(f"{asked[0]}: PNG loses nothing, so its size cannot be chosen")
        return self

    def to_document(self) -> dict[str, Any]:
        """Plain values, from which `model_validate` makes the same again; defaults are written out."""
        chosen = {"quality"} if self.has_target else set()
        return self.model_dump(mode="json", include={*RequestOptions.model_fields} - chosen, exclude_none=True)

    @property
    def has_target(self) -> bool:
        """Whether a size is asked for and not a quality."""
        return self.target_ratio is not None or self.max_bytes is not None


class Options(RequestOptions):
    """How to compress one image: what its request asks for, and a limit of the service.

    `max_pixels` is the largest source, width times height; no part of the document.
    """

    max_pixels: int = Field(default=50_000_000, ge=1)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, max_pixels: int = 50_000_000) -> Self:
        """Options from a dictionary as `to_document` gives it.

        Raises:
            ValueError: it has a name that no option has, or a value that is not accepted.
        """
        asked = RequestOptions.model_validate(document)
        return cls.model_validate({**asked.model_dump(exclude_unset=True), "max_pixels": max_pixels})

    @property
    def ground(self) -> tuple[int, int, int]:
        """`background` as red, green and blue."""
        red, green, blue = bytes.fromhex(self.background[1:])
        return red, green, blue
