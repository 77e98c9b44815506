"""The folder that `darkroom up` keeps everything in."""

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from libs.webhooks import parse_secret
from services.cli.data_folder import DataFolder, DataFolderError


def test_the_webhook_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """A second `up` on the same folder signs with the same secret."""
    data = DataFolder(tmp_path / "data")
    with data.locked():
        secret = data.webhook_secret()
    assert parse_secret(secret)
    assert DataFolder(tmp_path / "data").webhook_secret() == secret
    assert stat.S_IMODE((tmp_path / "data" / "webhook_secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_spoilt_webhook_secret_is_refused_with_its_place(tmp_path: Path) -> None:
    """It is not replaced silently: receivers know the old one."""
    (tmp_path / "webhook_secret").write_text("whsec_tooshort\n")
    with pytest.raises(DataFolderError, match="webhook_secret does not hold a webhook secret"):
        DataFolder(tmp_path).webhook_secret()


def test_two_cannot_hold_one_folder(tmp_path: Path) -> None:
    """The second is refused with a sentence, and let in when the first has left."""
    with (
        DataFolder(tmp_path).locked(),
        pytest.raises(DataFolderError, match="Another `darkroom up` is running on"),
        DataFolder(tmp_path).locked(),
    ):
        pytest.fail("both hold it")
    with DataFolder(tmp_path).locked():
        assert (tmp_path / "lock").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """Here a file stands in its place."""
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderError, match="cannot be used as data folder"), DataFolder(tmp_path / "file").locked():
        pytest.fail("it is a file")


def test_a_database_that_is_still_being_closed_is_waited_for(tmp_path: Path) -> None:
    """The MongoDB of an `up` that was killed ends a moment after it, and until then holds its lock."""
    lock = tmp_path / "mongo" / "member0" / "mongod.lock"
    lock.parent.mkdir(parents=True)
    script = (
        "import fcntl, sys\nlock = open(sys.argv[1], 'w')\nfcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\nsys.stdin.read(1)\nopen(sys.argv[1] + '.ended', 'w')\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        ending = threading.Timer(0.2, holder.stdin.close)
        ending.start()
        with DataFolder(tmp_path).locked():
            assert (lock.parent / "mongod.lock.ended").exists()
        ending.join()
