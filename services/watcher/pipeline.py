"""What happens to one image: download, compress, store."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from libs.documents import Output
from libs.egress import Download
from libs.imaging import Compressed, Options
from libs.runtime import metrics


class Downloader(Protocol):
    """The way out; see `libs.egress.GuardedSession`."""

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """The body at `url`; raises EgressError."""


class Codec(Protocol):
    """The worker processes; see `libs.imaging.CodecPool`."""

    async def compress(self, data: bytes, options: Options) -> Compressed:
        """The compressed image; raises ImageError."""


class Store(Protocol):
    """The blob store; see `libs.storage`."""

    async def put(self, name: str, data: bytes) -> None:
        """Stores `data` under its content name; raises StorageError."""


class Pipeline:
    """Brings one image from its URL into the store. What it raises says by `code` and `retryable` what to do."""

    def __init__(
        self,
        downloader: Downloader,
        codec: Codec,
        store: Store,
        *,
        max_download_bytes: int,
        download_seconds: float,
    ) -> None:
        self._downloader = downloader
        self._codec = codec
        self._store = store
        self._max_download_bytes = max_download_bytes
        self._download_seconds = download_seconds

    async def process(self, url: str, options: Options) -> Output:
        """The stored output.

        Raises:
            EgressError: the source could not be had.
            ImageError: the source could not be compressed.
            StorageError: the output could not be stored.
        """
        with _timed("download"):
            source = await self._downloader.download(
                url, max_bytes=self._max_download_bytes, total_seconds=self._download_seconds
            )
        metrics.BYTES_IN.inc(len(source.body))
        with _timed("compress"):
            compressed = await self._codec.compress(source.body, options)
        with _timed("store"):
            await self._store.put(compressed.name, compressed.data)
        metrics.BYTES_OUT.inc(len(compressed.data))
        return Output(
            name=compressed.name,
            bytes=len(compressed.data),
            source_bytes=len(source.body),
            width=compressed.width,
            height=compressed.height,
            format=compressed.format,
            kept=compressed.kept,
            animated=compressed.animated,
            larger_than_source=compressed.larger_than_source,
        )


@contextmanager
def _timed(stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        metrics.STAGE_SECONDS.labels(stage).observe(time.perf_counter() - started)
