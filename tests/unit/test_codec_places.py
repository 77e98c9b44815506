import asyncio
import os
import select
import struct
from pathlib import Path

from libs.imaging import CodecPool
from libs.imaging.cost import cost_of
from tests.unit.codec_pools import MEMORY_BYTES, OPTIONS, failure, given, gone, pool, told, waiting_in, worker_of
from tests.unit.codec_tasks import die


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
