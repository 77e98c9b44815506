"""The life of a codec process: how it starts, what ends it, and whom that is charged to."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from libs.imaging import CodecPool
from tests.unit import slow_codec
from tests.unit.codec_pools import MEMORY_BYTES, OPTIONS, failure, gone, pool, told, worker_of
from tests.unit.codec_tasks import cling
from tests.unit.pictures import encoded, photograph

ROOT = Path(__file__).resolve().parents[2]


async def test_what_a_decoder_prints_is_nobodys_business(capfd: pytest.CaptureFixture[str]) -> None:
    """A library that complains of each line of a broken file on standard error does not write into our log."""
    whole = encoded(photograph().convert("1"), "TIFF", compression="group4")
    broken = whole[:40] + bytes(byte ^ 0x55 for byte in whole[40:240]) + whole[240:]
    async with CodecPool(1, MEMORY_BYTES, 60.0) as opened:
        await asyncio.gather(opened.compress(broken, OPTIONS), return_exceptions=True)
    assert capfd.readouterr().err == ""


async def test_cpu_time_is_counted_for_each_image_and_not_for_the_life_of_a_worker() -> None:
    """The kernel ends the one that spins, and none that came before it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from libs.imaging import Options, worker\n"
        "from tests.unit.codec_tasks import misbehave\n"
        "for _ in range(3): worker.run(misbehave, b'pid', Options(), 1.0, 1 << 30)\n"
        "worker.run(misbehave, b'spin', Options(), 0.5, 1 << 30)\n",
        cwd=ROOT,
    )
    assert await process.wait() == -signal.SIGXCPU


@pytest.mark.parametrize("order", [b"interrupted", b"terminated"])
async def test_signals_to_the_service_leave_its_workers_alone(order: bytes) -> None:
    """Ctrl-C goes to the whole terminal and a service manager's SIGTERM to every process; what is begun is finished."""
    async with pool(workers=1) as opened:
        before = await worker_of(opened)
        assert int((await opened.compress(order, OPTIONS)).data) == before


async def test_workers_are_replaced_after_their_number_of_images() -> None:
    """What a decoder leaks ends with its process."""
    async with pool(workers=1, tasks_per_worker=2) as opened:
        pids = [await worker_of(opened) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


async def test_a_worker_that_is_replaced_does_not_stay() -> None:
    """A thread that a codec left behind would keep its process for as long as the service runs."""
    async with CodecPool(1, MEMORY_BYTES, 30.0, task=cling, tasks_per_worker=1) as opened:
        await gone(int((await opened.compress(b"", OPTIONS)).data))


async def test_a_worker_killed_while_idle_fails_nothing() -> None:
    """The pool renews itself, whatever became of its own bookkeeping."""
    async with pool(workers=1, task_seconds=5.0) as opened:
        victim = await worker_of(opened)
        for _ in range(2):
            os.kill(victim, signal.SIGKILL)
            await gone(victim)
            victim, killed = await worker_of(opened), victim
            assert victim != killed


async def test_cancelling_ends_the_work(fifo: Path) -> None:
    """The process that worked for a cancelled caller is ended, and another takes its place."""
    async with pool(workers=1) as opened:
        waiting = asyncio.create_task(opened.compress(f"tell and hang:{fifo}".encode(), OPTIONS))
        pid = await told(fifo)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await gone(pid)
        assert await worker_of(opened) != pid


async def test_cancelling_ends_a_worker_that_has_hung_up(fifo: Path) -> None:
    """One that closed its socket and lives is given a while to end by itself; nobody may wait for that."""
    async with CodecPool(1, MEMORY_BYTES, 30.0, task=cling) as opened:
        waiting = asyncio.create_task(opened.compress(str(fifo).encode(), OPTIONS))
        pid = await told(fifo)
        for _ in range(2):  # until the end of its stream has been read
            await asyncio.to_thread(os.getpid)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await gone(pid)


async def test_workers_that_cannot_start_fail_images_until_they_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image may be tried again, and the pool does not start workers all the time meanwhile."""
    monkeypatch.setenv("SLOW_CODEC", str(tmp_path / "missing"))
    async with CodecPool(1, MEMORY_BYTES, 5.0, task=slow_codec.answer) as opened:
        error = await failure(opened, b"early")
        assert (error.code, error.retryable) == ("worker_crashed", True)
        assert "did not start" in error.detail
        monkeypatch.delenv("SLOW_CODEC")
        assert (await opened.compress(b"patient", OPTIONS)).data == b"patient"


async def test_an_image_has_its_result_though_no_descriptor_is_left_for_the_next_worker() -> None:
    """The last image of a worker is not lost by what its successor lacks; the images behind it may be tried again."""
    async with pool(workers=1, tasks_per_worker=2) as opened:
        worker = await worker_of(opened)
        with no_descriptors():
            assert await worker_of(opened) == worker
            error = await failure(opened, b"pid")
            assert (error.code, error.retryable) == ("worker_crashed", True)
            assert "did not start" in error.detail
        assert await worker_of(opened) != worker


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing more can be opened here."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(descriptor.name) for descriptor in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in taken:
            os.close(descriptor)


PARENT = """
import asyncio, sys
from libs.imaging import CodecPool, Options
from tests.unit.codec_tasks import misbehave

async def main():
    async with CodecPool(2, 1 << 30, 300.0, task=misbehave) as pool:
        idle = (await pool.compress(b"pid", Options())).data.decode()
        print(idle, flush=True)
        await pool.compress(f"tell and hang:{sys.argv[1]}".encode(), Options())

asyncio.run(main())
"""


async def test_workers_die_with_a_parent_that_is_killed(fifo: Path) -> None:
    """No signal can be handled by the parent then; the kernel ends its workers, busy or idle."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(fifo), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    idle = int(await parent.stdout.readline())
    busy = await told(fifo)
    workers = [process for process in psutil.Process(parent.pid).children() if psutil.pid_exists(process.pid)]
    assert {idle, busy} <= {process.pid for process in workers}
    try:
        parent.kill()
        # Not only until the parent is gone: its standard output stays open for as long as a worker lives.
        await asyncio.wait_for(parent.wait(), 30)
        for process in workers:
            await gone(process.pid)
    finally:
        for process in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
