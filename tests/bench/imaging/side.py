"""A process that compresses what it is told to, as one side of a comparison."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self


class Side:
    """Runs a module of `tests.bench.imaging.sides`, by name, and has it compress the files of a folder.

    Its modules are compiled once and not at each start, whatever the environment says: compiling all of Pillow leaves
    so much free memory in a process that images of a megapixel find room there, and never trap into the kernel.
    """

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.imaging.sides.{name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        )

    def __enter__(self) -> Self:
        """The process starts with its object."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._process.communicate()

    def seconds(self, folder: Path, asked: dict[str, Any], times: int = 1) -> tuple[float, int]:
        """Compresses all files of a folder so many times: CPU seconds for each, and the bytes of all outputs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([str(folder), asked, times]), file=self._process.stdin, flush=True)
        seconds, made = self._process.stdout.readline().split()
        return float(seconds), int(made)


def put(folder: Path, files: tuple[bytes, ...]) -> None:
    """Writes the files into a new folder."""
    folder.mkdir()
    for number, data in enumerate(files):
        (folder / f"{number:02}").write_bytes(data)
