"""The parts of a notifier that hold and start deliveries, for tests that decide when each of them does something."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network

from libs.documents import Delivery, Documents
from libs.egress import EgressPolicy, GuardedSession
from libs.leases import Holdings
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop
from services.notifier.announcer import Announcer
from services.notifier.breaker import Breaker
from services.notifier.clearance import Clearance
from services.notifier.courier import Courier
from services.notifier.credit import Credit
from services.notifier.directory import Directory
from services.notifier.ledger import Ledger
from services.notifier.postman import Postman
from services.notifier.reputation import Reputation
from services.notifier.room import Room
from services.notifier.rounds import Rounds
from services.notifier.sender import Sender
from services.notifier.throttle import Throttle
from tests.processes import SECRET


@dataclass(frozen=True, slots=True)
class Parts:
    """They do nothing by themselves but start what a slot comes free for, while `running`."""

    announcer: Announcer
    courier: Courier
    holdings: Holdings[Delivery]
    room: Room
    rounds: Rounds
    directory: Directory
    ledger: Ledger
    session: GuardedSession
    stop: Stop

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Attempts can be made until the end of the context, which waits for those that run."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.session)
            for part in (self.ledger, self.directory, self.holdings, self.courier):
                await stack.enter_async_context(part.running())
            stack.callback(self.stop.set)
            yield


def notifier_parts(
    documents: Documents,
    *,
    slots: int = 16,
    base_url: str = "http://d",
    progressed: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Parts:
    """A notifier that has not looked for anything yet; a host may have all of its slots."""
    stop, breaker, credit, deliveries = Stop(), Breaker(), Credit(slots, slots), documents.deliveries
    holdings: Holdings[Delivery] = Holdings(deliveries.leases, slots, stop=stop, health=Health(), shutdown_seconds=60)
    room, ledger = Room(holdings, breaker, credit), Ledger(deliveries)
    directory = Directory(documents.addressees, SECRET)
    session = GuardedSession(EgressPolicy([IPv4Network("127.0.0.0/8")]))
    postman = Postman(
        Sender(session, total_seconds=10),
        directory=directory,
        throttle=Throttle(documents.addressees),
        breaker=breaker,
        reputation=Reputation(documents, failing_seconds=60),
        credit=credit,
        schedule=[],
    )
    clearance = Clearance(deliveries, breaker, [])
    courier = Courier(
        deliveries, holdings, room, clearance=clearance, postman=postman, ledger=ledger, stop=stop, clock=clock
    )
    announcer = Announcer(documents, courier, base_url=base_url, stop=stop)
    rounds = Rounds(deliveries, announcer, courier, room, sweep_seconds=3600, stop=stop, progressed=progressed)
    return Parts(announcer, courier, holdings, room, rounds, directory, ledger, session, stop)


def announcer_of(documents: Documents) -> Announcer:
    """It leaves the attempts to others."""
    return notifier_parts(documents).announcer
