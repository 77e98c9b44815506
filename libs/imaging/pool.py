"""Worker processes that compress, so that an image can crash, hang or take all memory and fail alone."""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

from libs.imaging import worker
from libs.imaging.budget import Budget
from libs.imaging.compression import compress
from libs.imaging.cost import cost_of
from libs.imaging.options import Options
from libs.imaging.process import CodecProcess, NotBegunError
from libs.imaging.reasons import ImageError
from libs.imaging.result import Compressed
from libs.imaging.rota import Rota

_IMAGES = 5000

# While a worker waits for the next image to be fetched and sent, its core may have nothing to do: so one lies ready in
# its socket. None behind an image that may take longer than this, for which another worker may be free by then.
_PLACES = 2
_QUICK_SECONDS = 0.1


class CodecPool:
    """Runs `compress` in `workers` processes, each with `memory_bytes` of address space, `task_seconds` for an image.

    These are the most; an image gets what `libs.imaging.cost` says of it. Its time is CPU time, which the kernel
    enforces; by the clock it may take four times as long. Together the images in work take `budget_bytes` at the most
    (default: what the workers may), first come, first served; one that takes more than that is worked on alone. A
    worker has a second image ready while it works on a quick one. It is replaced after `tasks_per_worker` images.
    `task` is what the workers run; it must be importable by name.

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
        self._rota = Rota(workers * _PLACES)
        self._budget = Budget(workers * memory_bytes if budget_bytes is None else budget_bytes)
        self._team: list[CodecProcess] = []
        self._taken: Counter[CodecProcess] = Counter()
        self._processes: dict[CodecProcess, asyncio.Task[int | None]] = {}
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Starts the workers; they get ready in the background."""
        self._fill()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the pool."""
        await self.close()

    async def close(self) -> None:
        """Ends all workers at once; what is still running fails with `worker_crashed`. Closing twice is allowed."""
        self._is_closed = True
        for process in self._processes:
            process.kill()
        await asyncio.gather(*self._processes.values())

    async def compress(self, data: bytes, options: Options, *, flow: str = "") -> Compressed:
        """Compresses one image when a worker is free and its `flow` is next: see `libs.imaging.rota`.

        When cancelled, the worker's process is ended too, once it is done with another image that it works on.

        Raises:
            ImageError: the image's own reason; `too_complex` when it overran its CPU time or memory, retryable when it
                took too long by the clock alone; `worker_crashed`, retryable, when its process died or the pool was
                closed.
        """
        cost = cost_of(data, options)
        seconds = min(self._task_seconds, cost.seconds)
        memory_bytes = min(self._memory_bytes, cost.memory_bytes)
        places = 1 if cost.work_seconds <= _QUICK_SECONDS else _PLACES
        async with self._rota.slot(flow, places), self._budget.share(memory_bytes):
            while True:
                process = self._take(places)
                try:
                    return await process.compress(data, options, seconds=seconds, memory_bytes=memory_bytes)
                except NotBegunError:
                    continue
                finally:
                    self._give_back(process, places)

    def _fill(self) -> None:
        while len(self._team) < self._workers:
            self._team.append(self._new())

    def _new(self) -> CodecProcess:
        process = CodecProcess(self._task, self._memory_bytes)
        watching = self._processes[process] = asyncio.create_task(process.ended(), name="end of a codec process")
        watching.add_done_callback(lambda _: self._processes.pop(process))
        return process

    def _take(self, places: int) -> CodecProcess:
        """The process that has least to do, of those that have started if one has a place; rather that than wait."""
        if self._is_closed:
            raise ImageError("worker_crashed", "the codec pool is closed", retryable=True)
        for dead in [process for process in self._team if not process.is_alive]:
            self._leave(dead)
        self._fill()
        free = [process for process in self._team if self._taken[process] < _PLACES]
        process = min(free, key=lambda process: (not process.is_started, self._taken[process]))
        self._taken[process] += places
        if process.images + 1 >= self._tasks_per_worker:
            self._team.remove(process)  # this image is its last
        return process

    def _give_back(self, process: CodecProcess, places: int) -> None:
        """Has another process begin to start in the place of one that takes no more images."""
        self._taken[process] -= places
        if process in self._team:
            if process.is_alive:
                return
            self._leave(process)
        else:
            self._end_idle(process)
        if process.is_started and not self._is_closed:  # what does not start is tried again with the next image
            self._fill()

    def _leave(self, process: CodecProcess) -> None:
        self._team.remove(process)
        self._end_idle(process)

    def _end_idle(self, process: CodecProcess) -> None:
        """Ends a process that has left, once nobody waits for it any more."""
        if not self._taken[process]:
            del self._taken[process]
            process.kill()  # not politely: nothing is left to be done, and a codec's thread may keep it from ending
