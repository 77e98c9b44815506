"""Finds which of millions of texts repeat, in little memory and without keeping the texts."""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import compress, count
from typing import NamedTuple

_SHARE = 2**18
"""Texts that are compared at a time, about; a set of so many numbers takes 25 MB."""
_HASH_BYTES = 8
# Stands in no canonical URL, so that the second hash has nothing to do with the first.
_OTHER = "#"


class Repeat(NamedTuple):
    """A text that stands more than once: `first` is where it did first, `copies` how often again, there alone."""

    position: int
    first: int
    copies: int


class Repeats:
    """Remembers texts by 128 bits of hash, 16 bytes for each."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._others = array("q")

    def add(self, texts: Sequence[str]) -> None:
        """Takes the next texts; their positions count from 0."""
        self._hashes.extend(map(hash, texts))
        self._others.extend([hash(text + _OTHER) for text in texts])

    def found(self) -> Iterator[Repeat]:
        """Each occurrence of each text that stands more than once, a text's in ascending order."""
        shares = len(self._hashes) // _SHARE + 1
        lowest = bytes(memoryview(self._hashes).cast("B")[::_HASH_BYTES])
        for share in range(shares):
            mask = lowest.translate(bytes(byte % shares == share for byte in range(256)))
            if len(set(compress(self._hashes, mask))) < mask.count(1):
                yield from self._found(mask)

    def _found(self, mask: bytes) -> Iterator[Repeat]:
        def keys() -> Iterator[tuple[int, int]]:
            return zip(compress(self._hashes, mask), compress(self._others, mask), strict=True)

        repeated = {key: times - 1 for key, times in Counter(keys()).items() if times > 1}
        firsts: dict[tuple[int, int], int] = {}
        for position, key in zip(compress(count(), mask), keys(), strict=True):
            if key not in repeated:
                continue
            if (first := firsts.setdefault(key, position)) == position:
                yield Repeat(position, first, repeated[key])
            else:
                yield Repeat(position, first, 0)
