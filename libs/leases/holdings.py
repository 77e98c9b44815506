"""What a process holds: claimed documents, the tasks that work on them, and the renewal of their leases."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import pymongo
import structlog
from pymongo.errors import PyMongoError

from libs.leases.leases import Leases
from libs.runtime import metrics
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop

_log = structlog.get_logger()
_RETRY_SECONDS = 0.25
_UNWRITTEN = 128
_SHORTEST_SECONDS = 0.25


class Held(Protocol):
    """A claimed document: its `_id`, and the token of the claim."""

    @property
    def document_id(self) -> Any:
        """The `_id`."""

    @property
    def token(self) -> str:
        """The lease it is held under."""


HeldT = TypeVar("HeldT", bound=Held)
Settle: TypeAlias = Callable[[], None]
"""To be called by the work once all that is left is to write down what came of it: it is not interrupted from then."""


@dataclass(slots=True)
class _Hold(Generic[HeldT]):
    item: HeldT
    on_settled: Callable[[], None]
    settled: bool = False

    def settle(self) -> None:
        self.settled = True
        self.on_settled()


class Holdings(Generic[HeldT]):
    """At most `slots` claimed documents that are worked on, each with its task.

    Beside them there are as many, or 128, whose outcome is being written.

    What is settled gives its slot back: writing is done in batches, and the work need not wait for that.

    `on_change` is told how many there are. From the stop on `health` is not ready, and what is held has
    `shutdown_seconds` to finish.
    """

    def __init__(
        self,
        leases: Leases,
        slots: int,
        *,
        stop: Stop,
        health: Health,
        shutdown_seconds: float,
        on_change: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._slots = slots
        self._stop = stop
        self._health = health
        self._shutdown_seconds = shutdown_seconds
        self._on_change = on_change
        self._clock = clock
        self._holds: dict[asyncio.Task[None], _Hold[HeldT]] = {}
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Renews what is held while the context lasts.

        On leaving it after the stop, what runs may end until the deadline; what has no outcome by then is given back,
        and outcomes that are being written get a third of a lease more. When the context ends by an error, the work
        ends at once and the leases expire.
        """
        async with asyncio.TaskGroup() as self._tasks:
            renewals = self._tasks.create_task(self._run_renewals(), name="renewals")
            stopped = self._tasks.create_task(self._note_stop(), name="stop")
            yield
            await self._finish(await stopped + self._shutdown_seconds)
            renewals.cancel()

    @property
    def items(self) -> list[HeldT]:
        """What is held."""
        return [hold.item for hold in self._holds.values()]

    @property
    def working(self) -> list[HeldT]:
        """What is worked on, and not only written down."""
        return [hold.item for hold in self._holds.values() if not hold.settled]

    @property
    def free(self) -> int:
        """How many more may be held."""
        working = sum(not hold.settled for hold in self._holds.values())
        return min(self._slots - working, self._slots + max(self._slots, _UNWRITTEN) - len(self._holds))

    def start(self, item: HeldT, work: Callable[[HeldT, Settle], Coroutine[None, None, None]], *, name: str) -> None:
        """Starts the work on a claimed document, as a task called `name`; its slot is free again when it is settled.

        The work is cancelled when its lease turns out to be lost, or in the end when it was stopped, unless it is
        settled.
        """
        hold = _Hold(item, self._changed.set)
        task = self._tasks.create_task(work(item, hold.settle), name=name)
        self._holds[task] = hold
        self._on_change(len(self._holds))
        task.add_done_callback(self._leave)

    def _leave(self, task: asyncio.Task[None]) -> None:
        del self._holds[task]
        self._on_change(len(self._holds))
        self._changed.set()

    def wake(self) -> None:
        """Ends a wait: something else has changed for which more may be started."""
        self._changed.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Returns when one was settled or left since the last wait, after `seconds`, or at once from the stop on."""
        if self._stop.is_set:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()

    async def _note_stop(self) -> float:
        await self._stop.wait()
        self._health.set_unready("stopping")
        self._changed.set()
        return self._clock()

    async def _run_renewals(self) -> None:
        """Renews at a third of the lease, counted from the beginning of the last renewal, and soon after an error."""
        pause = self._leases.renewal_seconds
        while True:
            await asyncio.sleep(pause)
            began = self._clock()
            renewed = await self.renew()
            taken = self._clock() - began
            pause = max(0.0, self._leases.renewal_seconds - taken) if renewed else _RETRY_SECONDS

    async def renew(self) -> bool:
        """Renews every lease in one call, and ends the work on what is no longer held.

        False: after an error, or when something that is held still was passed over; it is to be tried again soon.
        """
        holds = list(self._holds.items())
        if not holds:
            return True
        tokens, ids = _identified(hold.item for _, hold in holds)
        try:
            renewed = await self._leases.renew(tokens, ids)
            if renewed == len(holds):
                return True
            documents = await self._leases.held(tokens, ids)
        except PyMongoError as error:
            _log.warning("lease.renewal_failed", collection=self._leases.name, held=len(ids), error=repr(error)[:300])
            return False
        held: dict[str, list[Any]] = {}
        for document in documents:
            held.setdefault(document["lease"]["token"], []).append(document["_id"])
        for task, hold in holds:
            if not hold.settled and hold.item.document_id not in held.get(hold.item.token, ()) and task.cancel():
                _log.info("lease.lost", task=task.get_name())
        return renewed >= len(documents)

    async def _finish(self, deadline: float) -> None:
        await self._left(set(self._holds), deadline)
        interrupted = {task: hold.item for task, hold in self._holds.items() if not hold.settled}
        for task in interrupted:
            _log.info("lease.interrupted", task=task.get_name())
            task.cancel()
        end = deadline + self._leases.renewal_seconds
        await self._left(set(interrupted), end)
        await self._release(list(interrupted.values()), end)
        await self._left(set(self._holds), end)
        for task in self._holds:
            task.cancel()

    async def _left(self, tasks: set[asyncio.Task[None]], until: float) -> None:
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, until - self._clock()))

    async def _release(self, items: list[HeldT], until: float) -> None:
        """Gives items back at no charge; what MongoDB does not take back in time expires."""
        tokens, ids = _identified(items)
        while items:
            try:
                with pymongo.timeout(max(_SHORTEST_SECONDS, until - self._clock())):
                    released = await self._leases.release(tokens, ids)
            except PyMongoError as error:
                _log.warning("lease.release_failed", collection=self._leases.name, error=repr(error)[:300])
                if self._clock() >= until:
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                metrics.LEASES_RELEASED.labels(self._leases.name).inc(released)
                _log.info("lease.released", collection=self._leases.name, released=released)
                return


def _identified(items: Iterable[Held]) -> tuple[set[str], list[Any]]:
    given = list(items)
    return {item.token for item in given}, [item.document_id for item in given]
