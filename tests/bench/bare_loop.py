"""The bare Pillow loop in two processes: reads files, saves them at quality 50, and does nothing else.

`python -m tests.bench.bare_loop` is one of them. For each line that names a folder, a part and how many parts there are
it saves its part of the folder's files.
"""

import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.bench.children import Child, child, say

QUALITY = 50


@dataclass(frozen=True, slots=True)
class Looped:
    """What one run took, and the bytes of all outputs."""

    images: int
    seconds: float
    cpu_seconds: float
    bytes_out: int

    @property
    def per_second(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclass(frozen=True, slots=True)
class BareLoop:
    """The running processes."""

    processes: Sequence[Child]

    async def run(self, folder: Path) -> Looped:
        """Saves every file of `folder` once."""
        began, parts = time.perf_counter(), len(self.processes)
        for part, process in enumerate(self.processes):
            await process.tell(f"{part} {parts} {folder}")
        done = [await process.answer() for process in self.processes]
        seconds = time.perf_counter() - began
        sums = {name: sum(answer[name] for answer in done) for name in done[0]}
        return Looped(sums["images"], seconds, sums["cpu_seconds"], sums["bytes_out"])


@asynccontextmanager
async def bare_loop(processes: int = os.cpu_count() or 1) -> AsyncIterator[BareLoop]:
    """Keeps as many processes as the machine has cores while the context lasts."""
    async with AsyncExitStack() as stack:
        yield BareLoop([await stack.enter_async_context(child(__name__)) for _ in range(processes)])


def _save(paths: Sequence[Path], target: Path) -> None:
    began, bytes_out = time.process_time(), 0
    for path in paths:
        Image.open(path).save(target, "JPEG", quality=QUALITY)
        bytes_out += target.stat().st_size
    say(images=len(paths), cpu_seconds=time.process_time() - began, bytes_out=bytes_out)


def _serve() -> None:
    with tempfile.TemporaryDirectory() as name:
        for line in sys.stdin:
            part, parts, folder = line.rstrip("\n").split(" ", 2)
            _save(sorted(Path(folder).iterdir())[int(part) :: int(parts)], Path(name) / "output.jpg")


if __name__ == "__main__":
    _serve()
