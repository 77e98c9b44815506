"""What the workers run while they are fuzzed: a compression that tells what it took."""

import io
import json
import time
from pathlib import Path

from PIL import Image

from libs.imaging import Compressed, ImageError, Options, compress

_STATUS = Path("/proc/self/status")


def measured(data: bytes, options: Options) -> Compressed:
    """Compresses, and answers with JSON in place of the picture: how it ended, CPU seconds, bytes at the most.

    What came of it is looked at afterwards: a file that is no picture of its size is a mistake in the code.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark (proc(5))
    began = time.process_time()
    made = None
    try:
        made = compress(data, options)
        outcome: str = made.format
    except ImageError as error:
        outcome = error.code
    except MemoryError:
        outcome = "too_complex"
    facts = {"outcome": outcome, "seconds": time.process_time() - began, "taken_bytes": _peak()}
    if made is not None:
        _check_picture(made)
    return Compressed.jpeg(json.dumps(facts).encode(), (1, 1), source_bytes=len(data))


def _check_picture(made: Compressed) -> None:
    with Image.open(io.BytesIO(made.data), formats=[made.format.upper()]) as image:
        image.load()
        if image.size != (made.width, made.height):
            raise AssertionError(f"{image.size} and not {made.width}x{made.height}")


def _peak() -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
