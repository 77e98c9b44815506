"""A watcher that only claims and completes: its downloads, its codec and its store do nothing."""

import sys

from libs.egress import Download
from libs.imaging import Compressed, Options
from libs.runtime.lifecycle import Process, run
from services.watcher.app import serve
from services.watcher.settings import WatcherSettings

_COMPRESSED = Compressed.jpeg(b"small", (1, 1), source_bytes=10, kept=False)


class Nothing:
    """Downloader, codec and store in one."""

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:  # noqa: ARG002
        """A few bytes, other ones for each URL."""
        return Download(url.encode(), url, "image/jpeg")

    async def compress(self, data: bytes, options: Options, *, flow: str) -> Compressed:  # noqa: ARG002
        """The same result for every image."""
        return _COMPRESSED

    async def put(self, name: str, data: bytes) -> None:
        """Stores nothing."""

    async def holds(self, name: str) -> bool:  # noqa: ARG002
        """Holds nothing."""
        return False


async def _serve(settings: WatcherSettings, process: Process) -> None:
    nothing = Nothing()
    await serve(settings, process, downloader=nothing, codec=nothing, store=nothing)


if __name__ == "__main__":
    sys.exit(run("watcher", WatcherSettings, _serve))
