"""What a compression gives."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Compressed:
    """A compressed image.

    `kept` means that the source's own compressed data was taken over, without its metadata. `animated` means that the
    source had more frames, of which this is the first. `larger_than_source` can only be true where the source could not
    be kept. `name` is the content name: the SHA-256 of `data` and the extension.
    """

    data: bytes
    format: str
    extension: str
    width: int
    height: int
    kept: bool
    animated: bool
    larger_than_source: bool
    name: str

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
            name=f"{hashlib.sha256(data).hexdigest()}.jpg",
        )
