"""A watcher's crew in the test's own process, with downloads that wait to be let through."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from libs.changestream import Wake
from libs.documents import Documents, HeldImage, Outcome
from libs.egress import Download
from libs.egress.slots import HostSlots
from libs.imaging import Compressed, Options
from libs.leases import Holdings
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop
from libs.runtime.settings import load
from libs.storage import open_storage
from services.watcher.attempts import Attempts
from services.watcher.briefs import Brief, Briefs
from services.watcher.completion import Completion
from services.watcher.crew import Crew
from services.watcher.frontier import Frontier
from services.watcher.hosts import Hosts
from services.watcher.memory import Memory
from services.watcher.pipeline import Codec, Downloader, Pipeline
from services.watcher.settings import WatcherSettings


class Downloads:
    """Answers once `gate` is open, `at_once` even before.

    `started` has the URLs in the order they were asked for, `beside` what was running when each began.
    """

    def __init__(self, *at_once: str) -> None:
        self.at_once = at_once
        self.gate = asyncio.Event()
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.running: set[str] = set()
        self.beside: dict[str, set[str]] = {}

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """The URL as a body."""
        assert max_bytes
        assert total_seconds
        self.beside[url] = set(self.running)
        self.running.add(url)
        self.started.put_nowait(url)
        if url not in self.at_once:
            await self.gate_of(url).wait()
        self.running.remove(url)
        return Download(url.encode(), url, "image/jpeg")

    def gate_of(self, url: str) -> asyncio.Event:
        """What this download waits for."""
        assert url
        return self.gate


class InTurn:
    """Downloads of which no more than `each` from one host run at once, as in a session."""

    def __init__(self, downloads: Downloader, each: int) -> None:
        self._downloads = downloads
        self._slots = HostSlots(each)

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """A download, when it is its turn."""
        async with self._slots.held(url.split("/")[2]):
            return await self._downloads.download(url, max_bytes=max_bytes, total_seconds=total_seconds)


class Copying:
    """A codec that changes nothing."""

    async def compress(self, data: bytes, options: Options, *, flow: str) -> Compressed:
        """The data itself."""
        assert options.quality
        assert flow
        return Compressed.jpeg(data, (1, 1), source_bytes=len(data), kept=True)


class Writing(Completion):
    """Writes outcomes once `gate` is open; `reached` when there is one."""

    def __init__(self, documents: Documents) -> None:
        super().__init__(documents)
        self.gate, self.reached = asyncio.Event(), asyncio.Event()

    async def finish(self, image: HeldImage, outcome: Outcome, brief: Brief) -> bool:
        """Waits, then writes."""
        self.reached.set()
        await self.gate.wait()
        return await super().finish(image, outcome, brief)


@asynccontextmanager
async def draining(
    documents: Documents,
    folder: Path,
    downloads: Downloader,
    *,
    progressed: Callable[[], None] = lambda: None,
    completion: Completion | None = None,
    codec: Codec | None = None,
    **given: Any,
) -> AsyncIterator[Crew]:
    """Drains as a watcher that has just started, until the end of the context; never waits for an event."""
    values = {"sweep_seconds": 0.05, "shutdown_seconds": 30, "storage": folder.as_uri(), "_env_file": None}
    settings = load(WatcherSettings, **values | given)
    stop, store = Stop(), open_storage(settings.storage)
    await store.prepare()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(store.writing())
        briefs = Briefs(documents.requests, max_pixels=settings.max_pixels)
        await stack.enter_async_context(briefs.running())
        completion = completion or Completion(documents)
        await stack.enter_async_context(completion.running())
        memory = Memory(documents.images.made_from, slots=settings.in_flight)
        await stack.enter_async_context(memory.running())
        holdings: Holdings[HeldImage] = Holdings(
            documents.images.leases,
            settings.in_flight,
            stop=stop,
            health=Health(),
            shutdown_seconds=settings.shutdown_seconds,
        )
        await stack.enter_async_context(holdings.running())
        in_turn = InTurn(downloads, settings.host_in_flight)
        pipeline = Pipeline(in_turn, codec or Copying(), store, memory, max_download_bytes=10**6, download_seconds=1)
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
            stop=stop,
            progressed=progressed,
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(crew.drain(Wake("start")), name="drain")
        try:
            yield crew
        finally:
            stop.set()
