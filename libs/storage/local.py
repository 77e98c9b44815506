"""A folder of outputs, which several watchers write and several ingest services serve."""

import asyncio
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import aiofiles.os

P = ParamSpec("P")
T = TypeVar("T")
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,8}", re.ASCII)

# In the root itself, so that a rename never crosses file systems; no output's folder begins with a dot.
_INCOMING = ".incoming"
_ABANDONED_SECONDS = 3600.0


class StorageError(Exception):
    """The store cannot be read or written now; the cause is the operating system's error."""

    code = "storage_error"
    retryable = True

    @property
    def detail(self) -> str:
        """What went wrong, for people."""
        return str(self)


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """All that is done to a file in one thread: a hop for each of the ten steps took longer than the steps."""
    result: T = await aiofiles.os.wrap(work)(*args, **kwargs)
    return result


class LocalStorage:
    """Outputs in a folder `root`, each in the sub-folder of its name's first two characters."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable_folders: set[Path] = set()

    async def prepare(self) -> None:
        """Makes the folder, proves that it can be written, and removes what killed writers left an hour ago or more.

        Raises:
            StorageError: it cannot.
        """
        try:
            await _in_thread(self._prepare)
        except OSError as error:
            raise StorageError(f"{self.root} cannot be written: {error}") from error

    async def put(self, name: str, data: bytes) -> None:
        """Stores `data` under its content name, durably, unless it is there already.

        It is written beside and renamed, so that nobody ever sees a part of it. A cancelled call still brings a begun
        write to its end before it gives way: that leaves either the whole output or nothing.

        Raises:
            ValueError: `name` is no content name.
            StorageError: the disk is full or broken, or the folder is gone; nothing is left behind.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a content name")
        writing = asyncio.create_task(_in_thread(self._put, name, data), name=f"store {name}")
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise
        except OSError as error:
            raise StorageError(f"{name} cannot be stored: {error}") from error

    async def holds(self, name: str) -> bool:
        """Whether an output of this name is in the store.

        Raises:
            StorageError: the folder cannot be read.
        """
        try:
            return await _in_thread(self.path, name) is not None
        except OSError as error:
            raise StorageError(f"{name} cannot be looked for: {error}") from error

    def path(self, name: str) -> Path | None:
        """The file of an output; None if there is none of that name, or if it is no content name at all."""
        if not _NAME.fullmatch(name):
            return None
        path = self._place(name)
        return path if path.is_file() else None

    def _prepare(self) -> None:
        (self.root / _INCOMING).mkdir(parents=True, exist_ok=True)
        probe = self._temporary("probe")
        try:
            _write_durably(probe, b"darkroom")
            _remove_abandoned(probe)
        finally:
            probe.unlink(missing_ok=True)

    def _put(self, name: str, data: bytes) -> None:
        place = self._place(name)
        if place.exists():
            return
        temporary = self._temporary(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_durably(temporary, data)
            temporary.replace(place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync_folder(place.parent)

    def _sync_folder(self, folder: Path) -> None:
        """Makes a rename in `folder` durable; the first time also the making of `folder`, whoever made it."""
        _sync(folder)
        if folder not in self._durable_folders:
            _sync(folder.parent)
            self._durable_folders.add(folder)

    def _place(self, name: str) -> Path:
        return self.root / name[:2] / name

    def _temporary(self, name: str) -> Path:
        return self.root / _INCOMING / f"{name}.{secrets.token_hex(8)}"


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove_abandoned(probe: Path) -> None:
    """Removes the old files beside `probe`, which was written just now: ages are by the file system's own clock."""
    newest = probe.stat().st_mtime
    for path in probe.parent.iterdir():
        with suppress(FileNotFoundError):  # its writer has just finished, or another watcher removes it too
            if newest - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
