"""Compresses one file thrice as a worker does, and tells the KiB that were resident before and at the most."""

import sys
from pathlib import Path

from libs.imaging import Options, worker


def resident(name: str) -> str:
    """A figure of this process's, by the name that the kernel gives it (proc(5))."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(line.split()[1] for line in status.splitlines() if line.startswith(name))


if __name__ == "__main__":
    worker.load("libs.imaging.compression")
    from libs.imaging import compress

    data = Path(sys.argv[1]).read_bytes()
    options = Options.from_document({"format": sys.argv[2]}, max_pixels=10**9)
    before = resident("VmRSS")
    for _ in range(3):
        compress(data, options)
    print(before, resident("VmHWM"))
