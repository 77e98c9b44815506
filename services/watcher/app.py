"""Builds the watcher from its parts and runs it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from libs.changestream import ChangeStream, Consumer, Permits
from libs.documents import HeldImage, connected
from libs.egress import EgressPolicy, GuardedSession
from libs.imaging import CodecPool
from libs.leases import Claim, Holdings
from libs.runtime import metrics
from libs.runtime.errors import FatalError
from libs.runtime.health import Health, serve_health
from libs.runtime.lifecycle import Process
from libs.storage import StorageError, open_storage
from services.watcher.attempts import Attempts
from services.watcher.briefs import Briefs
from services.watcher.completion import Completion
from services.watcher.crew import Crew
from services.watcher.frontier import Frontier
from services.watcher.hosts import Hosts
from services.watcher.memory import Memory
from services.watcher.pipeline import Codec, Downloader, Pipeline, Store
from services.watcher.settings import WatcherSettings

# A request that was inserted whole, or one that has got another batch of images; `rank` is where its new images begin,
# `request` what its images have in common, where it was inserted.
_PIPELINE: Sequence[dict[str, Any]] = (
    {
        "$match": {
            "$or": [
                {"operationType": "insert", "fullDocument.loaded": True},
                {"operationType": "update", "updateDescription.updatedFields.inserted": {"$exists": True}},
            ]
        }
    },
    {
        "$project": {
            "operationType": 1,
            "clusterTime": 1,
            "rank": {"$ifNull": ["$updateDescription.updatedFields.head_rank", "$fullDocument.rank", 0]},
            "request_id": "$documentKey._id",
            "request": {name: f"$fullDocument.{name}" for name in ("options", "total", "trace", "created_at")},
        }
    },
)


async def serve(
    settings: WatcherSettings,
    process: Process,
    *,
    downloader: Downloader | None = None,
    codec: Codec | None = None,
    store: Store | None = None,
) -> None:
    """Runs a watcher until `process.stop`; what is given replaces the part built from the settings."""
    health = Health()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serve_health(health, settings.host, settings.watcher_port))
        documents = await stack.enter_async_context(connected(settings, "watcher", stop=process.stop, health=health))
        memory = Memory(documents.images.made_from, slots=settings.in_flight)
        await stack.enter_async_context(memory.running())
        pipeline = Pipeline(
            downloader if downloader is not None else await stack.enter_async_context(_session(settings)),
            codec if codec is not None else await stack.enter_async_context(_pool(settings)),
            store if store is not None else await stack.enter_async_context(_store(settings)),
            memory,
            max_download_bytes=settings.max_download_bytes,
            download_seconds=settings.download_seconds,
        )
        briefs = Briefs(documents.requests, max_pixels=settings.max_pixels)
        await stack.enter_async_context(briefs.running())
        completion = Completion(documents)
        await stack.enter_async_context(completion.running())
        holdings: Holdings[HeldImage] = Holdings(
            documents.images.leases,
            settings.in_flight,
            stop=process.stop,
            health=health,
            shutdown_seconds=settings.shutdown_seconds,
            on_change=metrics.IN_FLIGHT.labels("watcher").set,
        )
        await stack.enter_async_context(holdings.running())
        consumer = Consumer(
            "watcher",
            lambda: ChangeStream(documents.mongo, documents.requests.collection, _PIPELINE),
            Permits(documents.mongo, "watcher", limit=settings.stream_readers),
            sweep_seconds=settings.sweep_seconds,
            next_due_seconds=documents.images.leases.next_due_seconds,
            stop=process.stop,
            health=health,
            on_ready=lambda: process.announce(settings.local_url(port)),
        )
        frontier = Frontier()
        hosts = Hosts(
            settings.host_in_flight,
            documents.postponed,
            slots=settings.in_flight,
            on_leave=holdings.wake,
            on_return=frontier.lower,
        )
        crew = Crew(
            documents,
            Attempts(settings, documents, pipeline, completion, hosts, briefs=briefs),
            holdings,
            hosts,
            frontier,
            briefs=briefs,
            sweep_seconds=settings.sweep_seconds,
            stop=process.stop,
            progressed=consumer.progressed,
            on_claim=partial(_hurry, memory, completion),
        )
        await consumer.run(crew.drain)


def _hurry(memory: Memory, completion: Completion, claim: Claim) -> None:
    memory.hurry(is_dry=claim.exhausted)
    completion.hurry(is_dry=claim.exhausted)


def _session(settings: WatcherSettings) -> GuardedSession:
    return GuardedSession(
        EgressPolicy(settings.egress_allow),
        host_in_flight=settings.host_in_flight,
        memory_bytes=settings.download_memory_bytes,
    )


def _pool(settings: WatcherSettings) -> CodecPool:
    return CodecPool(
        settings.workers,
        settings.worker_memory_bytes,
        settings.worker_seconds,
        budget_bytes=settings.codec_memory_bytes,
    )


@asynccontextmanager
async def _store(settings: WatcherSettings) -> AsyncIterator[Store]:
    try:
        store = open_storage(settings.storage)
        await store.prepare()
    except (ValueError, StorageError) as error:
        raise FatalError(f"DARKROOM_STORAGE: {error}") from error
    async with store.writing():
        yield store
