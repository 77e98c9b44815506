"""What may be asked of a compression."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """How to compress one image.

    `quality` is libjpeg's scale, 1 to 100; `max_pixels` is the largest source, width times height.

    Raises:
        ValueError: a value is out of its range.
    """

    quality: int = 50
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be from 1 to 100, not {self.quality}")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, not {self.max_pixels}")
