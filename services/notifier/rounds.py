"""The notifier's drain: round after round until nothing is left to start."""

from collections.abc import Callable

from libs.changestream import Wake
from libs.documents import Deliveries
from libs.runtime.lifecycle import Stop
from services.notifier.announcer import Announcer
from services.notifier.courier import Courier


class Rounds:
    """A drain for `libs.changestream.Consumer`; `progressed` is called after each round that found something to do.

    A drain ends when nothing can be started, not when the last attempt has ended: a new event finds the notifier
    listening while every endpoint hangs, and what is closed meanwhile is announced for other notifiers to deliver.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        announcer: Announcer,
        courier: Courier,
        *,
        stop: Stop,
        progressed: Callable[[], None],
    ) -> None:
        self._deliveries = deliveries
        self._announcer = announcer
        self._courier = courier
        self._stop = stop
        self._progressed = progressed

    async def drain(self, _: Wake) -> bool:
        """Reaps, promotes, announces and starts deliveries until none is left; true when there was anything to do."""
        found = False
        while not self._stop.is_set and await self._round():
            found = True
            self._progressed()
        return found

    async def _round(self) -> bool:
        tended = await self._deliveries.leases.tend()
        announced = await self._announcer.announce()
        started = await self._courier.fill()
        return bool(tended or announced or started)
