"""The deliveries this notifier holds: their slots, their tasks and the renewal of their leases."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from pymongo.errors import PyMongoError

from libs.documents import Delivery
from libs.leases import Leases
from libs.runtime import metrics

_log = structlog.get_logger()


@dataclass(slots=True)
class Held:
    """A delivery and its task; `settled`: all that is left of it is to write down what came of it."""

    delivery: Delivery
    task: asyncio.Task[None]
    settled: bool = False


class Holdings:
    """At most `slots` deliveries, each with the task that works on it."""

    def __init__(self, leases: Leases, slots: int) -> None:
        self._leases = leases
        self._slots = slots
        # By claim too: a delivery whose lease was lost can be claimed here again while its first attempt still runs.
        self._held: dict[tuple[str, str], Held] = {}

    @property
    def free(self) -> int:
        """Slots that are free."""
        return self._slots - len(self._held)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that run."""
        return {held.task for held in self._held.values()}

    def add(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        """Takes a slot for a claimed delivery."""
        self._held[delivery.webhook_id, delivery.token] = Held(delivery, task)
        metrics.IN_FLIGHT.labels("notifier").set(len(self._held))

    def settled(self, delivery: Delivery) -> None:
        """What came of it is known: from now on the task is not to be interrupted."""
        self._held[delivery.webhook_id, delivery.token].settled = True

    def drop(self, delivery: Delivery) -> None:
        """Gives the slot back."""
        del self._held[delivery.webhook_id, delivery.token]
        metrics.IN_FLIGHT.labels("notifier").set(len(self._held))

    async def run_renewals(self) -> None:
        """Renews every lease at a third of its length, until cancelled."""
        while True:
            await asyncio.sleep(self._leases.renewal_seconds)
            await self.renew()

    async def renew(self) -> None:
        """Renews every lease.

        One that is lost all the same ends no attempt, since the receiver may have read it already; its outcome is not
        written down.
        """
        for token, ids in by_token(held.delivery for held in self._held.values()).items():
            try:
                await self._leases.renew(token, ids)
            except PyMongoError as error:
                _log.warning("lease.renewal_failed", deliveries=len(ids), error=repr(error)[:300])

    async def give_back(self) -> None:
        """Ends the attempts that have no answer yet and releases their deliveries, at no charge.

        Those that are settled get a third of a lease to write it down.
        """
        unsettled = [held for held in self._held.values() if not held.settled]
        for held in unsettled:
            held.task.cancel()
        tasks = self.tasks
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._leases.renewal_seconds)
            for task in late:
                task.cancel()
        await self.release([held.delivery for held in unsettled])

    async def release(self, deliveries: Iterable[Delivery]) -> None:
        """Makes claimed deliveries pending again, at no charge; those that MongoDB does not take back expire."""
        for token, ids in by_token(deliveries).items():
            try:
                released = await self._leases.release(token, ids)
            except PyMongoError as error:
                _log.warning("delivery.release_failed", deliveries=len(ids), error=repr(error)[:300])
                continue
            metrics.DELIVERIES_RELEASED.inc(released)
            _log.info("delivery.released", deliveries=released)


def by_token(deliveries: Iterable[Delivery]) -> dict[str, list[str]]:
    """The webhook-ids held under each lease token."""
    tokens: dict[str, list[str]] = {}
    for delivery in deliveries:
        tokens.setdefault(delivery.token, []).append(delivery.webhook_id)
    return tokens
