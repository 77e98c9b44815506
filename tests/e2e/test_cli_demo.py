"""`darkroom demo` as a newcomer runs it."""

import re
from pathlib import Path

from services.cli.amounts import size
from tests.e2e.commands import broken, darkroom


def names(folder: Path) -> set[str]:
    """The names of all that stands in a folder or below it."""
    return {path.name for path in folder.rglob("*")}


def text(path: str) -> str:
    """What a file says."""
    return Path(path).read_text(encoding="utf-8")


async def test_the_demo_does_the_main_job_and_shows_that_it_did(tmp_path: Path) -> None:
    """Exit 0, sizes as the webhook tells them, its signature, and nothing left; settings around it do not count."""
    (tmp_path / ".env").write_text("DARKROOM_MAX_IMAGES=1\nDARKROOM_LEASE_SECONDS=soon\n")
    (tmp_path / "tmp").mkdir()
    settings = {
        "DARKROOM_PORT": "1",
        "DARKROOM_WEBHOOK_SECRET": "guess",
        "MONGO_CONNECTION_STRING": "mongodb://nowhere",
    }
    done = await darkroom("demo", folder=tmp_path, TMPDIR=str(tmp_path / "tmp"), **settings)
    assert done.code == 0, done.out + done.err
    assert "completed: 7 of 7 images" in done.out
    assert re.search(r"^7 images in \d+\.\d s \(", done.out, re.MULTILINE)
    saved = re.search(r"6 photographs, each counted once: (\S+ MB) became (\S+ [kM]B), (\d+) % saved", done.out)
    assert saved
    assert int(saved[3]) > 50
    told = re.search(r'"bytes_in":\s*(\d+),\s*"bytes_out":\s*(\d+)', done.out)
    assert told, done.out
    assert saved.groups()[:2] == tuple(size(int(count)) for count in told.groups())
    assert f"{size(int(told[1]) - int(told[2]))} saved ({saved[3]} %)" in done.out
    assert "vase.png" in done.out
    assert re.search(r"webhook-signature: v1,\S+", done.out)
    assert "ok      the webhook's signature verifies" in done.out
    assert "FAILED" not in done.out
    assert done.out.endswith("All of it held.\n")
    assert names(tmp_path / "tmp") == set()


async def test_a_demo_that_is_kept_says_where(tmp_path: Path) -> None:
    """With --keep the images and the services' logs can be looked at."""
    done = await darkroom("demo", "--keep", folder=tmp_path, TMPDIR=str(tmp_path))
    assert done.code == 0, done.out + done.err
    kept = re.search(r"Everything is kept in (\S+);", done.out)
    assert kept
    folder = Path(kept[1])
    assert len([name for name in names(folder / "images") if name.endswith(".jpg")]) == 6
    assert names(folder / "logs") == {"demo.log", "ingest.log", "watcher.log", "notifier.log"}


async def test_a_demo_whose_service_cannot_start_says_why(tmp_path: Path) -> None:
    """It does not wait for its time to be over: the import error is shown, and where the whole log is."""
    done = await darkroom("demo", folder=tmp_path, TMPDIR=str(tmp_path), **broken("notifier", tmp_path))
    assert done.code == 2
    assert "Error: notifier ended 3 times before it was ready, at last with exit code 1, saying:\n" in done.err
    assert "  ImportError: notifier is broken here\n" in done.err
    log = re.search(r"Its log is (\S+/logs/notifier\.log)\.\n$", done.err)
    assert log
    assert text(log[1]).count("\nImportError: notifier is broken here\n") == 3
