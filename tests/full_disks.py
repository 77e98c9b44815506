"""Stores that get full and empty again: a small file system of their own, or files that may not grow."""

import asyncio
import os
import resource
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.waiting import until

SIZE = 2**20
ROOM = 2**16
"""What still fits into a full store, in bytes."""

# The mount is seen by this process alone; others reach it by way of /proc, and it goes when the process ends.
_MOUNT = f"mount -t tmpfs -o size={SIZE},mode=0700 darkroom /mnt && echo mounted && exec cat"
_AS_ROOT = ("unshare", "--mount", "sh", "-c", _MOUNT)
_AS_ANYBODY = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT)


class Disk(Protocol):
    """What a store is on; `root` is its folder."""

    root: Path

    async def fill(self, pid: int) -> None:
        """Leaves the process `pid`, which writes there, no room for more than `ROOM`."""

    def empty(self, pid: int) -> None:
        """Makes room again."""


@dataclass(slots=True)
class SmallFileSystem:
    """A file system of `SIZE` bytes: what does not fit errs with ENOSPC."""

    root: Path

    async def fill(self, pid: int) -> None:
        """Fills it with a file beside the store's own."""
        assert pid
        used = sum(path.stat().st_blocks * 512 for path in self.root.rglob("*") if path.is_file())

        async def has_room() -> bool:
            system = os.statvfs(self.root)
            return system.f_bfree * system.f_frsize >= SIZE - used - ROOM

        await until(has_room, "what was removed from the file system is no longer read")
        self._filler.write_bytes(bytes(SIZE - used - ROOM))

    def empty(self, pid: int) -> None:
        """Removes that file."""
        assert pid
        self._filler.unlink()

    @property
    def _filler(self) -> Path:
        return self.root / "filler"


@dataclass(slots=True)
class Limit:
    """A limit on the size of any file that the process writes: what is beyond errs with EFBIG, half written."""

    root: Path

    async def fill(self, pid: int) -> None:
        """Sets the limit."""
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (ROOM, hard))

    def empty(self, pid: int) -> None:
        """Lifts it."""
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def file_system_command() -> tuple[str, ...] | None:
    """The command that mounts a small file system here; None: nothing that this user may do does."""
    for command in (_AS_ROOT, _AS_ANYBODY):
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except FileNotFoundError:
            return None
        if done.returncode == 0:
            return command
    return None


@asynccontextmanager
async def small_file_system(command: tuple[str, ...]) -> AsyncIterator[SmallFileSystem]:
    """An empty file system, mounted while the context lasts."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"mounted\n"
        yield SmallFileSystem(Path(f"/proc/{process.pid}/root/mnt"))
    finally:
        await process.communicate(b"")
