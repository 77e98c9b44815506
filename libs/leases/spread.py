"""How far from the front of the queue a claim takes its documents, so that claimers keep out of each other's way."""

import random
from collections.abc import Sequence

from libs.mongo import Document


class Spread:
    """The width of the front, in claims: one while nobody else claims, and wider the more is lost to others.

    Claimers that all take the very first documents mostly find them taken: of eight claimers' claims more than half
    came back empty, and they claimed less than one claimer alone. Each takes its documents at random from a front that
    is wide enough for all of them; by how much is learned from what it got, as a sender learns its share of a network
    (doubled when most was lost, one less when nothing was). `most` is the widest, and bounds how far out of order
    documents are claimed.
    """

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._claims = 1

    def front(self, limit: int) -> int:
        """How many documents a claim of `limit` looks at."""
        return limit * self._claims

    def pick(self, front: Sequence[Document], limit: int) -> list[Document]:
        """The documents of the front to claim, in its order."""
        if len(front) <= limit:
            return list(front)
        return [front[index] for index in sorted(random.sample(range(len(front)), limit))]

    def learn(self, wanted: int, got: int) -> None:
        """A claim of `wanted` documents has got so many."""
        if got == wanted:
            self._claims = max(1, self._claims - 1)
        elif got * 2 <= wanted:
            self._claims = min(self._most, self._claims * 2)
