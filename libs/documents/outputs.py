"""What came of an image: the compressed one, and how it came to be."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from libs.mongo import Document

Key: TypeAlias = bytes


@dataclass(frozen=True, slots=True)
class Output:
    """A compressed image in the store, by name, with its size in bytes and pixels and that of its source.

    `quality` is what the encoder was told (None: the source's data was kept, or the format loses nothing);
    `target_missed`: no quality reached the bytes that were asked for. `source_format`, and `source_width` and
    `source_height` before it was turned, are the file's own. `milliseconds` by stage: `queue`, from the upload to the
    claim that led to it; `download`; `decode` and `encode`, in the worker; `store`.

    `key` stands for what it was made from; see `Images.made_from`. `reused`: it was made for an earlier image, which
    has the key, so that nothing was decoded, encoded or stored for this one.
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
    reused: bool = False
    key: Key = b""

    def document(self) -> Document:
        """The output as a subdocument."""
        document = {**self.facts(), "name": self.name}
        # Absent and not empty: the index has only those that have one.
        return {**document, "key": self.key} if self.key else document

    def facts(self) -> Document:
        """What is known of it, without its name and its key."""
        return {name: getattr(self, name) for name in _FACTS}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Output":
        """The output in a subdocument."""
        return cls(**{name: document[name] for name in cls.__slots__ if name in document})


_FACTS = [name for name in Output.__slots__ if name not in {"name", "key"}]
