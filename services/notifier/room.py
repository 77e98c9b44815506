"""How many attempts may begin now: by the slots that are free, and by what each host may have."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass

from libs.documents import Delivery, NewDelivery, endpoint_of
from libs.leases import Holdings
from services.notifier.breaker import Breaker
from services.notifier.credit import Credit

_FRESH_SECONDS = 0.1


@dataclass(slots=True)
class Beginning:
    """The webhook-ids of the new deliveries that may begin at once, and what of them is `held` once it is announced."""

    webhook_ids: AbstractSet[str]
    held: Sequence[Delivery] = ()


class Room:
    """What is free of the slots of `holdings`, less what is kept for deliveries that are being announced.

    No host gets more at once than `credit` gives it, and one that does not answer none, by `breaker`.
    """

    def __init__(
        self,
        holdings: Holdings[Delivery],
        breaker: Breaker,
        credit: Credit,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holdings = holdings
        self._breaker = breaker
        self._credit = credit
        self._clock = clock
        self._kept: Counter[str] = Counter()
        # The hosts for which some may be waiting, as they had their share when they were looked for or left; None: for
        # any host.
        self._waiting: set[str] | None = None
        # Likewise, of what was left since a claim began.
        self._left: set[str] | None = set()
        self._looked_at = 0.0

    @property
    def free(self) -> int:
        """How many more may begin."""
        return self._holdings.free - self._kept.total()

    @property
    def each(self) -> int:
        """How many a host may have at once, those counted that are `taken`."""
        return self._credit.few

    @property
    def taken(self) -> Counter[str]:
        """How many each host has, by what it may have."""
        running = Counter(delivery.endpoint for delivery in self._holdings.working) + self._kept
        return self._breaker.taken(self._credit.taken(running), self.each, kept=self._kept)

    @property
    def idle_seconds(self) -> float:
        """For how long a claim may still be put off: there was just nothing to claim, nor is by what has ended since.

        0.0: it may not. What comes meanwhile is announced here, or is found when the time is up.
        """
        if self._waiting is None or not self._waiting <= self._full(self.taken):
            return 0.0
        return max(0.0, self._looked_at + _FRESH_SECONDS - self._clock())

    def looking(self) -> None:
        """A claim begins."""
        self._waiting, self._left = None, set()

    def looked(self, taken: Mapping[str, int]) -> None:
        """A claim to which this was `taken` has found nothing."""
        self._waiting = None if self._left is None else self._full(taken) | self._left
        self._looked_at = self._clock()

    def left_some(self, hosts: AbstractSet[str] | None = None) -> None:
        """A claim is to look for more: for these hosts, once one of them has not its share any more; None: for any."""
        if hosts is None:
            self._waiting = self._left = None
            return
        if self._waiting is not None:
            self._waiting |= hosts
        if self._left is not None:
            self._left |= hosts

    @contextmanager
    def kept(self, deliveries: Sequence[NewDelivery]) -> Iterator[Beginning]:
        """Keeps room meanwhile for those new deliveries that may begin at once.

        None begins while older ones may wait for the same host by what is known here: what a claim has left or passed
        over, or what has become pending since one found nothing, by a sweep or an announcement of this notifier. What
        others leave they attempt themselves, or sweeps find it.
        """
        begins, hosts, left, is_short = set[str](), Counter[str](), set[str](), False
        taken, free = self.taken, self.free if self._waiting is not None else 0
        waiting = self._waiting or set()
        for delivery in deliveries:
            host = endpoint_of(delivery.url)
            if taken[host] >= self.each or host in waiting:
                left.add(host)
            elif len(begins) < free:
                taken[host] += 1
                hosts[host] += 1
                begins.add(delivery.webhook_id)
            else:
                is_short = True
        self._kept += hosts
        beginning = Beginning(begins)
        try:
            yield beginning
        finally:
            self._kept -= hosts
            if is_short or len(beginning.held) < len(begins):
                self.left_some()
            elif left:
                self.left_some(left)

    def _full(self, taken: Mapping[str, int]) -> set[str]:
        return {host for host, count in taken.items() if count >= self.each}
