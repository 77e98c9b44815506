"""How many attempts may begin now: by the slots that are free, and by what each host may have."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from libs.documents import Delivery, NewDelivery, endpoint_of
from libs.leases import Holdings
from services.notifier.breaker import Breaker
from services.notifier.credit import Credit

_FRESH_SECONDS = 0.1


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
        # The hosts for which some may be waiting, as they had their share when a claim found none for others; None: for
        # any host.
        self._waiting: set[str] | None = None
        self._looked_at = 0.0
        self._has_left_some = False

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
        return self._breaker.taken(self._credit.taken(running), self.each)

    @property
    def is_idle(self) -> bool:
        """Whether just now there was nothing to claim, nor is by what has ended since.

        What comes meanwhile is announced here, or is looked for by whoever learns of it.
        """
        if self._waiting is None or self._clock() >= self._looked_at + _FRESH_SECONDS:
            return False
        return not self._waiting or self._waiting <= self._full(self.taken)

    def looking(self) -> None:
        """A claim begins."""
        self._waiting = None
        self._has_left_some = False

    def looked(self, taken: Mapping[str, int]) -> None:
        """A claim to which this was `taken` has found nothing."""
        self._waiting = None if self._has_left_some else self._full(taken)
        self._looked_at = self._clock()

    @contextmanager
    def kept(self, deliveries: Sequence[NewDelivery]) -> Iterator[set[str]]:
        """The webhook-ids of those new deliveries that may begin at once, for which room is kept meanwhile.

        None while older ones wait for the same host, or some are being claimed.
        """
        begins, hosts = set[str](), Counter[str]()
        if self._waiting is not None:
            taken, free = self.taken, self.free
            for delivery in deliveries:
                host = endpoint_of(delivery.url)
                if len(begins) < free and taken[host] < self.each and host not in self._waiting:
                    taken[host] += 1
                    hosts[host] += 1
                    begins.add(delivery.webhook_id)
        self._kept += hosts
        try:
            yield begins
        finally:
            self._kept -= hosts
            if len(begins) < len(deliveries):
                self._waiting, self._has_left_some = None, True

    def _full(self, taken: Mapping[str, int]) -> set[str]:
        return {host for host, count in taken.items() if count >= self.each}
