import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from libs.imaging import CodecPool, Compressed, ImageError, Options, compress, cost_bytes
from libs.imaging.cost import cost_of
from libs.imaging.frames import Frame, read, write
from libs.imaging.reply import result_of
from libs.imaging.result import content_name
from tests.unit import slow_codec
from tests.unit.codec_tasks import LIES, WHOLE, cling, count, die, lie, misbehave
from tests.unit.pictures import encoded, photograph

OPTIONS = Options()
MEMORY_BYTES = 1 << 30
ROOT = Path(__file__).resolve().parents[2]


def pool(workers: int = 2, task_seconds: float = 30.0, tasks_per_worker: int = 500) -> CodecPool:
    """A pool whose workers do what they are told."""
    return CodecPool(workers, MEMORY_BYTES, task_seconds, tasks_per_worker=tasks_per_worker, task=misbehave)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def hasty() -> AsyncIterator[CodecPool]:
    """A pool in which half a second is all that an image gets; the tests share it, since it has to survive them."""
    async with pool(task_seconds=0.5) as opened:
        yield opened


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


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A named pipe, which lets a test wait for a task without sleeping."""
    path = tmp_path / "told"
    os.mkfifo(path)
    return path


async def test_images_are_compressed_in_worker_processes_as_in_this_one() -> None:
    """The pool gives what compress gives, for many images at once, and passes reasons on."""
    source = encoded(photograph(), "JPEG", quality=92)
    async with CodecPool(2, MEMORY_BYTES, 60.0) as opened:
        results = await asyncio.gather(*(opened.compress(source, Options(quality=q)) for q in (50, 40, 30, 20)))
        assert results == [compress(source, Options(quality=q)) for q in (50, 40, 30, 20)]
        with pytest.raises(ImageError) as caught:
            await opened.compress(source[:1000], OPTIONS)
    assert (caught.value.code, caught.value.retryable) == ("truncated", False)


@pytest.mark.parametrize("order", [b"crash", b"killed"])
async def test_an_image_that_kills_its_worker_fails_alone(hasty: CodecPool, order: bytes) -> None:
    """Its neighbours finish, and the next image finds a worker."""
    results = await asyncio.gather(
        *(hasty.compress(data, OPTIONS) for data in (b"pid", order, b"pid", b"pid")), return_exceptions=True
    )
    assert isinstance(results[1], ImageError)
    assert (results[1].code, results[1].retryable) == ("worker_crashed", True)
    assert all(isinstance(results[index], Compressed) for index in (0, 2, 3))
    assert await worker_of(hasty) > 0


@pytest.mark.parametrize(("order", "retryable"), [(b"memory", False), (b"xcpu", False), (b"hang", True)])
async def test_an_image_that_overruns_its_limits_is_too_complex(
    hasty: CodecPool, order: bytes, retryable: bool
) -> None:
    """CPU time and memory, which another try would take again, and time by the clock, which others may have taken."""
    error = await failure(hasty, order)
    assert (error.code, error.retryable) == ("too_complex", retryable)
    assert await worker_of(hasty) > 0


async def test_an_image_that_never_ends_is_too_complex(hasty: CodecPool) -> None:
    """By its CPU time, or by the clock where others have the processor."""
    assert (await failure(hasty, b"spin")).code == "too_complex"
    assert await worker_of(hasty) > 0


async def given(opened: CodecPool, images: int) -> None:
    """Returns once the workers there are were given so many images."""
    while sum(process.images for process in opened._processes) < images:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0)


async def waiting_in(opened: CodecPool, fifo: Path) -> tuple[asyncio.Task[Compressed], int]:
    """An image that waits in a worker until something is written to `fifo`, and that worker's process id."""
    waiting = asyncio.create_task(opened.compress(f"tell and wait:{fifo}".encode(), OPTIONS))
    return waiting, await told(fifo)


def next_told(fifo: Path, second: Path) -> int:
    """Lets what waits at `fifo` go on, and gives what is told at `second` then; the event loop stands still for it."""
    with os.fdopen(os.open(second, os.O_RDONLY | os.O_NONBLOCK)) as telling:
        fifo.write_text("go on")
        assert select.select([telling], [], [], 60)[0], "nothing is told"
        return int(telling.read())


async def test_a_worker_has_the_next_image_before_it_is_done(fifo: Path, tmp_path: Path) -> None:
    """It begins with that by itself, though its service does nothing."""
    second = tmp_path / "second"
    os.mkfifo(second)
    async with pool(workers=1) as opened:
        first, pid = await waiting_in(opened, fifo)
        behind = asyncio.create_task(opened.compress(f"tell and hang:{second}".encode(), OPTIONS))
        await given(opened, 2)
        assert next_told(fifo, second) == pid
        assert not first.done()
        assert int((await first).data) == pid
        behind.cancel()
        await asyncio.wait([behind])


async def test_an_image_behind_one_that_ends_its_worker_is_worked_on_by_another(fifo: Path) -> None:
    """It had not begun: it has no part in that, and no try was made of it."""
    async with pool(workers=1, task_seconds=0.5) as opened:
        for order in (b"crash", b"killed", b"xcpu", b"hang", b"spin"):
            failing = asyncio.create_task(failure(opened, order))
            assert await worker_of(opened) > 0, order
            assert (await failing).code in {"worker_crashed", "too_complex"}
        waiting, pid = await waiting_in(opened, fifo)
        behind = asyncio.create_task(worker_of(opened))
        await given(opened, 2)
        waiting.cancel()
        assert await behind != pid


async def test_an_image_is_not_charged_for_a_worker_that_ends_between_two() -> None:
    """The one before was answered, and this one lay ready in the socket of a process that never came to it."""
    async with CodecPool(1, MEMORY_BYTES, 30.0, task=die) as opened:
        for _ in range(3):
            last, behind = await asyncio.gather(*(opened.compress(order, OPTIONS) for order in (b"last", b"")))
            assert last.data != behind.data


async def test_cancelling_an_image_that_waits_in_a_worker_leaves_it_the_one_in_work(fifo: Path) -> None:
    """That one finishes; the worker, whose next answer nobody wants, is replaced behind it."""
    async with pool(workers=1) as opened:
        first, pid = await waiting_in(opened, fifo)
        behind = asyncio.create_task(opened.compress(b"pid", OPTIONS))
        await given(opened, 2)
        behind.cancel()
        await asyncio.wait([behind])
        assert await worker_of(opened) != pid
        await asyncio.to_thread(fifo.write_text, "go on")
        assert int((await first).data) == pid
        await gone(pid)


async def test_nothing_waits_in_a_worker_behind_an_image_that_may_take_long(fifo: Path) -> None:
    """Another worker may be free before; and one such image takes no more than one worker."""
    header = b"BM" + bytes(12) + struct.pack("<iii", 40, 3840, 2048)  # of eight megapixels
    order = header + f"\ntell and wait:{fifo}".encode()
    assert cost_of(order, OPTIONS).work_seconds > 0.2
    async with pool(workers=2) as opened:
        long = asyncio.create_task(opened.compress(order, OPTIONS))
        pid = await told(fifo)
        others = await asyncio.gather(*(worker_of(opened) for _ in range(8)))
        assert pid not in others
        await asyncio.to_thread(fifo.write_text, "go on")
        assert int((await long).data) == pid


async def test_an_image_gets_as_much_memory_as_it_costs() -> None:
    """Less than its worker may take; the limit is its own, and gone with it."""
    order = b"some"
    assert cost_bytes(order, OPTIONS) < 300 << 20 < MEMORY_BYTES
    async with pool(workers=1) as opened:
        before = await worker_of(opened)
        error = await failure(opened, order)
        assert (error.code, error.retryable) == ("too_complex", False)
        assert await worker_of(opened) == before


@pytest.mark.parametrize(("images", "at_once"), [(0.5, 1), (2.0, 2)])
async def test_no_more_images_are_in_work_than_the_budget_has_memory_for(
    tmp_path: Path, images: float, at_once: int
) -> None:
    """Each takes what it costs, though there are more workers; one that costs more than all there is is alone."""
    order = str(tmp_path).encode()
    budget_bytes = round(images * cost_bytes(order, OPTIONS))
    async with CodecPool(3, MEMORY_BYTES, 30.0, task=count, budget_bytes=budget_bytes) as opened:
        counts = await asyncio.gather(*(opened.compress(order, OPTIONS) for _ in range(12)))
    assert 1 <= max(int(counted.data) for counted in counts) <= at_once


async def test_workers_may_take_long_to_start(hasty: CodecPool, fifo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images wait for as long as it takes; the pool does not take it for its own end, which would start it over."""
    monkeypatch.setenv("SLOW_CODEC", str(fifo))
    async with CodecPool(1, MEMORY_BYTES, 0.01, task=slow_codec.answer) as opened:
        waiting = asyncio.create_task(opened.compress(b"patient", OPTIONS))
        with await asyncio.to_thread(fifo.open, "w"):  # when its worker begins to import
            await failure(hasty, b"hang")  # goes on for many times what the pool above would wait for an answer
            assert not waiting.done()
        assert (await waiting).data == b"patient"


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


async def test_an_image_that_is_merely_broken_keeps_its_worker() -> None:
    """A reason costs no process, and a mistake in the code is told as what it is."""
    async with pool(workers=1) as opened:
        before = await worker_of(opened)
        assert (await failure(opened, b"fail")).code == "corrupt"
        error = await failure(opened, b"mistake")
        assert (error.code, error.retryable) == ("worker_crashed", True)
        assert "a mistake in the code" in error.detail
        assert await worker_of(opened) == before


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


def test_a_reason_can_be_stored_whatever_it_says() -> None:
    """MongoDB takes no half of a character, and nobody reads a megabyte."""
    said = {"code": "corrupt", "detail": "\ud800" + "x" * 10_000, "retryable": False}
    with pytest.raises(ImageError) as caught:
        result_of(Frame(json.dumps({"refused": said}).encode()))
    assert len(caught.value.detail.encode()) == 2000


def test_a_result_is_named_by_the_bytes_that_came() -> None:
    """A worker that was taken over cannot have its bytes stored in the name of others."""
    result = result_of(Frame(json.dumps({"made": WHOLE}).encode(), b"bytes"))
    assert (result.name, result.data) == (content_name(b"bytes", "jpg"), b"bytes")


@pytest.mark.parametrize(("body", "parts"), [(b"", 1), (b"x", 2)])
def test_nothing_empty_is_given_to_be_sent(body: bytes, parts: int) -> None:
    """The event loop of Python 3.12 tries for ever to send the rest of what has no bytes."""
    sent = Frame(b"{}", body).parts
    assert len(sent) == parts
    assert all(sent)


@pytest.mark.parametrize("seconds", [None, 30.0], ids=["at once", "piece by piece"])
def test_a_frame_of_more_than_a_socket_holds_comes_whole(seconds: float | None) -> None:
    """Also where the system takes a part of it only; behind the last comes nothing."""
    frame = Frame(b"head", bytes(range(256)) * 40_000)
    ours, theirs = socket.socketpair()
    ours.settimeout(seconds)
    with theirs, ThreadPoolExecutor() as threads:
        with ours:
            sending = threads.submit(write, ours, frame)
            assert read(theirs) == frame
            sending.result()
        assert read(theirs) is None


async def test_a_worker_that_was_taken_over_can_only_fail_its_own_image() -> None:
    """What it says is neither unpickled nor believed, and it is ended."""
    async with CodecPool(1, MEMORY_BYTES, 30.0, task=lie) as opened:
        for said in LIES:
            error = await failure(opened, said.encode())
            assert (error.code, error.retryable) == ("worker_crashed", True)
            assert "talks nonsense" in error.detail
            assert (await opened.compress(b"truth", OPTIONS)).data == b"truth"


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


async def test_closing_ends_every_worker_and_fails_what_runs(fifo: Path) -> None:
    """A hung image holds up no shutdown; who waits for it, or comes later, learns that he may try again."""
    opened = pool(workers=2)
    async with opened:
        idle = await worker_of(opened)
        waiting = asyncio.create_task(failure(opened, f"tell and hang:{fifo}".encode()))
        busy = await told(fifo)
        await opened.close()
        error = await waiting
        assert (error.code, error.retryable) == ("worker_crashed", True)
        assert not psutil.pid_exists(idle)
        assert not psutil.pid_exists(busy)
        await opened.close()
    assert (await failure(opened, b"pid")).code == "worker_crashed"


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
