"""The folder where `darkroom up` keeps its database, images and webhook secret; one `up` at a time."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from libs.webhooks import new_secret, parse_secret

_CLOSING_SECONDS = 30.0


class DataFolderError(Exception):
    """The folder cannot be used; the message says why."""


class DataFolder:
    """A folder of ours, made when it is not there; only its owner can look into it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def mongo(self) -> Path:
        """Of the embedded MongoDB."""
        return self.path / "mongo"

    @property
    def images_url(self) -> str:
        """DARKROOM_STORAGE for images in this folder."""
        return (self.path / "images").as_uri()

    @property
    def logs(self) -> Path:
        """Of the services, when they do not log to the terminal."""
        return self.path / "logs"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder while the context lasts; the lock ends with the process, however it ends.

        Waits for a MongoDB that is still closing the database, as after a kill -9 of the `up` that ran it.

        Raises:
            DataFolderError: another process holds it, or it cannot be made or written to.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.path / "lock").open("w", encoding="utf-8")
        except OSError as error:
            raise DataFolderError(f"{self.path} cannot be used as data folder: {error.strerror}.") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataFolderError(
                    f"Another `darkroom up` is running on {self.path}; stop it first, or choose another --data-dir."
                ) from None
            self._wait_for_mongod()
            yield

    def _wait_for_mongod(self) -> None:
        deadline = time.monotonic() + _CLOSING_SECONDS
        for path in self.mongo.glob("*/mongod.lock"):
            with path.open("r+", encoding="utf-8") as lock:
                while not _is_free(lock):
                    if time.monotonic() > deadline:
                        raise DataFolderError(f"A MongoDB that was left running uses {path.parent}; stop it first.")
                    time.sleep(0.05)  # flock(2) itself waits without a limit

    def webhook_secret(self) -> str:
        """The secret kept here, made the first time.

        Raises:
            DataFolderError: the file does not hold a secret.
        """
        path = self.path / "webhook_secret"
        if not path.exists():
            written = path.with_suffix(".new")
            written.unlink(missing_ok=True)
            with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as new:
                new.write(f"{new_secret()}\n")
                new.flush()
                os.fsync(new.fileno())
            written.rename(path)
        secret = path.read_text(encoding="utf-8").strip()
        try:
            parse_secret(secret)
        except ValueError as error:
            raise DataFolderError(
                f"{path} does not hold a webhook secret ({error}); delete it for a new one."
            ) from error
        return secret


def _is_free(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
