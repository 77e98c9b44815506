"""What happens to one image: download, compress and store, unless that has been done to the same bytes before."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from libs.documents import Output
from libs.egress import Download
from libs.imaging import Compressed, Options
from libs.runtime import metrics
from services.watcher.memory import Memory, key_of


class Downloader(Protocol):
    """The way out; see `libs.egress.GuardedSession`."""

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """The body at `url`; raises EgressError."""


class Codec(Protocol):
    """The worker processes; see `libs.imaging.CodecPool`."""

    async def compress(self, data: bytes, options: Options, *, flow: str) -> Compressed:
        """The compressed image; those of one `flow` do not wait behind another's. Raises ImageError."""


class Store(Protocol):
    """The blob store; see `libs.storage`."""

    async def put(self, name: str, data: bytes) -> None:
        """Stores `data` under its content name; raises StorageError."""

    async def holds(self, name: str) -> bool:
        """Whether there is an output of this name; raises StorageError."""


class Pipeline:
    """Brings one image from its URL into the store. What it raises says by `code` and `retryable` what to do."""

    def __init__(
        self,
        downloader: Downloader,
        codec: Codec,
        store: Store,
        memory: Memory,
        *,
        max_download_bytes: int,
        download_seconds: float,
    ) -> None:
        self._downloader = downloader
        self._codec = codec
        self._store = store
        self._memory = memory
        self._max_download_bytes = max_download_bytes
        self._download_seconds = download_seconds

    async def process(
        self,
        url: str,
        options: Options,
        *,
        flow: str,
        is_awaited: bool,
        queued_seconds: float,
        on_download: Callable[[], None],
    ) -> Output:
        """The stored output; `queued_seconds` have passed from the upload to the claim.

        Images of one `flow` do not wait for the codec behind another's; what has been made before is looked up at once
        for one that `is_awaited`, and for others together. `on_download` is called when nothing more is wanted of the
        source's host.

        Raises:
            EgressError: the source could not be had.
            ImageError: the source could not be compressed.
            StorageError: the output could not be stored.
        """
        stages = _Stages()
        source = await self._downloaded(url, queued_seconds, stages)
        on_download()
        metrics.BYTES_IN.inc(len(source.body))
        try:
            key = await key_of(source.body, options)
            async with self._memory.turn(key):
                output = await self._reused(key, stages, is_awaited=is_awaited)
                if output is None:
                    output = await self._made(source.body, options, flow, key, stages)
                    self._memory.remember(output)
            return output
        finally:
            source.release()

    async def _downloaded(self, url: str, queued_seconds: float, stages: "_Stages") -> Download:
        """The source; waiting for a turn at its host counts to the queue."""
        began, waited_seconds = time.perf_counter(), 0.0
        try:
            source = await self._downloader.download(
                url, max_bytes=self._max_download_bytes, total_seconds=self._download_seconds
            )
            waited_seconds = source.waited_seconds
        finally:
            stages.took("queue", queued_seconds + waited_seconds)
            stages.took("download", time.perf_counter() - began - waited_seconds)
        return source

    async def _reused(self, key: bytes, stages: "_Stages", *, is_awaited: bool) -> Output | None:
        """The output of an earlier image that was made from the same, if the store still holds it."""
        earlier = await self._memory.recall(key, is_awaited=is_awaited)
        if earlier is None or not await self._store.holds(earlier.name):
            return None
        metrics.IMAGES_REUSED.inc()
        return replace(earlier, key=b"", reused=True, milliseconds=stages.milliseconds)

    async def _made(self, body: bytes, options: Options, flow: str, key: bytes, stages: "_Stages") -> Output:
        with _observed("compress"):
            compressed = await self._codec.compress(body, options, flow=flow)
        stages.took("decode", compressed.decode_seconds)
        stages.took("encode", compressed.encode_seconds)
        with stages.timed("store"):
            await self._store.put(compressed.name, compressed.data)
        metrics.BYTES_OUT.inc(len(compressed.data))
        return Output(
            name=compressed.name,
            bytes=len(compressed.data),
            source_bytes=len(body),
            width=compressed.width,
            height=compressed.height,
            format=compressed.format,
            quality=compressed.quality,
            kept=compressed.kept,
            animated=compressed.animated,
            larger_than_source=compressed.larger_than_source,
            target_missed=compressed.target_missed,
            source_format=compressed.source_format,
            source_width=compressed.source_width,
            source_height=compressed.source_height,
            milliseconds=stages.milliseconds,
            key=key,
        )


class _Stages:
    """The time that an image has spent in each stage, which is measured as well."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, int] = {}

    def took(self, stage: str, seconds: float) -> None:
        metrics.STAGE_SECONDS.labels(stage).observe(seconds)
        self.milliseconds[stage] = round(seconds * 1000)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        with _observed(stage):
            yield
        self.milliseconds[stage] = round((time.perf_counter() - started) * 1000)


@contextmanager
def _observed(stage: str) -> Iterator[None]:
    """Measures a stage, whether it succeeds or fails."""
    with metrics.STAGE_SECONDS.labels(stage).time():
        yield
