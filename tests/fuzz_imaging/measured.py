"""What the workers run while they are fuzzed: a compression that tells what it took."""

import json
import time
from pathlib import Path

from libs.imaging import Compressed, ImageError, Options, compress

_STATUS = Path("/proc/self/status")


def measured(data: bytes, options: Options) -> Compressed:
    """Compresses, and answers with JSON in place of the picture: how it ended, CPU seconds, bytes at the most."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the high-water mark (proc(5))
    began = time.process_time()
    try:
        made = compress(data, options)
        outcome, size = made.format, (made.width, made.height)
    except ImageError as error:
        outcome, size = error.code, (0, 0)
    except MemoryError:
        outcome, size = "too_complex", (0, 0)
    facts = {"outcome": outcome, "seconds": time.process_time() - began, "taken_bytes": _peak()}
    return Compressed.jpeg(json.dumps(facts).encode(), size, source_bytes=len(data))


def _peak() -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
