"""Builds the notifier from its parts and runs it."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from libs.changestream import ChangeStream, Consumer
from libs.documents import Documents, connected
from libs.egress import EgressPolicy, GuardedSession
from libs.runtime.health import Health, serve_health
from libs.runtime.lifecycle import Process, Stop
from services.notifier.announcer import Announcer
from services.notifier.courier import Courier
from services.notifier.rounds import Rounds
from services.notifier.sender import Poster, Sender
from services.notifier.settings import NotifierSettings

_DEAD_AFTER_SECONDS = 120.0

# A request that was closed is to be announced; one that was announced has deliveries, which all notifiers share.
_PIPELINE: Sequence[dict[str, Any]] = (
    {
        "$match": {
            "operationType": "update",
            "$or": [
                {"updateDescription.updatedFields.closed": True},
                {"updateDescription.updatedFields.announced": True},
            ],
        }
    },
    {"$project": {"operationType": 1, "clusterTime": 1}},
)


async def serve(settings: NotifierSettings, process: Process, *, poster: Poster | None = None) -> None:
    """Runs a notifier until `process.stop`; what is given replaces the part built from the settings.

    After the stop it claims no more, lets what runs end within `shutdown_seconds`, and gives the rest back.
    """
    health = Health(beat_within_seconds=_DEAD_AFTER_SECONDS)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve_health(health, settings.host, settings.notifier_port))
        documents = await stack.enter_async_context(connected(settings, "notifier", stop=process.stop, health=health))
        session = await stack.enter_async_context(_session(settings))
        sender = Sender(poster or session, settings.signing_key, total_seconds=settings.webhook_seconds)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stopping = tasks.create_task(_stopped_at(process.stop, health), name="stopping")
        courier = Courier(
            documents.deliveries,
            sender,
            in_flight=settings.webhook_in_flight,
            schedule=settings.webhook_schedule,
            tasks=tasks,
            stop=process.stop,
        )
        renewals = tasks.create_task(courier.run_renewals(), name="renewals")
        rounds = Rounds(
            documents.deliveries,
            Announcer(documents, base_url=settings.base_url(), stop=process.stop),
            courier,
            sweep_seconds=settings.sweep_seconds,
            stop=process.stop,
            health=health,
            on_listening=lambda: process.announce(settings.local_url(port)),
        )
        await _consumer(settings, documents, process.stop, health).run(rounds.drain)
        await courier.finish(await stopping + settings.shutdown_seconds)
        renewals.cancel()


def _consumer(settings: NotifierSettings, documents: Documents, stop: Stop, health: Health) -> Consumer:
    return Consumer(
        "notifier",
        lambda: ChangeStream(documents.mongo, documents.requests.collection, _PIPELINE),
        sweep_seconds=settings.sweep_seconds,
        next_due_seconds=documents.deliveries.leases.next_due_seconds,
        stop=stop,
        health=health,
    )


def _session(settings: NotifierSettings) -> GuardedSession:
    # The courier shares its slots out among the endpoints; nothing waits for its turn in the session.
    return GuardedSession(EgressPolicy(settings.egress_allow), host_in_flight=settings.webhook_in_flight)


async def _stopped_at(stop: Stop, health: Health) -> float:
    """Says not ready as soon as the stop is asked for, and gives the event loop's time of it."""
    await stop.wait()
    health.set_unready("stopping")
    return asyncio.get_running_loop().time()
