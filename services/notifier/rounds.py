"""The notifier's drain: round after round until nothing is left to start."""

from collections.abc import Callable

import structlog

from libs.changestream import Wake
from libs.documents import Deliveries
from libs.runtime import metrics
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop
from services.notifier.announcer import Announcer
from services.notifier.courier import Courier

_log = structlog.get_logger()


class Rounds:
    """A drain for `libs.changestream.Consumer`; `on_listening` is called at the first drain with an open stream.

    A drain ends when nothing can be started, not when the last attempt has ended: a new event finds the notifier
    listening while an endpoint hangs. With every slot taken it goes on looking every `sweep_seconds`, so that what is
    closed meanwhile is announced for other notifiers to deliver.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        announcer: Announcer,
        courier: Courier,
        *,
        sweep_seconds: float,
        stop: Stop,
        health: Health,
        on_listening: Callable[[], None],
    ) -> None:
        self._deliveries = deliveries
        self._announcer = announcer
        self._courier = courier
        self._sweep_seconds = sweep_seconds
        self._stop = stop
        self._health = health
        self._on_listening: Callable[[], None] | None = on_listening

    async def drain(self, wake: Wake) -> bool:
        """Promotes, reaps, announces and starts deliveries until none is left; true when there was anything to do."""
        if wake.cause == "listen" and self._on_listening is not None:
            self._on_listening()
            self._on_listening = None
        found = False
        while not self._stop.is_set:
            self._health.beat()
            worked = await self._round()
            found = found or worked
            if not self._courier.free:
                await self._courier.wait_for_slot(self._sweep_seconds)
            elif not worked:
                break
        return found

    async def _round(self) -> bool:
        promoted = await self._deliveries.leases.promote()
        reaped = await self._deliveries.leases.reap()
        if reaped:
            metrics.LEASES_EXPIRED.labels("deliveries").inc(reaped)
            _log.warning("lease.expired", deliveries=reaped)
        announced = await self._announcer.announce()
        claimed = await self._courier.claim()
        return bool(promoted or reaped or announced or claimed)
