"""Where claims begin: near the last claimed rank, so that a find does not wade through what was claimed before."""

import time
from collections import deque
from collections.abc import Callable

_LOOK_BACK_SECONDS = 2.0


class Frontier:
    """The rank from which to search for pending images.

    A new request's ranks begin behind the next one to be claimed when it was submitted, so a claim begins where claims
    were `look_back_seconds` ago: that covers the time from reading that rank to the commit of a small upload, and what
    claimers have left to each other. What falls behind all the same is found by the next sweep, which starts from the
    lowest rank.
    """

    def __init__(
        self, *, look_back_seconds: float = _LOOK_BACK_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_back_seconds = look_back_seconds
        self._clock = clock
        self._claims: deque[tuple[float, float]] = deque()

    @property
    def start(self) -> float | None:
        """The rank to begin at; None: at the lowest."""
        earliest = self._clock() - self._look_back_seconds
        while len(self._claims) > 1 and self._claims[1][0] <= earliest:
            self._claims.popleft()
        return min(rank for _, rank in self._claims) if self._claims else None

    def claimed(self, first_rank: float) -> None:
        """The first image that a claim found was at `first_rank`."""
        now = self._clock()
        if not self._claims or now - self._claims[-1][0] >= self._look_back_seconds / 8:
            self._claims.append((now, first_rank))

    def lower(self, rank: float) -> None:
        """There may be work from `rank` on."""
        if self._claims and rank < self._claims[-1][1]:
            self._claims.append((self._clock(), rank))

    def reset(self) -> None:
        """Begin at the lowest rank again."""
        self._claims.clear()
