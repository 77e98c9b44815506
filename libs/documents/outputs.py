"""What came of an image: the compressed one, and how it came to be."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from libs.mongo import Document


@dataclass(frozen=True, slots=True)
class Output:
    """A compressed image in the store, by name, with its size in bytes and pixels and that of its source.

    `quality` is what the encoder was told (None: the source's data was kept, or the format loses nothing);
    `target_missed`: no quality reached the bytes that were asked for. `source_format`, and `source_width` and
    `source_height` before it was turned, are the file's own. `milliseconds` by stage: `queue`, from the upload to the
    claim that led to it; `download`; `decode` and `encode`, in the worker; `store`.
    """

    name: str
    bytes: int
    source_bytes: int
    width: int
    height: int
    format: str
    quality: int | None = None
    kept: bool = False
    animated: bool = False
    larger_than_source: bool = False
    target_missed: bool = False
    source_format: str = ""
    source_width: int = 0
    source_height: int = 0
    milliseconds: Mapping[str, int] = field(default_factory=dict)

    def document(self) -> Document:
        """The output as a subdocument."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Output":
        """The output in a subdocument."""
        return cls(**{name: document[name] for name in cls.__slots__ if name in document})
