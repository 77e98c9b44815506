"""Worker processes that compress, so that an image can crash, hang or take all memory and fail alone."""

import asyncio
from types import TracebackType
from typing import Self

from libs.imaging import worker
from libs.imaging.budget import Budget
from libs.imaging.compression import compress
from libs.imaging.cost import cost_of
from libs.imaging.options import Options
from libs.imaging.process import CodecProcess
from libs.imaging.reasons import ImageError
from libs.imaging.result import Compressed
from libs.imaging.rota import Rota

_IMAGES = 5000


class CodecPool:
    """Runs `compress` in `workers` processes, each with `memory_bytes` of address space, `task_seconds` for an image.

    These are the most; an image gets what `libs.imaging.cost` says of it. Its time is CPU time, which the kernel
    enforces; by the clock it may take four times as long. Together the images in work take `budget_bytes` at the most
    (default: what the workers may), first come, first served; one that takes more than that is worked on alone. A
    worker is replaced after `tasks_per_worker` images. `task` is what the workers run; it must be importable by name.

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
        tasks_per_worker: int = _IMAGES,
        task: worker.Task = compress,
    ) -> None:
        self._workers = workers
        self._memory_bytes = memory_bytes
        self._task_seconds = task_seconds
        self._tasks_per_worker = tasks_per_worker
        self._task = task
        self._rota = Rota(workers)
        self._budget = Budget(workers * memory_bytes if budget_bytes is None else budget_bytes)
        self._idle: list[CodecProcess] = []
        self._processes: dict[CodecProcess, asyncio.Task[int | None]] = {}
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Starts the workers; they get ready in the background."""
        self._idle = [self._new() for _ in range(self._workers)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the pool."""
        await self.close()

    async def close(self) -> None:
        """Ends all workers at once; what is still running fails with `worker_crashed`. Closing twice is allowed."""
        self._is_closed = True
        for process in {*self._processes, *self._idle}:
            process.kill()
        await asyncio.gather(*self._processes.values())

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
        async with self._rota.slot(flow), self._budget.share(memory_bytes):
            process = self._taken()
            try:
                return await process.compress(data, options, seconds=seconds, memory_bytes=memory_bytes)
            finally:
                self._give_back(process)

    def _new(self) -> CodecProcess:
        process = CodecProcess(self._task, self._memory_bytes)
        watching = self._processes[process] = asyncio.create_task(process.ended(), name="end of a codec process")
        watching.add_done_callback(lambda _: self._processes.pop(process))
        return process

    def _taken(self) -> CodecProcess:
        """An idle process, if there is one that has started: there are as many as slots."""
        if self._is_closed:
            raise ImageError("worker_crashed", "the codec pool is closed", retryable=True)
        for dead in [process for process in self._idle if not process.is_alive]:
            self._idle.remove(dead)
            dead.kill()
        if not self._idle:
            return self._new()
        process = next((process for process in reversed(self._idle) if process.is_started), self._idle[0])
        self._idle.remove(process)
        return process

    def _give_back(self, process: CodecProcess) -> None:
        """Keeps a process for the next image, or has another begin to start in its place."""
        if self._is_closed:
            return
        if process.is_alive and process.images < self._tasks_per_worker:
            self._idle.append(process)
            return
        process.kill()  # not politely: nothing is left to be done, and a codec's thread may keep it from ending
        if process.is_started:  # what does not start is tried again with the next image, and not before
            self._idle.append(self._new())
