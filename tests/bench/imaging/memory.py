"""The most memory that a worker takes, for sources of several sizes."""

import subprocess
import sys
import tempfile
from pathlib import Path

from libs.imaging import Options, cost_bytes
from tests.bench.photographs import encoded, photograph, sides

_MIB = 2**20
_AVIF_MEGAPIXELS = 12


def memory() -> bool:
    """Prints the most resident memory of a process that compresses images of one kind, as a worker does.

    Whether each took no more, beyond what the process had before, than `cost_bytes` says.
    """
    held = True
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "image"
        for megapixels in (1, 12, 50):
            image = photograph(*sides(megapixels))
            for source, form in (("JPEG", "jpeg"), ("PNG", "jpeg"), ("JPEG", "webp"), ("JPEG", "avif")):
                if form == "avif" and megapixels > _AVIF_MEGAPIXELS:
                    continue
                data = encoded(image, source, **({"quality": 88} if source == "JPEG" else {"compress_level": 1}))
                path.write_bytes(data)
                before, most = _taken(path, form)
                cost = cost_bytes(data, Options.from_document({"format": form}, max_pixels=10**9))
                broken = most - before > cost
                print(
                    f"{megapixels:2} MP {source} -> {form}: {most / _MIB:5.0f} MiB at the most, "
                    f"{before / _MIB:3.0f} before, cost {cost / _MIB:5.0f}{' BROKEN' * broken}",
                    flush=True,
                )
                held = held and not broken
    return held


def _taken(path: Path, form: str) -> tuple[int, int]:
    """Bytes that were resident before the first image, and at the most."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.imaging.sides.peak", str(path), form],
        capture_output=True,
        text=True,
        check=True,
    )
    before, most = (int(kibibytes) << 10 for kibibytes in done.stdout.split())
    return before, most
