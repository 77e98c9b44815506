"""Worker processes that compress, so that an image can crash, hang or take all memory and fail alone."""

import asyncio
import multiprocessing
import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from libs.imaging import worker
from libs.imaging.budget import Budget
from libs.imaging.compression import compress
from libs.imaging.cost import cost_of
from libs.imaging.options import Options
from libs.imaging.reasons import ImageError
from libs.imaging.result import Compressed
from libs.imaging.rota import Rota

# Workers have a low priority and get less than a core where others want it: an image that has had four times its CPU
# time by the clock, and not used it up, hangs.
_STARVED = 4

# A worker that died with the lock of the shared pipe in its hand leaves pebble unable to notice anything, overruns
# included. So each task has this much more time than its own from when a worker took it, then the pool is renewed.
_STUCK_SECONDS = 15.0

# No worker takes it before one has started, and that is a second's work, which may take minutes on a busy machine.
_START_SECONDS = 300.0

_Order = tuple[worker.Task, bytes, Options, float, int]
"""The arguments of `worker.run`."""


class CodecPool:
    """Runs `compress` in `workers` processes, each with `memory_bytes` of address space, `task_seconds` for an image.

    These are the most; an image gets what `libs.imaging.cost` says of it. Its time is CPU time, which the kernel
    enforces; by the clock it may take four times as long. Together the images in work take `budget_bytes` at the most
    (default: what the workers may), first come, first served; one that takes more than that is worked on alone. A
    worker is replaced after `tasks_per_worker` images. `task` is what the workers run; it must be importable by name.
    `stuck_seconds` is how long a task may be overdue before all workers are replaced.

    An async context manager, to be entered in the event loop's own thread: Linux kills workers when the thread that
    started them ends.
    """

    def __init__(
        self,
        workers: int,
        memory_bytes: int,
        task_seconds: float,
        *,
        budget_bytes: int | None = None,
        tasks_per_worker: int = 500,
        task: worker.Task = compress,
        stuck_seconds: float = _STUCK_SECONDS,
    ) -> None:
        self._workers = workers
        self._memory_bytes = memory_bytes
        self._task_seconds = task_seconds
        self._tasks_per_worker = tasks_per_worker
        self._task = task
        self._stuck_seconds = stuck_seconds
        self._rota = Rota(workers)
        self._budget = Budget(workers * memory_bytes if budget_bytes is None else budget_bytes)
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

    async def compress(self, data: bytes, options: Options, *, flow: str = "") -> Compressed:
        """Compresses one image when a worker is free and its `flow` is next: see `libs.imaging.rota`.

        When cancelled, the worker's process is ended too.

        Raises:
            ImageError: the image's own reason; `too_complex` when it overran its CPU time or memory, retryable when it
                took too long by the clock alone; `worker_crashed`, retryable, when its process died or the pool was
                closed.
        """
        cost = cost_of(data, options)
        seconds = min(self._task_seconds, cost.seconds)
        memory_bytes = min(self._memory_bytes, cost.memory_bytes)
        order = (self._task, data, options, seconds, memory_bytes)
        async with self._rota.slot(flow), self._budget.share(memory_bytes):
            try:
                running = self._generation_in_use()
                try:
                    return await running.run(order, seconds)
                except BrokenProcessPool:
                    await self._renew(running)
                    return await self._generation_in_use().run(order, seconds)
            except BrokenProcessPool as error:
                detail = f"worker processes cannot be kept: {error.__cause__ or error}"
                raise ImageError("worker_crashed", detail, retryable=True) from error

    def _generation_in_use(self) -> "_Generation":
        if self._running is None:
            raise ImageError("worker_crashed", "the codec pool is closed", retryable=True)
        return self._running

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
            ),
            self._stuck_seconds,
        )


class _Generation:
    """One pebble pool, from its start to its end, and the tasks that are in it."""

    def __init__(self, pool: ProcessPool, stuck_seconds: float) -> None:
        self._pool = pool
        self._stuck_seconds = stuck_seconds
        self._futures: set[ProcessFuture[Compressed]] = set()
        if not pool.active:  # asking starts it
            raise BrokenProcessPool("the codec pool did not start")

    async def run(self, order: _Order, seconds: float) -> Compressed:
        """Runs one task of so much CPU time.

        Raises ImageError, or BrokenProcessPool if the pool lost it through no fault of its own.
        """
        try:
            future = self._pool.schedule(worker.run, args=order, timeout=_STARVED * seconds)
        except RuntimeError as error:
            raise BrokenProcessPool(str(error)) from error
        self._futures.add(future)
        try:
            return await self._answer(future, _STARVED * seconds)
        except (ImageError, BrokenProcessPool):
            raise
        except ProcessExpired as error:
            raise _death(error) from error
        except TimeoutError as error:
            detail = f"not done after {_STARVED * seconds:g} s, and less than {seconds:g} s of CPU time"
            raise ImageError("too_complex", detail, retryable=True) from error
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            raise BrokenProcessPool("the codec pool was stopped") from error
        except Exception as error:
            raise ImageError("worker_crashed", f"{type(error).__name__}: {error}", retryable=True) from error
        finally:
            self._futures.discard(future)

    async def _answer(self, future: ProcessFuture[Compressed], seconds: float) -> Compressed:
        """What came of a task, which pebble ends `seconds` after a worker took it; raises BrokenProcessPool if not."""
        answer = asyncio.wrap_future(future)
        began = time.monotonic()
        is_taken = False
        try:
            while not (await asyncio.wait({answer}, timeout=seconds + self._stuck_seconds))[0]:
                if is_taken or time.monotonic() - began > _START_SECONDS:
                    raise BrokenProcessPool("the codec pool does not answer")
                is_taken = future.running()
        finally:
            answer.cancel()  # and the task with it, unless it is done
        return await answer

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
