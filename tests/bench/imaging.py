"""The codecs against plain Pillow on the same photographs: `python -m tests.bench.imaging [speed] [pool] [memory]`.

`speed`: CPU seconds per image of `compress`, with all its checks, and of Pillow's `open` and `save`, image by image in
turn, each in a process of its own as it would run; the ratio, and by how much the outputs differ in bytes. `pool`: what
handing over between processes costs, and two workers against one. `memory`: the most a worker takes for 1, 12 and 50
megapixels, beside what `cost_bytes` says. All without arguments.

Exits 1 when a promise is broken: 1.3 times Pillow's speed from JPEG to JPEG, 1.0 otherwise, 2 % of bytes. Not kept so
far, and printed as broken, for progressive, gray, turned and tiny JPEGs, where libjpeg's work or the checks are most of
it, nor for PNG, whose check sums Pillow leaves unchecked.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from libs.imaging import CodecPool, Options, cost_bytes
from tests.bench.photographs import encoded, photograph, sides

MIB = 2**20
FASTER, AS_FAST, BYTES = 1.3, 1.0, 0.02


@dataclass(frozen=True)
class Case:
    """A source and what is made of it; `promise` is the least ratio of speeds."""

    name: str
    data: bytes
    promise: float
    asked: dict[str, Any] = field(default_factory=dict)


class Side:
    """A process that compresses what it is told to, and tells the CPU seconds that it took and the bytes it made."""

    def __init__(self, script: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, path: Path, asked: dict[str, Any]) -> tuple[float, int]:
        """Compresses the file once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([str(path), asked]), file=self._process.stdin, flush=True)
        seconds, made = self._process.stdout.readline().split()
        return float(seconds), int(made)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


LOOP = """
import json, sys, time
def serve(work):
    for line in sys.stdin:
        path, asked = json.loads(line)
        data = open(path, "rb").read()
        began = time.process_time()
        made = work(data, asked)
        print(time.process_time() - began, len(made), flush=True)
"""

OURS = (
    LOOP
    + """
from libs.imaging import Options, worker
worker.load("libs.imaging.compression")
from libs.imaging import compress
serve(lambda data, asked: compress(data, Options(max_pixels=10**9, **asked)).data)
"""
)

PILLOW = (
    LOOP
    + """
import io
from PIL import Image, ImageOps
def work(data, asked):
    image = Image.open(io.BytesIO(data))
    form = asked.get("format", "jpeg")
    if "max_width" in asked:
        image.thumbnail((asked["max_width"], 100_000), Image.Resampling.LANCZOS)
    image = ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image
    if form == "jpeg" and image.mode in {"RGBA", "P"}:
        clear = image.convert("RGBA")
        image = Image.new("RGB", clear.size, "white")
        image.paste(clear, mask=clear.getchannel("A"))
    output = io.BytesIO()
    image.save(output, form.upper(), quality=50, **({"max_threads": 1} if form == "avif" else {}))
    return output.getvalue()
serve(work)
"""
)


def cases() -> list[Case]:
    """Photographs of several sizes as JPEG, and the other formats."""
    one, four, twelve = (photograph(*sides(megapixels)) for megapixels in (1, 4, 12))
    small = photograph(300, 200)
    clear = one.copy()
    clear.putalpha(Image.radial_gradient("L").resize(one.size))
    side = Image.Exif()
    side[0x0112] = 6
    jpegs = [
        ("1 MP", one, {"quality": 85}),
        ("1 MP 4:4:4", one, {"quality": 92, "subsampling": 0}),
        ("4 MP", four, {"quality": 88}),
        ("12 MP", twelve, {"quality": 90}),
    ]
    return [
        *(Case(f"JPEG {name} -> JPEG", encoded(image, "JPEG", **made), FASTER) for name, image, made in jpegs),
        Case("JPEG 1 MP progressive -> JPEG", encoded(one, "JPEG", quality=85, progressive=True), FASTER),
        Case("JPEG 1 MP gray -> JPEG", encoded(one.convert("L"), "JPEG", quality=85), FASTER),
        Case("JPEG 300x200 -> JPEG", encoded(small, "JPEG", quality=85), FASTER),
        Case("JPEG 4 MP turned -> JPEG", encoded(four, "JPEG", quality=88, exif=side.tobytes()), FASTER),
        Case("JPEG 12 MP -> 1000 px", encoded(twelve, "JPEG", quality=90), FASTER, {"max_width": 1000}),
        Case("PNG 1 MP -> JPEG", encoded(one, "PNG"), AS_FAST),
        Case("PNG 4 MP -> JPEG", encoded(four, "PNG"), AS_FAST),
        Case("PNG 1 MP RGBA -> JPEG", encoded(clear, "PNG"), AS_FAST),
        Case("WebP 1 MP -> JPEG", encoded(one, "WEBP", quality=85), AS_FAST),
        Case("GIF 1 MP -> JPEG", encoded(one.quantize(256), "GIF"), AS_FAST),
        Case("TIFF 1 MP -> JPEG", encoded(one, "TIFF"), AS_FAST),
        Case("BMP 1 MP -> JPEG", encoded(one, "BMP"), AS_FAST),
        Case("AVIF 1 MP -> JPEG", encoded(one, "AVIF", quality=70, speed=9), AS_FAST),
        Case("JPEG 1 MP -> WebP", encoded(one, "JPEG", quality=88), AS_FAST, {"format": "webp"}),
        Case("JPEG 1 MP -> PNG", encoded(one, "JPEG", quality=88), AS_FAST, {"format": "png"}),
        Case("JPEG 1 MP -> AVIF", encoded(one, "JPEG", quality=88), AS_FAST, {"format": "avif"}),
        Case("WebP 1 MP -> WebP", encoded(one, "WEBP", quality=85), AS_FAST, {"format": "webp"}),
    ]


def speed() -> bool:
    """Prints a line for each case; whether all promises held."""
    ours, pillow = Side(OURS), Side(PILLOW)
    try:
        with tempfile.TemporaryDirectory() as name:
            held = [compared(case, ours, pillow, Path(name) / "image") for case in cases()]
            return all(held)
    finally:
        ours.close()
        pillow.close()


def compared(case: Case, ours: Side, pillow: Side, path: Path) -> bool:
    """Prints the medians of as many rounds as take some seconds; whether the promise held."""
    path.write_bytes(case.data)
    first = ours.seconds(path, case.asked)[0] + pillow.seconds(path, case.asked)[0]
    rounds = max(7, min(80, int(5 / first)))
    pairs = [(ours.seconds(path, case.asked), pillow.seconds(path, case.asked)) for _ in range(rounds)]
    taken, others = (statistics.median(seconds for seconds, _ in side) for side in zip(*pairs, strict=True))
    more = pairs[0][0][1] / pairs[0][1][1] - 1
    fast = others / taken >= case.promise
    close = more <= BYTES
    promise = f"(promised {case.promise}){'' if fast else ' BROKEN'}"
    print(
        f"{case.name:28} {taken * 1e3:8.2f} ms  Pillow {others * 1e3:8.2f} ms  {others / taken:5.2f} x {promise:22}"
        f"{more:+.1%} bytes{'' if close else ' BROKEN'}",
        flush=True,
    )
    return fast and close


async def pool() -> None:
    """Prints what a hand-over costs, and two workers against one, on JPEGs of one and twelve megapixels."""
    for megapixels, count in ((1, 240), (12, 24)):
        data = encoded(photograph(*sides(megapixels)), "JPEG", quality=88)
        runs = [await in_pool(data, count, workers) for workers in (1, 2, 1, 2)]
        (one, working), (two, _) = min(runs[0], runs[2]), min(runs[1], runs[3])
        bare = await asyncio.to_thread(scaling_of, data, count)
        print(
            f"{megapixels:2} MP: {one * 1e3:.2f} ms an image by a worker, of which {(one - working) * 1e3:.2f} ms for "
            f"handing over ({len(data) / 1e6:.2f} MB in); two workers {one / two:.2f} x one "
            f"(two processes that share nothing but the cores: {bare:.2f})",
            flush=True,
        )


def scaling_of(data: bytes, count: int) -> float:
    """What two processes do against one on this machine, now, where nothing but the cores is shared."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "image"
        path.write_bytes(data)
        sides = [Side(OURS), Side(OURS)]
        try:
            walls = []
            for working in (sides[:1], sides, sides[:1], sides):
                began = time.perf_counter()
                with ThreadPoolExecutor() as threads:
                    list(threads.map(lambda side: [side.seconds(path, {}) for _ in range(count)], working))
                walls.append((time.perf_counter() - began) / len(working))
        finally:
            for side in sides:
                side.close()
    return min(walls[0], walls[2]) / min(walls[1], walls[3])


async def in_pool(data: bytes, count: int, workers: int) -> tuple[float, float]:
    """Seconds per image when `workers` work on as many as they can, and seconds that a worker was at work on one."""
    async with CodecPool(workers, 4 << 30, 120.0) as opened:
        await asyncio.gather(*(opened.compress(data, Options()) for _ in range(4 * workers)))
        began = time.perf_counter()
        results = await asyncio.gather(*(opened.compress(data, Options()) for _ in range(count)))
        wall = (time.perf_counter() - began) / count
        return wall, statistics.mean(result.decode_seconds + result.encode_seconds for result in results)


CHILD = """
import sys
from libs.imaging import Options, compress, cost_bytes
data = open(sys.argv[1], "rb").read()
options = Options.from_document({"format": sys.argv[2]}, max_pixels=10**9)
compress(data, options)
status = open("/proc/self/status").read()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def memory() -> None:
    """Prints the most resident memory of a process that compresses one image."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "image"
        for megapixels in (1, 12, 50):
            image = photograph(*sides(megapixels))
            for source, form in (("JPEG", "jpeg"), ("PNG", "jpeg"), ("JPEG", "webp"), ("JPEG", "avif")):
                if form == "avif" and megapixels > 12:
                    continue
                data = encoded(image, source, **({"quality": 88} if source == "JPEG" else {"compress_level": 1}))
                path.write_bytes(data)
                done = subprocess.run(
                    [sys.executable, "-c", CHILD, str(path), form], capture_output=True, text=True, check=True
                )
                cost = cost_bytes(data, Options.from_document({"format": form}, max_pixels=10**9))
                print(
                    f"{megapixels:2} MP {source} -> {form}: {int(done.stdout) / 1024:5.0f} MiB at the most, "
                    f"cost {cost / MIB:5.0f} MiB",
                    flush=True,
                )


def main(asked: list[str]) -> int:
    """Runs what was asked for, or all."""
    kept = speed() if not asked or "speed" in asked else True
    if not asked or "pool" in asked:
        asyncio.run(pool())
    if not asked or "memory" in asked:
        memory()
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
