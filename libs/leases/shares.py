"""How much of the work may be of one kind at once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from libs.mongo import Document


@dataclass(frozen=True, slots=True)
class Shares:
    """At most `each` documents at once of those that have the same value in `field`; `held` counts those held now.

    The server leaves out the values of which no more may be claimed: it reads all of theirs that stand before others.
    With `passing`, they are passed over here instead, and no more than so many are read.
    """

    field: str
    each: int
    held: Mapping[str, int]
    passing: int = 0

    @property
    def full(self) -> list[str]:
        """The values of which no more may be claimed."""
        return [value for value, count in self.held.items() if count >= self.each]

    @property
    def wanted(self) -> Document:
        """What the server is to look for."""
        full = self.full
        # Not a condition that all meet: for it MongoDB would read each document that a claim skips.
        return {self.field: {"$nin": full}} if full and not self.passing else {}

    @property
    def beside(self) -> int:
        """How many documents more are to be read, since they may be passed over."""
        return self.passing if self.full else 0

    def divide(self, found: Sequence[Document], limit: int) -> tuple[list[Document], list[Document]]:
        """Of documents in their order, the first `limit` that may be claimed, and those that have their share."""
        if not self.passing:
            return self.admit(found), []
        # Those of one kind of which there is room for fewer are all in front: of several that claim at once each looks
        # somewhere else, and admits as many of these.
        full = self.full
        front = [document for document in found if document[self.field] not in full]
        return front[:limit], [document for document in found if document[self.field] in full]

    def admit(self, candidates: Iterable[Document]) -> list[Document]:
        """The first of `candidates` for which there is room."""
        taken = Counter(self.held)
        admitted = []
        for candidate in candidates:
            taken[candidate[self.field]] += 1
            if taken[candidate[self.field]] <= self.each:
                admitted.append(candidate)
        return admitted
