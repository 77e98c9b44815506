"""Outputs on their way into a folder, step by step for many of them.

Each step gives the interpreter up, and a thread has to win it back from a busy event loop. So there are few, and those
of one kind follow each other: the kernel then writes its journal for several outputs at once.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Incoming:
    """An output that is written to `temporary`, flushed to disk and moved to its `place`, unless it is there already.

    One that is `doubtful` is written again though it is there. `error` is what kept it from being stored; nothing more
    is done to it then.
    """

    def __init__(self, data: bytes, temporary: Path, place: Path, *, doubtful: bool = False) -> None:
        self.place = place
        self._is_doubtful = doubtful
        self.error: Exception | None = None
        self._is_moved = False
        self._data = data
        self._temporary = temporary
        self._descriptor: int | None = None

    def write(self) -> None:
        """Begins a temporary file with all its bytes; the folder is made when it turns out not to be there."""
        if self.place.exists() and not self._is_doubtful:
            return
        try:
            self._descriptor = self._created()
        except FileNotFoundError:
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = self._created()
        left = memoryview(self._data)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def flush(self) -> None:
        """Makes the temporary file durable."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def move(self) -> None:
        """Renames it within its file system; the folder it goes to is made when it turns out not to be there."""
        if self._descriptor is None:
            return
        try:
            self._temporary.replace(self.place)
        except FileNotFoundError:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.replace(self.place)
        self._is_moved = True

    def settle(self) -> None:
        """Closes the file, and removes it where it did not come to its place; can be repeated.

        What keeps it from that is its error, if it had none before.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            try:
                os.close(descriptor)
            finally:
                if not self._is_moved:
                    self._temporary.unlink(missing_ok=True)
        except OSError as error:
            self.error = self.error or error

    def _created(self) -> int:
        return os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def each(outputs: Iterable[Incoming], step: Callable[[Incoming], None]) -> None:
    """Takes a step with all that had no error before."""
    for output in outputs:
        if output.error is None:
            try:
                step(output)
            except Exception as error:  # noqa: BLE001 (its own caller is told, and the others' are stored)
                output.error = error
                output.settle()  # the next one may fit into the room that it took


@contextmanager
def settling(outputs: Sequence[Incoming]) -> Iterator[None]:
    """Leaves no file open and no temporary file behind, whatever happens in the context."""
    try:
        yield
    finally:
        for output in outputs:
            output.settle()
