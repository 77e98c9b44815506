"""Ties a child process to its parent: when the parent dies, even by kill -9, the kernel sends the child SIGTERM."""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # prctl(2)


def tethered(argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` tied to the process (more exactly, the thread) that starts it.

    On Linux only; elsewhere `argv` runs untied. The tie is set by a short Python process that then becomes `argv`,
    since running code between fork and exec is not safe in a process with threads.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]


def _main() -> None:
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(argv[0], argv)  # noqa: S606 (becoming the child is the point)


if __name__ == "__main__":
    _main()
