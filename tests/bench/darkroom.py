"""A whole Darkroom with the settings that it has by itself: `darkroom up`, its processes and a client of it."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.bench import cpu
from tests.bench.uploads import upload
from tests.e2e.commands import up
from tests.processes import memory_of
from tests.receivers import Receiver, receiving

MIB = 2**20
SERVICES = ("ingest", "watcher", "notifier")
_MONGODB = re.compile(r"MongoDB\s+(mongodb://\S+)")
_CLIENTS = 4  # fewer than the uploads that ingest reads at once
_WEBHOOK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Done:
    """Requests that have come to their end: their ids, and seconds from the first POST to the last webhook."""

    request_ids: Sequence[str]
    seconds: float


@dataclass(slots=True)
class Darkroom:
    """It, with a receiver of its webhooks; both the client and the receiver are the benchmark's own process."""

    url: str
    mongo_uri: str
    client: aiohttp.ClientSession
    receiver: Receiver
    processes: dict[str, int]
    _received: int = field(default=0)

    async def finish(self, catalogues: Iterable[Sequence[str]]) -> Done:
        """Uploads these catalogues of image links, four at once, and returns when the webhooks of all are here."""
        clients, began = asyncio.Semaphore(_CLIENTS), time.time()

        async def submit(links: Sequence[str]) -> str:
            async with clients:
                return await upload(self.client, self.url, links, self.receiver.url)

        ids = await asyncio.gather(*map(submit, catalogues))
        return Done(ids, max(await self.webhooks(len(ids))) - began)

    async def webhooks(self, count: int) -> list[float]:
        """When the next `count` webhooks arrived, once they are here."""
        self._received += count
        received = await self.receiver.wait(self._received, seconds=_WEBHOOK_SECONDS)
        return [one.moment for one in received[self._received - count : self._received]]

    async def status(self, request_id: str) -> Any:
        """Its status with all rows and the facts of their images."""
        query = {"request_id": request_id, "facts": "true"}
        async with self.client.get(f"{self.url}/api/status", params=query) as answer:
            answer.raise_for_status()
            return await answer.json()

    def meter(self, **others: int) -> cpu.Meter:
        """Measures the CPU of each part; the codec processes apart from the watcher, whose children they are."""
        watcher = self.processes["watcher"]
        groups = {name: partial(cpu.own, pid) for name, pid in {**self.processes, **others}.items()}
        return cpu.Meter(
            {**groups, "codecs": partial(cpu.of_children, watcher), "client": partial(cpu.own, os.getpid())}
        )

    def memory(self) -> dict[str, list[tuple[float, float]]]:
        """MiB of each process: what is resident, and the most that ever was."""
        pids = {name: [pid] for name, pid in self.processes.items()}
        children = psutil.Process(self.processes["watcher"]).children()
        pids["codecs"] = [child.pid for child in children if "libs.imaging.worker" in child.cmdline()]
        return {
            name: [(memory_of(pid, "VmRSS") / MIB, memory_of(pid, "VmHWM") / MIB) for pid in group]
            for name, group in pids.items()
        }


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Darkroom]:
    """Runs it in `folder` while the context lasts; it may reach loopback, which is all that is not as it comes."""
    async with (
        up(folder=folder, DARKROOM_WORKERS="") as started,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as client,
        receiving() as receiver,
    ):
        found = _MONGODB.search(started.greeting)
        assert found is not None
        processes = {"up": started.process.pid}
        for process in started.family():
            command = process.cmdline()
            names = [name for name in SERVICES if f"services.{name}" in command]
            processes.update(dict.fromkeys(["mongod"] if command[0].endswith("mongod") else names, process.pid))
        yield Darkroom(started.url, found[1], client, receiver, processes)
        assert await started.stop() == 0
