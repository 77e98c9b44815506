"""How a codec process tells that it begins with an image."""

import os
from contextlib import suppress


class Beginnings:
    """A byte in a pipe for each image: unlike an answer it wakes nobody up, and nothing can take it back.

    `theirs` is the end that the process writes to.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe()
        self._open = {self._ours, self.theirs}
        os.set_blocking(self._ours, False)
        self._told = 0

    def hand_over(self) -> None:
        """Leaves the other end to the process alone."""
        self._close(self.theirs)

    def next(self) -> bool:
        """Whether the process has begun with the image behind the one that was asked for before."""
        if not self._told:
            self._read()
        has_begun = self._told > 0
        self._told -= has_begun
        return has_begun

    def close(self) -> None:
        """Takes what the process has told until its end; can be repeated."""
        self._read()
        self._close(self._ours)
        self._close(self.theirs)

    def _close(self, end: int) -> None:
        if end in self._open:
            self._open.remove(end)
            os.close(end)

    def _read(self) -> None:
        if self._ours in self._open:
            with suppress(BlockingIOError):
                self._told += len(os.read(self._ours, 1 << 16))
