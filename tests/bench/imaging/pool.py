"""Worker processes: what handing over costs, and what a second one brings."""

import asyncio
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from libs.imaging import CodecPool, Options
from tests.bench.imaging.side import Side, put
from tests.bench.photographs import encoded, photograph, sides

TWICE, REAL_CORES = 1.9, 1.95


async def pool() -> bool:
    """Prints what a hand-over costs, and two workers against one, on JPEGs of one and twelve megapixels."""
    loops = await asyncio.to_thread(scaling_of, "loop", b"", 6)
    print(f"two loops that share nothing but the cores: {loops:.2f} x one", flush=True)
    held = True
    for megapixels, count in ((1, 240), (12, 24)):
        data = encoded(photograph(*sides(megapixels)), "JPEG", quality=88)
        runs = [await in_pool(data, count, workers) for workers in (1, 2, 1, 2, 1, 2)]
        (one, working), (two, _) = min(runs[::2]), min(runs[1::2])
        bare = await asyncio.to_thread(scaling_of, "ours", data, count)
        broken = loops >= REAL_CORES and one / two < TWICE
        print(
            f"{megapixels:2} MP: {one * 1e3:.2f} ms an image by a worker, of which {(one - working) * 1e3:.2f} ms for "
            f"handing over ({len(data) / 1e6:.2f} MB in); two workers {one / two:.2f} x one{' BROKEN' * broken} "
            f"(two processes that share nothing: {bare:.2f})",
            flush=True,
        )
        held = held and not broken
    return held


def scaling_of(side_name: str, data: bytes, count: int) -> float:
    """What two processes do against one on this machine, now, where nothing but the cores is shared."""
    with tempfile.TemporaryDirectory() as name, Side(side_name) as one, Side(side_name) as other:
        folder = Path(name) / "image"
        put(folder, (data,))
        walls = []
        for working in ((one,), (one, other)) * 3:
            began = time.perf_counter()
            with ThreadPoolExecutor() as threads:
                list(threads.map(lambda side: [side.seconds(folder, {}) for _ in range(count)], working))
            walls.append((time.perf_counter() - began) / len(working))
    return min(walls[::2]) / min(walls[1::2])


async def in_pool(data: bytes, count: int, workers: int) -> tuple[float, float]:
    """Seconds per image when `workers` work on as many as they can, and seconds that a worker was at work on one."""
    async with CodecPool(workers, 4 << 30, 120.0) as opened:
        await asyncio.gather(*(opened.compress(data, Options()) for _ in range(4 * workers)))
        began = time.perf_counter()
        results = await asyncio.gather(*(opened.compress(data, Options()) for _ in range(count)))
        wall = (time.perf_counter() - began) / count
        return wall, statistics.mean(result.decode_seconds + result.encode_seconds for result in results)
