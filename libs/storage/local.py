"""A folder of outputs, which several watchers write and several ingest services serve."""

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import aiofiles.os

from libs.runtime.batches import Batches
from libs.storage.incoming import Incoming, each, settling

P = ParamSpec("P")
T = TypeVar("T")
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,8}", re.ASCII)

# In the root itself, so that a rename never crosses file systems; no output's folder begins with a dot.
_INCOMING = ".incoming"
_ABANDONED_SECONDS = 3600.0

# In a thread of its own for each, an output took 22 switches between threads, two thirds of all that a watcher made.
_BATCH = 32
_PACE_SECONDS = 0.05


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


@dataclass(frozen=True, slots=True)
class _New:
    name: str
    data: bytes


class LocalStorage:
    """Outputs in a folder `root`, each in the sub-folder of its name's first two characters."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable_folders: set[Path] = set()
        self._doubtful_folders: set[Path] = set()
        self._new: Batches[_New, Exception | None] = Batches(self._store, most=_BATCH, pace_seconds=_PACE_SECONDS)

    async def prepare(self) -> None:
        """Makes the folder, proves that it can be written, and removes what killed writers left an hour ago or more.

        Raises:
            StorageError: it cannot.
        """
        try:
            await _in_thread(self._prepare)
        except OSError as error:
            raise StorageError(f"{self.root} cannot be written: {error}") from error

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Stores what is put while the context lasts; a batch that has begun is brought to its end."""
        async with self._new.running("store"):
            yield

    async def put(self, name: str, data: bytes) -> None:
        """Stores `data` under its content name, durably, unless it is there already; to be called while `writing`.

        It is written beside and renamed, so that nobody ever sees a part of it. Where many are put they are written
        in batches: what comes behind others waits for a twentieth of a second, or for the end of the batch before. A
        cancelled call leaves either the whole output or nothing.

        Raises:
            ValueError: `name` is no content name.
            StorageError: the disk is full or broken, or the folder is gone; nothing is left behind.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a content name")
        error = await self._new.result(_New(name, data))
        if isinstance(error, OSError):
            raise StorageError(f"{name} cannot be stored: {error}") from error
        if error is not None:
            raise error

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
        temporary = self._temporary("probe")
        probe = Incoming(b"darkroom", temporary, self._temporary("nowhere"))
        with settling([probe]):
            probe.write()
            probe.flush()
            _remove_abandoned(temporary)
        if probe.error:
            raise probe.error

    async def _store(self, batch: Sequence[_New]) -> Sequence[Exception | None]:
        writing = asyncio.create_task(_in_thread(self._put_all, batch), name="store a batch")
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:  # a thread goes on
            await asyncio.wait([writing])
            raise

    def _put_all(self, batch: Sequence[_New]) -> list[Exception | None]:
        """What kept each from being stored, if anything did."""
        outputs = [self._incoming(new) for new in batch]
        with settling(outputs):
            for step in (Incoming.write, Incoming.flush, Incoming.move):
                each(outputs, step)
            # Of those too that were there: who moved them may have been killed before this, or have erred at it.
            for folder in {output.place.parent for output in outputs if output.error is None}:
                error = self._synced(folder)
                for output in outputs:
                    if output.place.parent == folder:
                        output.error = output.error or error
        return [output.error for output in outputs]

    def _incoming(self, new: _New) -> Incoming:
        place = self._place(new.name)
        doubtful = place.parent in self._doubtful_folders
        return Incoming(new.data, self._temporary(new.name), place, doubtful=doubtful)

    def _synced(self, folder: Path) -> OSError | None:
        """Makes renames in `folder` durable; the first time also the making of `folder`, whoever made it.

        Once for all of them: what went wrong is told by the kernel one time only. Whoever asks again hears that all is
        well, though what was renamed before may be lost; so nothing that is there is relied upon any more.
        """
        try:
            _sync(folder)
            if folder not in self._durable_folders:
                _sync(folder.parent)
                self._durable_folders.add(folder)
        except OSError as error:
            self._doubtful_folders.add(folder)
            return error
        return None

    def _place(self, name: str) -> Path:
        return self.root / name[:2] / name

    def _temporary(self, name: str) -> Path:
        return self.root / _INCOMING / f"{name}.{secrets.token_hex(8)}"


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
