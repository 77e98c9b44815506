"""How much of the work may be of one kind at once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from libs.mongo import Document


@dataclass(frozen=True, slots=True)
class Shares:
    """At most `each` documents at once of those that have the same value in `field`; `held` counts those held now."""

    field: str
    each: int
    held: Mapping[str, int]

    @property
    def full(self) -> list[str]:
        """The values of which no more may be claimed."""
        return [value for value, count in self.held.items() if count >= self.each]

    def admit(self, candidates: Iterable[Document]) -> list[Document]:
        """The first of `candidates` for which there is room."""
        taken = Counter(self.held)
        admitted = []
        for candidate in candidates:
            taken[candidate[self.field]] += 1
            if taken[candidate[self.field]] <= self.each:
                admitted.append(candidate)
        return admitted
