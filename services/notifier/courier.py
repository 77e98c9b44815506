"""Claims deliveries as slots come free, and has them attempted side by side."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import structlog

from libs.documents import Deliveries, Delivery, NewDelivery
from libs.leases import Holdings, Settle
from libs.mongo import patiently
from libs.runtime.lifecycle import Stop
from libs.runtime.trace import trace_id
from services.notifier.clearance import Clearance
from services.notifier.ledger import Ledger
from services.notifier.postman import Postman
from services.notifier.room import Beginning, Room

_PACE_SECONDS = 0.01
_WORTH_A_CLAIM = 16
_LONGEST_GATHERING_SECONDS = 0.02
_GATHERING = 1 / 16  # of the time that an attempt takes
_LEARNED = 1 / 16  # of what is usual, from each attempt


class Courier:
    """Has `postman` attempt what there is `room` for in `holdings`, and `ledger` write down what came of it.

    What is in the way of claims is cleared away by `clearance` before each.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        holdings: Holdings[Delivery],
        room: Room,
        *,
        clearance: Clearance,
        postman: Postman,
        ledger: Ledger,
        stop: Stop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deliveries = deliveries
        self._holdings = holdings
        self._room = room
        self._clearance = clearance
        self._postman = postman
        self._ledger = ledger
        self._stop = stop
        self._clock = clock
        self._filling = asyncio.Lock()
        self._claim_at = 0.0
        self._usual_seconds = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fills slots as they come free until the stop, so that a drain need not wait for them."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._refill(), name="refilling")
            yield

    async def _refill(self) -> None:
        seconds: float | None = None
        while not self._stop.is_set:
            await self._holdings.wait(seconds)
            # Put off, and not left out: what it was woken for may have come behind the last look.
            seconds = self._room.idle_seconds or None
            if seconds is None:
                await self._let_others_end()
                await patiently(self.fill)

    async def _let_others_end(self) -> None:
        """Waits a sixteenth of what an attempt takes, a fiftieth of a second at most, for slots to come free together.

        What is begun together mostly ends together, and then is once more. All that is done for one alone, from its
        claim to its answer, takes three times the CPU of what is done for several at a time: by then other processes
        have the caches.
        """
        if self._holdings.working and self._room.free < _WORTH_A_CLAIM:
            await asyncio.sleep(min(self._usual_seconds * _GATHERING, _LONGEST_GATHERING_SECONDS))

    @asynccontextmanager
    async def begin(self, new: Sequence[NewDelivery]) -> AsyncIterator[Beginning]:
        """Keeps room for those of `new` that may be attempted at once, and starts in the end what of them is held then.

        From the stop on nothing is started: the next `doubts.settle` gives it back.
        """
        with self._room.kept([] if self._stop.is_set else new) as beginning:
            yield beginning
            if self._stop.is_set:
                held = beginning.held
                self._deliveries.doubts.note({one.token for one in held}, [one.webhook_id for one in held])
            else:
                self._start(beginning.held)

    async def fill(self) -> bool:
        """Starts deliveries until none is left, every slot is taken or every host has its share; true when any."""
        found = False
        async with self._filling:
            while self._room.free > 0 and not self._stop.is_set:
                await self._clearance.make()
                await self._let_slots_gather()
                free, taken = self._room.free, self._room.taken
                if free <= 0:  # kept meanwhile for what is being announced
                    break
                self._room.looking()
                with self._ledger.lent() as lent:
                    claimed, recorded = await self._deliveries.exchange(
                        lent.items, free, each=self._room.each, running=taken
                    )
                    if recorded:
                        lent.results = [True] * len(lent.items)
                if not claimed:
                    self._room.looked(taken)
                    break
                found = True
                self._start(claimed)
        return found

    def _start(self, held: Iterable[Delivery]) -> None:
        for delivery in held:
            self._holdings.start(delivery, self._deliver, name=f"delivery {delivery.webhook_id}")

    async def _let_slots_gather(self) -> None:
        """Under load, waits up to a hundredth of a second: a claim costs about the same for one as for sixteen."""
        now = self._clock()
        if self._room.free < _WORTH_A_CLAIM and now < self._claim_at:
            await asyncio.sleep(self._claim_at - now)
        self._claim_at = self._clock() + _PACE_SECONDS

    async def _deliver(self, delivery: Delivery, settle: Settle) -> None:
        # For good: a task has a context of its own.
        structlog.contextvars.bind_contextvars(
            request_id=delivery.request_id, trace_id=trace_id(delivery.trace), webhook_id=delivery.webhook_id
        )
        began = self._clock()
        ending = await self._postman.attempt(delivery)
        self._usual_seconds += (self._clock() - began - self._usual_seconds) * _LEARNED
        settle()
        await self._ledger.note(ending)
