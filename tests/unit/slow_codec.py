"""A task whose module takes as long to import as a test wants, as any module does on a busy machine."""

import os
from pathlib import Path

from libs.imaging import Compressed, Options

if gate := os.environ.get("SLOW_CODEC"):
    Path(gate).read_text()  # a FIFO: reads on when whoever holds its other end closes it


def answer(data: bytes, options: Options) -> Compressed:
    """Does nothing with an image."""
    return Compressed.jpeg(data, (1, 1), source_bytes=options.max_pixels)
