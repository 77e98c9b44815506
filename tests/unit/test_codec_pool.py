import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from libs.imaging import CodecPool, Compressed, ImageError, Options, compress, cost_bytes
from tests.unit import slow_codec
from tests.unit.codec_pools import MEMORY_BYTES, OPTIONS, failure, pool, told, worker_of
from tests.unit.codec_tasks import LIES, count, lie
from tests.unit.pictures import encoded, photograph


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def hasty() -> AsyncIterator[CodecPool]:
    """A pool in which half a second is all that an image gets; the tests share it, since it has to survive them."""
    async with pool(task_seconds=0.5) as opened:
        yield opened


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


async def test_an_image_that_is_merely_broken_keeps_its_worker() -> None:
    """A reason costs no process, and a mistake in the code is told as what it is."""
    async with pool(workers=1) as opened:
        before = await worker_of(opened)
        assert (await failure(opened, b"fail")).code == "corrupt"
        error = await failure(opened, b"mistake")
        assert (error.code, error.retryable) == ("worker_crashed", True)
        assert "a mistake in the code" in error.detail
        assert await worker_of(opened) == before


async def test_a_worker_that_was_taken_over_can_only_fail_its_own_image() -> None:
    """What it says is neither unpickled nor believed, and it is ended."""
    async with CodecPool(1, MEMORY_BYTES, 30.0, task=lie) as opened:
        for said in LIES:
            error = await failure(opened, said.encode())
            assert (error.code, error.retryable) == ("worker_crashed", True)
            assert "talks nonsense" in error.detail
            assert (await opened.compress(b"truth", OPTIONS)).data == b"truth"


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
