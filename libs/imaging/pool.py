"""Worker processes that compress, so that an image can crash, hang or take all memory and fail alone."""

import asyncio
import multiprocessing
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from libs.imaging import worker
from libs.imaging.compression import compress
from libs.imaging.cost import cost_bytes, cost_seconds
from libs.imaging.options import Options
from libs.imaging.reasons import ImageError
from libs.imaging.result import Compressed

# A worker that died with the lock of the shared pipe in its hand leaves pebble unable to notice anything, overruns
# included. So each task has this much more time than its own (a worker may have to start), then the pool is renewed.
_STUCK_SECONDS = 30.0


class CodecPool:
    """Runs `compress` in `workers` processes, each with `memory_bytes` of address space, `task_seconds` for an image.

    These are the most; an image gets what `libs.imaging.cost` says of it. Its time counts twice: CPU time, which the
    kernel enforces, and wall-clock time. A worker is replaced after `tasks_per_worker` images. `task` is what the
    workers run; it must be importable by name.

    An async context manager, to be entered in the event loop's own thread: Linux kills workers when the thread that
    started them ends.
    """

    def __init__(
        self,
        workers: int,
        memory_bytes: int,
        task_seconds: float,
        *,
        tasks_per_worker: int = 500,
        task: worker.Task = compress,
    ) -> None:
        self._workers = workers
        self._memory_bytes = memory_bytes
        self._task_seconds = task_seconds
        self._tasks_per_worker = tasks_per_worker
        self._task = task
        self._slots = asyncio.Semaphore(workers)
        self._renewing = asyncio.Lock()
        self._running: _Generation | None = None

    async def __aenter__(self) -> Self:
        """Starts the workers; they get ready in the background."""
        self._running = self._generation()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the pool."""
        await self.close()

    async def close(self) -> None:
        """Ends all workers at once; what is still running fails with `worker_crashed`. Closing twice is allowed."""
        async with self._renewing:
            running, self._running = self._running, None
            if running is not None:
                await running.stop()

    async def compress(self, data: bytes, options: Options) -> Compressed:
        """Compresses one image as soon as a worker is free. When cancelled, the worker's process is ended too.

        Raises:
            ImageError: the image's own reason; `too_complex` when it overran its time or memory; `worker_crashed`,
                retryable, when its process died or the pool was closed.
        """
        seconds = min(self._task_seconds, cost_seconds(data, options))
        memory_bytes = min(self._memory_bytes, cost_bytes(data, options))
        lost: BrokenProcessPool | None = None
        async with self._slots:
            for _ in range(2):
                running = self._running
                if running is None:
                    raise ImageError("worker_crashed", "the codec pool is closed", retryable=True)
                try:
                    return await running.run(self._task, data, options, seconds, memory_bytes)
                except BrokenProcessPool as error:
                    lost = error
                    await self._renew(running)
        raise ImageError("worker_crashed", f"worker processes cannot be kept: {lost}", retryable=True) from lost

    async def _renew(self, broken: "_Generation") -> None:
        """Replaces a pool whose bookkeeping is lost: pebble gives up if a worker dies while none has a task."""
        async with self._renewing:
            if self._running is broken:
                await broken.stop()
                self._running = self._generation()

    def _generation(self) -> "_Generation":
        return _Generation(
            ProcessPool(
                max_workers=self._workers,
                max_tasks=self._tasks_per_worker,
                initializer=worker.start,
                initargs=(os.getpid(), self._memory_bytes, self._task.__module__),
                # This process has threads; a fork of it might inherit a lock that nobody will release.
                context=multiprocessing.get_context("spawn"),
            )
        )


class _Generation:
    """One pebble pool, from its start to its end, and the tasks that are in it."""

    def __init__(self, pool: ProcessPool) -> None:
        self._pool = pool
        self._futures: set[ProcessFuture[Compressed]] = set()
        if not pool.active:  # asking starts it
            raise BrokenProcessPool("the codec pool did not start")

    async def run(
        self, task: worker.Task, data: bytes, options: Options, seconds: float, memory_bytes: int
    ) -> Compressed:
        """Runs one task. Raises ImageError, or BrokenProcessPool if the pool lost it through no fault of its own."""
        try:
            future = self._pool.schedule(worker.run, args=(task, data, options, seconds, memory_bytes), timeout=seconds)
        except RuntimeError as error:
            raise BrokenProcessPool(str(error)) from error
        self._futures.add(future)
        deadline = asyncio.timeout(seconds + _STUCK_SECONDS)
        try:
            async with deadline:
                return await asyncio.wrap_future(future)
        except (ImageError, BrokenProcessPool):
            raise
        except ProcessExpired as error:
            raise _death(error) from error
        except TimeoutError as error:
            if deadline.expired():
                raise BrokenProcessPool("the codec pool does not answer") from error
            raise ImageError("too_complex", f"took more than {seconds:g} s") from error
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            raise BrokenProcessPool("the codec pool was stopped") from error
        except Exception as error:
            raise ImageError("worker_crashed", f"{type(error).__name__}: {error}", retryable=True) from error
        finally:
            self._futures.discard(future)

    async def stop(self) -> None:
        """Ends every worker and thread of the pool; tasks in it see BrokenProcessPool."""
        for future in tuple(self._futures):
            future.cancel()  # type: ignore[no-untyped-call]
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _death(error: ProcessExpired) -> ImageError:
    """A worker that the kernel stopped for its CPU time was too slow; any other death may have been an accident."""
    if error.exitcode == -signal.SIGXCPU:
        return ImageError("too_complex", "used more CPU time than an image may")
    return ImageError("worker_crashed", f"the worker process ended with {error.exitcode}", retryable=True)
