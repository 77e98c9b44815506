"""A watcher that comes to the step `HELD_AT` of its first image, says so in its log, and goes no further.

`python -m tests.held_watcher`, with the options of `services.watcher`.
"""

import os
import sys

from libs.egress import Download
from libs.imaging import Compressed, Options
from libs.runtime.lifecycle import Process, run
from libs.storage import LocalStorage, open_storage
from services.watcher.app import serve
from services.watcher.settings import WatcherSettings
from tests.holding import hold

STEPS = ("claimed", "fetched", "compressed", "stored")


class _Download:
    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        await hold()
        raise AssertionError((url, max_bytes, total_seconds))


class _Codec:
    async def compress(self, data: bytes, options: Options, *, flow: str) -> Compressed:
        await hold()
        raise AssertionError((data, options, flow))


class _Store:
    def __init__(self, store: LocalStorage, step: str) -> None:
        self._store, self._step = store, step

    async def put(self, name: str, data: bytes) -> None:
        if self._step == "stored":
            await self._store.put(name, data)
        await hold()

    async def holds(self, name: str) -> bool:
        return await self._store.holds(name)


async def _serve(settings: WatcherSettings, process: Process) -> None:
    step = os.environ["HELD_AT"]
    store = open_storage(settings.storage)
    await store.prepare()
    async with store.writing():
        await serve(
            settings,
            process,
            downloader=_Download() if step == "claimed" else None,
            codec=_Codec() if step == "fetched" else None,
            store=_Store(store, step) if step in {"compressed", "stored"} else None,
        )


if __name__ == "__main__":
    sys.exit(run("watcher", WatcherSettings, _serve))
