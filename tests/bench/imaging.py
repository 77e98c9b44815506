"""The codecs against plain Pillow on the same photographs: `python -m tests.bench.imaging [speed] [pool] [memory]`.

`speed`: CPU seconds per image of `compress`, with all its checks, and of Pillow's `open` and `save`, turn by turn, on
files that both have in memory: medians, the ratio and the middle half of its rounds, and by how much the outputs differ
in bytes. Each side is a process of its own as it would run, new for each case, so that no case profits from what an
earlier one left: a process that takes memory from the system for every image traps into the kernel for every page of
it, and on a virtual machine that is up to half of Pillow's time. Two more figures tell that apart from the rest. `kept`
is Pillow made to keep its memory as a worker does (plain Pillow comes near it once it has had a far larger image), and
`codec` is libjpeg-turbo with one strict decoding and one encoding and nothing else: less than that cannot be had.

`pool`: what handing over between processes costs, and two workers against one, beside what two bare loops and two
processes that share nothing reach on this machine. `memory`: the most that a worker takes for 1, 12 and 50 megapixels,
beside what `cost_bytes` says. All without arguments.

Exits 1 when a promise is broken: 1.3 times Pillow's speed from JPEG to JPEG, 1.0 otherwise, 2 % of bytes; two workers
1.9 times one where two loops reach 1.95. Not kept, or not each time, and printed as broken: gray, where the bare codec
takes nine tenths of the time and there are no colours to save on; 100x100, whose checks take as long as its codec;
AVIF, where both sides wait for the same encoder and less than a hundredth is left to save.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from PIL import Image

from libs.imaging import CodecPool, Options, cost_bytes
from tests.bench.photographs import encoded, photograph, sides

MIB = 2**20
FASTER, AS_FAST, BYTES = 1.3, 1.0, 0.02
TWICE, REAL_CORES = 1.9, 1.95
TURN_SECONDS, CASE_SECONDS = 0.03, 4.0


@dataclass(frozen=True)
class Case:
    """Sources of one kind and what is made of them; `promise` is the least ratio of speeds."""

    name: str
    files: tuple[bytes, ...]
    promise: float
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def is_plain_jpeg(self) -> bool:
        """Whether a decoder and an encoder of JPEG are all that it takes."""
        return self.promise == FASTER and not self.asked


class Side:
    """A process that compresses what it is told to, and tells the CPU seconds of an image and the bytes it made."""

    def __init__(self, script: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        """The process starts with its object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._process.communicate()

    def seconds(self, folder: Path, asked: dict[str, Any], times: int = 1) -> tuple[float, int]:
        """Compresses all files of a folder so many times."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([str(folder), asked, times]), file=self._process.stdin, flush=True)
        seconds, made = self._process.stdout.readline().split()
        return float(seconds), int(made)


LOOP = """
import json, sys, time
from pathlib import Path
def serve(work):
    for line in sys.stdin:
        folder, asked, times = json.loads(line)
        files = [path.read_bytes() for path in sorted(Path(folder).iterdir())] * times
        made = 0
        began = time.process_time()
        for data in files:
            made += len(work(data, asked))
        print((time.process_time() - began) / len(files), made // times, flush=True)
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

KEPT = 'from libs.imaging import worker; worker.load("PIL.Image")' + PILLOW

CODEC = (
    LOOP
    + """
from libs.imaging import worker
worker.load("simplejpeg")
import simplejpeg
def work(data, asked):
    gray = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
    samples = simplejpeg.decode_jpeg(data, "GRAY" if gray else "RGB", fastupsample=True)
    return simplejpeg.encode_jpeg(samples, 50, "GRAY" if gray else "RGB", "Gray" if gray else "420")
serve(work)
"""
)

SPIN = """
import sys, time
for line in sys.stdin:
    began = time.perf_counter()
    for _ in range(10_000_000):
        pass
    print(time.perf_counter() - began, 0, flush=True)
"""


def cases() -> list[Case]:
    """Photographs of several sizes as JPEG, and the other formats."""
    one, four, twelve = (photograph(*sides(megapixels)) for megapixels in (1, 4, 12))
    # Different ones, since a processor learns by heart what it decodes again and again.
    small = [photograph(300 + index, 200) for index in range(16)]
    tiny = [photograph(100 + index, 100) for index in range(16)]
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

    def case(name: str, image: Image.Image, form: str, promise: float = AS_FAST, **made: object) -> Case:
        return Case(name, (encoded(image, form, **made),), promise)

    def several(name: str, images: list[Image.Image]) -> Case:
        return Case(name, tuple(encoded(image, "JPEG", quality=85) for image in images), FASTER)

    def to(form: str, image: Image.Image, source: str, promise: float = AS_FAST, **made: object) -> Case:
        return Case(f"{source} 1 MP -> {form}", (encoded(image, source, **made),), promise, {"format": form.lower()})

    large = encoded(twelve, "JPEG", quality=90)
    return [
        *(case(f"JPEG {name} -> JPEG", image, "JPEG", FASTER, **made) for name, image, made in jpegs),
        case("JPEG 1 MP progressive -> JPEG", one, "JPEG", FASTER, quality=85, progressive=True),
        case("JPEG 1 MP gray -> JPEG", one.convert("L"), "JPEG", FASTER, quality=85),
        several("JPEG 300x200 -> JPEG", small),
        several("JPEG 100x100 -> JPEG", tiny),
        case("JPEG 4 MP turned -> JPEG", four, "JPEG", FASTER, quality=88, exif=side.tobytes()),
        Case("JPEG 12 MP -> 1000 px", (large,), FASTER, {"max_width": 1000}),
        case("PNG 1 MP -> JPEG", one, "PNG"),
        case("PNG 4 MP -> JPEG", four, "PNG"),
        case("PNG 1 MP RGBA -> JPEG", clear, "PNG"),
        case("WebP 1 MP -> JPEG", one, "WEBP", quality=85),
        case("GIF 1 MP -> JPEG", one.quantize(256), "GIF"),
        case("TIFF 1 MP -> JPEG", one, "TIFF"),
        case("BMP 1 MP -> JPEG", one, "BMP"),
        case("AVIF 1 MP -> JPEG", one, "AVIF", quality=70, speed=9),
        to("WebP", one, "JPEG", quality=88),
        to("PNG", one, "JPEG", quality=88),
        to("AVIF", one, "JPEG", quality=88),
        to("WebP", one, "WebP", quality=85),
    ]


def speed() -> bool:
    """Prints a line for each case; whether all promises held."""
    with tempfile.TemporaryDirectory() as name:
        held = [compared(case, Path(name) / str(number)) for number, case in enumerate(cases())]
        return all(held)


def compared(case: Case, folder: Path) -> bool:
    """Prints the medians of as many rounds as take some seconds; whether the promise held."""
    put(folder, case.files)
    scripts = [OURS, PILLOW, KEPT, *([CODEC] if case.is_plain_jpeg else [])]
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(script)) for script in scripts]
        for side in sides:
            side.seconds(folder, case.asked, 2)
        first = [side.seconds(folder, case.asked) for side in sides]
        turn = max(seconds for seconds, _ in first) * len(case.files)
        times = max(1, round(TURN_SECONDS / turn))
        rounds = max(7, min(40, int(CASE_SECONDS / turn / times / len(sides))))
        taken = [[side.seconds(folder, case.asked, times)[0] for side in sides] for _ in range(rounds)]
    ours, pillow, kept, *codec = (statistics.median(side) * 1e3 for side in zip(*taken, strict=True))
    low, ratio, high = statistics.quantiles(row[1] / row[0] for row in taken)
    more = first[0][1] / first[1][1] - 1
    fast, close = ratio >= case.promise, more <= BYTES
    print(
        f"{case.name:30} {ours:7.2f} ms, Pillow {pillow:7.2f}: {ratio:5.2f} x ({low:.2f} to {high:.2f}; promised "
        f"{case.promise}{'' if fast else ', BROKEN'}), {more:+.1%} bytes{'' if close else ' BROKEN'}; "
        f"kept {kept:7.2f} ({kept / ours:.2f} x)" + "".join(f"; codec {alone:6.2f}" for alone in codec),
        flush=True,
    )
    return fast and close


def put(folder: Path, files: tuple[bytes, ...]) -> None:
    """Writes the files into a new folder."""
    folder.mkdir()
    for number, data in enumerate(files):
        (folder / f"{number:02}").write_bytes(data)


async def pool() -> bool:
    """Prints what a hand-over costs, and two workers against one, on JPEGs of one and twelve megapixels."""
    loops = await asyncio.to_thread(scaling_of, SPIN, b"", 6)
    print(f"two loops that share nothing but the cores: {loops:.2f} x one", flush=True)
    held = True
    for megapixels, count in ((1, 240), (12, 24)):
        data = encoded(photograph(*sides(megapixels)), "JPEG", quality=88)
        runs = [await in_pool(data, count, workers) for workers in (1, 2, 1, 2, 1, 2)]
        (one, working), (two, _) = min(runs[::2]), min(runs[1::2])
        bare = await asyncio.to_thread(scaling_of, OURS, data, count)
        broken = loops >= REAL_CORES and one / two < TWICE
        print(
            f"{megapixels:2} MP: {one * 1e3:.2f} ms an image by a worker, of which {(one - working) * 1e3:.2f} ms for "
            f"handing over ({len(data) / 1e6:.2f} MB in); two workers {one / two:.2f} x one{' BROKEN' * broken} "
            f"(two processes that share nothing: {bare:.2f})",
            flush=True,
        )
        held = held and not broken
    return held


def scaling_of(script: str, data: bytes, count: int) -> float:
    """What two processes do against one on this machine, now, where nothing but the cores is shared."""
    with tempfile.TemporaryDirectory() as name, Side(script) as one, Side(script) as other:
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


CHILD = """
import sys
from libs.imaging import Options, worker
worker.load("libs.imaging.compression")
from libs.imaging import compress
data = open(sys.argv[1], "rb").read()
options = Options.from_document({"format": sys.argv[2]}, max_pixels=10**9)
for _ in range(3):
    compress(data, options)
status = open("/proc/self/status").read()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def memory() -> None:
    """Prints the most resident memory of a process that compresses images of one kind, as a worker does."""
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
    held = speed() if not asked or "speed" in asked else True
    if not asked or "pool" in asked:
        held = asyncio.run(pool()) and held
    if not asked or "memory" in asked:
        memory()
    return int(not held)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
