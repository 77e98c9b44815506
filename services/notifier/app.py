"""Builds the notifier from its parts and runs it."""

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from libs.changestream import ChangeStream, Consumer, Permits
from libs.documents import Delivery, connected
from libs.egress import EgressPolicy, GuardedSession
from libs.leases import Holdings
from libs.runtime import metrics
from libs.runtime.health import Health, serve_health
from libs.runtime.lifecycle import Process
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
from services.notifier.sender import Poster, Sender
from services.notifier.settings import NotifierSettings
from services.notifier.throttle import Throttle

# A request that was closed is to be announced; one that is shared has deliveries that were not begun by that.
_PIPELINE: Sequence[dict[str, Any]] = (
    {
        "$match": {
            "operationType": "update",
            "$or": [
                {"updateDescription.updatedFields.closed": True},
                {"updateDescription.updatedFields.shared": True},
            ],
        }
    },
    {"$project": {"operationType": 1, "clusterTime": 1}},
)

# The driver works in threads, which wait so long for the interpreter each time that the loop is busy, about ten times
# for a command. With Python's 5 ms a claim took 50 ms under load.
_SWITCH_SECONDS = 0.0005


async def serve(
    settings: NotifierSettings, process: Process, *, poster: Poster | None = None, breaker: Breaker | None = None
) -> None:
    """Runs a notifier until `process.stop`; what is given replaces the part built from the settings.

    After the stop it claims no more, lets what runs end within `shutdown_seconds`, and gives the rest back.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    health = Health()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve_health(health, settings.host, settings.notifier_port))
        documents = await stack.enter_async_context(connected(settings, "notifier", stop=process.stop, health=health))
        deliveries = documents.deliveries
        session = await stack.enter_async_context(_session(settings))
        ledger = Ledger(deliveries)
        await stack.enter_async_context(ledger.running())
        directory = Directory(documents.addressees, settings.webhook_secret.get_secret_value())
        await stack.enter_async_context(directory.running())
        reputation = Reputation(documents, failing_seconds=settings.webhook_failing_seconds)
        await stack.enter_async_context(reputation.running())
        holdings: Holdings[Delivery] = Holdings(
            deliveries.leases,
            settings.webhook_in_flight,
            stop=process.stop,
            health=health,
            shutdown_seconds=settings.shutdown_seconds,
            on_change=metrics.IN_FLIGHT.labels("notifier").set,
        )
        await stack.enter_async_context(holdings.running())
        breaker = breaker or Breaker()
        credit = Credit(max(1, settings.webhook_in_flight // 16), max(1, settings.webhook_in_flight // 4))
        room = Room(holdings, breaker, credit)
        postman = Postman(
            Sender(poster or session, total_seconds=settings.webhook_seconds),
            directory=directory,
            throttle=Throttle(documents.addressees),
            breaker=breaker,
            reputation=reputation,
            credit=credit,
            schedule=settings.webhook_schedule,
        )
        clearance = Clearance(deliveries, breaker, settings.webhook_schedule)
        courier = Courier(
            deliveries, holdings, room, clearance=clearance, postman=postman, ledger=ledger, stop=process.stop
        )
        await stack.enter_async_context(courier.running())
        consumer = Consumer(
            "notifier",
            lambda: ChangeStream(documents.mongo, documents.requests.collection, _PIPELINE),
            Permits(documents.mongo, "notifier", limit=settings.stream_readers),
            sweep_seconds=settings.sweep_seconds,
            next_due_seconds=deliveries.leases.next_due_seconds,
            stop=process.stop,
            health=health,
            on_ready=lambda: process.announce(settings.local_url(port)),
        )
        announcer = Announcer(documents, courier, base_url=settings.base_url(), stop=process.stop)
        rounds = Rounds(
            deliveries,
            announcer,
            courier,
            room,
            sweep_seconds=settings.sweep_seconds,
            stop=process.stop,
            progressed=consumer.progressed,
        )
        await consumer.run(rounds.drain)
        await rounds.end()


def _session(settings: NotifierSettings) -> GuardedSession:
    return GuardedSession(EgressPolicy(settings.egress_allow))
