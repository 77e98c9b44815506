"""Where claims begin: near the last claimed rank, so that a find does not wade through what was claimed before."""

import time
from collections import deque
from collections.abc import Callable

_NEAR_SECONDS = 0.25
_FAR_SECONDS = 2.0
_FAR_EACH_SECONDS = 1.0


class Frontier:
    """The rank from which to search for pending images.

    A new request's ranks begin behind the next one to be claimed when it was submitted, so a claim begins where claims
    were a quarter of a second ago: that covers the time from reading that rank to the commit of most small uploads, and
    what claimers have left to each other. Once a second, and where nothing is found, one begins where claims were two
    seconds ago, for what took longer. (All of them there, and eight claimers of a thousand images a second spent a
    fifth of their time on the way past what was claimed, which stands in the index for a while.) What falls behind all
    the same is found by the next sweep, which starts from the lowest rank.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._claims: deque[tuple[float, float]] = deque()
        self._far_at = clock()

    def start(self, *, far: bool = False) -> float | None:
        """The rank to begin at now, or for a look that is to find all there is; None: at the lowest."""
        now = self._clock()
        if far or now >= self._far_at:
            self._far_at = now + _FAR_EACH_SECONDS
            return self._lowest(now - _FAR_SECONDS)
        return self._lowest(now - _NEAR_SECONDS)

    def claimed(self, first_rank: float) -> None:
        """The first image that a claim found was at `first_rank`."""
        now = self._clock()
        while len(self._claims) > 1 and self._claims[1][0] <= now - _FAR_SECONDS:
            self._claims.popleft()
        if not self._claims or now - self._claims[-1][0] >= _NEAR_SECONDS / 8:
            self._claims.append((now, first_rank))

    def lower(self, rank: float) -> None:
        """There may be work from `rank` on."""
        if self._claims and rank < self._claims[-1][1]:
            self._claims.append((self._clock(), rank))

    def reset(self) -> None:
        """Begin at the lowest rank again."""
        self._claims.clear()

    def _lowest(self, earliest: float) -> float | None:
        """The lowest rank since `earliest`, and just before that."""
        lowest = None
        for at, rank in reversed(self._claims):
            lowest = rank if lowest is None else min(lowest, rank)
            if at <= earliest:
                break
        return lowest
