"""Pools of codec workers that do what they are told, and what is asked of them."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from libs.imaging import CodecPool, Compressed, ImageError, Options
from tests.unit.codec_tasks import misbehave

OPTIONS = Options()
MEMORY_BYTES = 1 << 30


def pool(workers: int = 2, task_seconds: float = 30.0, tasks_per_worker: int = 500) -> CodecPool:
    """A pool whose workers do what they are told."""
    return CodecPool(workers, MEMORY_BYTES, task_seconds, tasks_per_worker=tasks_per_worker, task=misbehave)


async def worker_of(opened: CodecPool) -> int:
    """The process id of a worker that is alive and well."""
    return int((await opened.compress(b"pid", OPTIONS)).data)


async def failure(opened: CodecPool, order: bytes) -> ImageError:
    """How an order fails."""
    with pytest.raises(ImageError) as caught:
        await opened.compress(order, OPTIONS)
    return caught.value


async def gone(pid: int) -> None:
    """Waits for the end of a process, and leaves it to the pool to collect what is left of it."""
    try:
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:  # collected already, or not this process's own child
        if psutil.pid_exists(pid):
            await asyncio.to_thread(psutil.Process(pid).wait, 30)


async def told(path: Path) -> int:
    """The process id that a task writes into the FIFO at `path` when it runs."""
    return int(await asyncio.to_thread(path.read_text))


async def given(opened: CodecPool, images: int) -> None:
    """Returns once the workers there are were given so many images."""
    while sum(process.images for process in opened._processes) < images:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0)


async def waiting_in(opened: CodecPool, fifo: Path) -> tuple[asyncio.Task[Compressed], int]:
    """An image that waits in a worker until something is written to `fifo`, and that worker's process id."""
    waiting = asyncio.create_task(opened.compress(f"tell and wait:{fifo}".encode(), OPTIONS))
    return waiting, await told(fifo)
