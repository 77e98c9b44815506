"""How far from the front of the queue a claim takes its documents, so that claimers keep out of each other's way."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from libs.mongo import Document

_REMEMBERED_SECONDS = 0.25
_LEARNED_FROM = 8


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the queue that a claim of `wanted` documents looks at: `size` of them, behind the first `skip`."""

    wanted: int
    skip: int
    size: int


class Spread:
    """The width of the front, in claims: one while nobody else claims, and wider the more is lost to others.

    Claimers that all take the very first documents mostly find them taken: of eight claimers' claims more than half
    came back empty, and they claimed less than one claimer alone. Each looks at a window, somewhere in a front that is
    wide enough for all of them, and the first document is seen as often as any other; how wide that is, is learned from
    what it got of every eight or more, as a sender learns its share of a network (doubled when an eighth was lost, one
    less when nothing was). `most` is the widest, and bounds how far out of order documents are claimed. To learn from
    each claim of one document would keep the front wide, and the first in it waiting, where two claim one by one and
    only now and then the same. (To read all of the front and choose from it took eight claimers a sixth to a quarter of
    their time.)

    Where nothing is in a window, the front is not so wide, and is halved.

    Where slots come free one by one, looking for a document is half of the claim. So `ahead` are found beside those
    that are claimed, and for a quarter of a second claims of no more than are left take from these: what comes
    meanwhile waits behind so many.

    Where shares let in fewer than were picked, the next claim on a wide front looks for a quarter more than these, or
    most of what it reads would be in vain.
    """

    def __init__(self, most: int = 16, *, ahead: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._ahead = ahead
        self._clock = clock
        self._claims = 1
        self._wanted = self._got = 0
        self._let_in: int | None = None
        self._remembered: list[Document] = []
        self._forget_at = 0.0

    def limit(self, asked: int) -> int:
        """How many documents to claim where so many are asked for."""
        if self._let_in is None or self._claims == 1:
            return asked
        return min(asked, 1 + self._let_in * 5 // 4)

    def let_in(self, picked: int, admitted: int) -> None:
        """Of so many picked documents shares have admitted so many."""
        self._let_in = admitted if admitted < picked else None

    def window(self, limit: int) -> Window:
        """What a claim of `limit` documents now looks at."""
        self._forget_at = self._clock() + _REMEMBERED_SECONDS
        size = limit + self._ahead
        # From so far before the front that its first document is in as many windows as those behind it.
        skip = random.randrange(1 - size, size * (self._claims - 1) + 1)  # noqa: S311 (spreads the claimers)
        return Window(limit, max(0, skip), size)

    def narrow(self) -> None:
        """Nothing stands as far back as a claim looked."""
        self._claims = max(1, self._claims // 2)

    def pick(self, front: Sequence[Document], limit: int) -> list[Document]:
        """The documents of the front to claim, the first of it; those behind them are remembered."""
        self._remembered = list(front[limit:])
        return list(front[:limit])

    def recall(self, limit: int) -> list[Document]:
        """What was found before and is still to be claimed, where that is enough for a claim of `limit` documents."""
        return self._remembered if self._clock() < self._forget_at and len(self._remembered) >= limit else []

    def learn(self, wanted: int, got: int) -> None:
        """A claim of `wanted` documents has got so many."""
        self._wanted += wanted
        self._got += got
        if self._wanted < _LEARNED_FROM:
            return
        if self._got == self._wanted:
            self._claims = max(1, self._claims - 1)
        elif self._got * 8 <= self._wanted * 7:
            self._claims = min(self._most, self._claims * 2)
        self._wanted = self._got = 0
