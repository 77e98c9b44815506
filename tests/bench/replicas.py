"""Watchers, several in one process, that come from the service's own composition with a download that waits.

`python -m tests.bench.replicas COUNT URI DATABASE` runs so many until it is ended. In a process of its own, since idle
replicas read their streams in threads of the driver, of which there must be one for each.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from libs.egress import Download
from libs.imaging import Compressed, Options
from libs.runtime.lifecycle import Process
from libs.runtime.settings import load
from services.watcher.app import serve
from services.watcher.settings import WatcherSettings
from tests.bench.children import say

# As many as one host may have, so that one whose downloads wait has nothing free: else it would listen, and in vain.
SLOTS = 8


@dataclass(slots=True)
class _Announced(Process):
    """A process that notes when its service is ready."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def announce(self, url: str) -> None:
        """It is."""
        assert url
        self.ready.set()


class GatedDownloads:
    """Downloads of /slow/… end when the gate is opened, all others after `seconds`."""

    def __init__(self, seconds: float = 0.2) -> None:
        self.gate = asyncio.Event()
        self._seconds = seconds

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """The URL as a body."""
        assert max_bytes
        assert total_seconds
        if "/slow/" in url:
            await self.gate.wait()
        else:
            await asyncio.sleep(self._seconds)
        return Download(url.encode(), url, "image/jpeg")


class Unchanged:
    """A codec that does nothing."""

    async def compress(self, data: bytes, options: Options, *, flow: str) -> Compressed:
        """The data."""
        assert options.quality
        assert flow
        return Compressed.jpeg(data, (1, 1), source_bytes=len(data), kept=True)


class Nowhere:
    """A store that keeps nothing."""

    async def put(self, name: str, data: bytes) -> None:
        """Nothing."""
        assert name
        assert data

    async def holds(self, name: str) -> bool:
        """Nothing."""
        assert name
        return False


@asynccontextmanager
async def replicas(count: int, uri: str, database: str, downloads: GatedDownloads, **given: Any) -> AsyncIterator[None]:
    """Runs watchers, ready when the context begins, until its end."""
    settings = load(
        WatcherSettings,
        mongo_connection_string=uri,
        database_name=database,
        watcher_port=0,
        shutdown_seconds=1,
        _env_file=None,
        **given,
    )
    processes = [_Announced() for _ in range(count)]
    async with asyncio.TaskGroup() as tasks:
        for process in processes:
            tasks.create_task(serve(settings, process, downloader=downloads, codec=Unchanged(), store=Nowhere()))
        try:
            for process in processes:
                await process.ready.wait()
            yield
        finally:
            for process in processes:
                process.stop.set()


async def _run(count: int, uri: str, database: str) -> None:
    async with replicas(count, uri, database, GatedDownloads(), in_flight=SLOTS, host_in_flight=SLOTS):
        say(ready=count)
        await asyncio.Event().wait()


if __name__ == "__main__":
    # Read by Motor when it is imported; its default is five threads for each core, shared by all clients.
    assert "MOTOR_MAX_WORKERS" in os.environ
    asyncio.run(_run(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
