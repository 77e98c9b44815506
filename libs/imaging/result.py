"""What a compression gives."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

# Not looser: a codec process that a picture has taken over may say anything, and these are stored and counted.
_Format = Annotated[str, Field(pattern=r"^(jpeg|png|webp|avif)$")]
_Extension = Annotated[str, Field(pattern=r"^(jpg|png|webp|avif)$")]
_SourceFormat = Annotated[str, Field(pattern=r"^(|jpeg|png|gif|webp|bmp|tiff|avif)$")]
_Count = Annotated[int, Field(ge=0, lt=1 << 32)]
_Seconds = Annotated[float, Field(ge=0, lt=1 << 32, allow_inf_nan=False)]


@dataclass(frozen=True)
class Compressed:
    """A compressed image.

    `kept` means that the source's own compressed data was taken over, without its metadata. `animated` means that the
    source had more frames, of which this is the first. `larger_than_source` can only be true where the source could not
    be kept.

    `quality` is the one that was used; None where the source was kept and where the format is lossless. `target_missed`
    means that no quality reaches the bytes that were asked for; this is the smallest then. The `source_` facts are the
    file's own: its format (Pillow's name in lower case), its bytes, and its size as it is stored, before it is turned.
    The seconds were measured where it was made; they are no part of what makes two results equal.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    data: bytes = field(repr=False)
    format: _Format
    extension: _Extension
    width: _Count
    height: _Count
    kept: bool
    animated: bool
    larger_than_source: bool
    quality: _Count | None = None
    target_missed: bool = False
    source_bytes: _Count = 0
    source_format: _SourceFormat = ""
    source_width: _Count = 0
    source_height: _Count = 0
    decode_seconds: _Seconds = field(default=0.0, compare=False)
    encode_seconds: _Seconds = field(default=0.0, compare=False)

    @cached_property
    def name(self) -> str:
        """The content name: the SHA-256 of `data` and the extension. Taken when it is first asked for."""
        return content_name(self.data, self.extension)

    @classmethod
    def jpeg(
        cls, data: bytes, size: tuple[int, int], *, source_bytes: int, kept: bool = False, animated: bool = False
    ) -> "Compressed":
        """A JPEG of `size` (width, height) made from a source of `source_bytes` bytes."""
        return cls(
            data=data,
            format="jpeg",
            extension="jpg",
            width=size[0],
            height=size[1],
            kept=kept,
            animated=animated,
            larger_than_source=len(data) > source_bytes,
            source_bytes=source_bytes,
        )


def content_name(data: bytes, extension: str) -> str:
    """The name of an output, which says what is in it."""
    return f"{hashlib.sha256(data).hexdigest()}.{extension}"
