import asyncio
import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from libs.storage import LocalStorage, StorageError, open_storage
from tests.full_disks import SIZE, file_system_command, small_file_system

ROOT = Path(__file__).parents[2]
DATA = b"a compressed image"
NAME = f"{hashlib.sha256(DATA).hexdigest()}.jpg"


def files(root: Path) -> list[Path]:
    """Every file below `root`, hidden ones too."""
    return sorted(path for path in root.rglob("*") if path.is_file())


async def test_an_output_is_found_by_its_name_in_the_folder_of_its_first_characters(tmp_path: Path) -> None:
    """What was put is there, whole, and nothing else is left in the folder."""
    storage = open_storage((tmp_path / "images").as_uri())
    await storage.prepare()
    assert storage.path(NAME) is None
    async with storage.writing():
        await storage.put(NAME, DATA)
    assert storage.path(NAME) == tmp_path / "images" / NAME[:2] / NAME
    assert [path.read_bytes() for path in files(tmp_path)] == [DATA]


async def test_putting_twice_leaves_the_first(tmp_path: Path) -> None:
    """Names are content: an output that is there is not written again."""
    storage = LocalStorage(tmp_path)
    async with storage.writing():
        await storage.put(NAME, DATA)
        path = storage.path(NAME)
        assert path is not None
        before = path.stat()
        await storage.put(NAME, DATA)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_many_writers_of_the_same_output_do_not_disturb_one_another(tmp_path: Path) -> None:
    """Two watchers that hold the same image store it at the same time."""
    storage, other = LocalStorage(tmp_path), LocalStorage(tmp_path)
    async with storage.writing(), other.writing():
        await asyncio.gather(*(store.put(NAME, DATA) for store in [storage, other] * 10))
    assert [path.read_bytes() for path in files(tmp_path)] == [DATA]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../" + NAME,
        "/etc/passwd",
        NAME.upper(),
        NAME[:-4],
        NAME + "/",
        NAME + "\n",
        NAME + "\0",
        NAME[1:],
        "." + NAME[1:],
        NAME[:-3] + "../x",
        "é" * 64 + ".jpg",
        "\u0661" * 64 + ".jpg",
    ],
)
async def test_a_malformed_name_is_neither_found_nor_written(tmp_path: Path, name: str) -> None:
    """No name leads out of the folder, whatever lies there."""
    outside = tmp_path / NAME
    outside.write_bytes(b"outside")
    storage = LocalStorage(tmp_path / "images")
    await storage.prepare()
    assert storage.path(name) is None
    async with storage.writing():
        with pytest.raises(ValueError, match="content name"):
            await storage.put(name, DATA)
    assert files(tmp_path) == [outside]


async def test_a_folder_is_no_output(tmp_path: Path) -> None:
    """Only files are served."""
    (tmp_path / NAME[:2] / NAME).mkdir(parents=True)
    assert LocalStorage(tmp_path).path(NAME) is None


async def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The kernel refuses the rest of a write half-way through; what was written is gone, and the cause is kept."""
    storage = LocalStorage(tmp_path)
    await storage.prepare()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    async with storage.writing():
        try:
            with pytest.raises(StorageError) as caught:
                await storage.put(NAME, bytes(1_000_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EFBIG
        assert (caught.value.code, caught.value.retryable) == ("storage_error", True)
        assert files(tmp_path) == []
        await storage.put(NAME, DATA)
    assert storage.path(NAME) is not None


async def test_one_output_that_cannot_be_stored_fails_alone(tmp_path: Path) -> None:
    """Of those that are written together the others are stored, and only its own caller is told."""
    storage = LocalStorage(tmp_path)
    names = [f"{start}{'0' * 62}.jpg" for start in ("aa", "bb", "cc")]
    (tmp_path / "bb").write_text("in the way of a folder")
    async with storage.writing():
        done = await asyncio.gather(*(storage.put(name, DATA) for name in names), return_exceptions=True)
    assert [type(outcome) for outcome in done] == [type(None), StorageError, type(None)]
    assert [storage.path(name) is not None for name in names] == [True, False, True]
    assert not any((tmp_path / ".incoming").iterdir())


async def test_what_killed_writers_left_is_removed_once_it_is_an_hour_old(tmp_path: Path) -> None:
    """A temporary file that may still be written stays; outputs stay however old they are."""
    storage = LocalStorage(tmp_path)
    async with storage.writing():
        await storage.put(NAME, DATA)
    output = storage.path(NAME)
    assert output is not None
    left, fresh = (tmp_path / ".incoming" / f"{NAME}.{end}" for end in ("left", "fresh"))
    for path in (left, fresh):
        path.write_bytes(b"a part")
    now = fresh.stat().st_mtime
    for path, age_seconds in ((left, 3700), (fresh, 3500), (output, 10_000)):
        os.utime(path, (now - age_seconds, now - age_seconds))
    await storage.prepare()
    assert files(tmp_path) == sorted([fresh, output])


SYNCING = """
import asyncio, os, sys
from pathlib import Path
from libs.storage import LocalStorage
opened = []
def note(event, details):
    if event == "open" and details[2] & os.O_DIRECTORY:
        opened.append(os.path.relpath(details[0], sys.argv[1]))
sys.addaudithook(note)
storage = LocalStorage(Path(sys.argv[1]))
async def main():
    async with storage.writing():
        for name in sys.argv[2:]:
            await storage.put(name, b"x")
            print(*opened)
            opened.clear()
asyncio.run(main())
"""


@pytest.mark.skipif(file_system_command() is None, reason="nobody may mount a file system here")
async def test_an_output_that_does_not_fit_leaves_its_room_to_the_next() -> None:
    """Both are written together, and the part of the first is gone before the second is begun."""
    command = file_system_command()
    assert command is not None
    async with small_file_system(command) as disk:
        storage = LocalStorage(disk.root)
        await storage.prepare()
        names = [f"{start}{'0' * 62}.jpg" for start in ("aa", "bb")]
        async with storage.writing():
            done = await asyncio.gather(
                storage.put(names[0], bytes(2 * SIZE)), storage.put(names[1], bytes(SIZE // 2)), return_exceptions=True
            )
        assert [type(outcome) for outcome in done] == [StorageError, type(None)]
        assert [path.name for path in files(disk.root)] == names[1:]


SYNC_FAILS = """
import asyncio, errno, os, sys
from pathlib import Path
from libs.storage import LocalStorage, StorageError
failing = {"open": 1}
def fail(event, details):
    if event == "open" and os.path.basename(details[0]) == "aa" and failing["open"]:
        failing["open"] -= 1
        raise OSError(errno.EIO, "as the kernel says it, once")
sys.addaudithook(fail)
storage = LocalStorage(Path(sys.argv[1]))
async def main():
    async with storage.writing():
        done = await asyncio.gather(*(storage.put(name, b"x") for name in sys.argv[2:]), return_exceptions=True)
        print(*(type(outcome).__name__ for outcome in done))
asyncio.run(main())
"""


ONE_FAILS = """
import asyncio, errno, os, sys
from pathlib import Path
from libs.storage import LocalStorage
_, root, step, *names = sys.argv
pipe, _ = os.pipe()
def descriptors():
    entries = [(int(entry), os.path.join("/proc/self/fd", entry)) for entry in os.listdir("/proc/self/fd")]
    return [fd for fd, link in entries if os.path.lexists(link) and names[0] in os.readlink(link)]
def fail(event, details):
    at = str(details[0]) if details else ""
    if step == "fsync" and event == "open" and names[1] in at:
        for descriptor in descriptors():
            os.dup2(pipe, descriptor)  # which cannot be flushed to disk
    elif step == "close" and event == "os.rename" and names[0] in at:
        for descriptor in descriptors():
            os.close(descriptor)
    elif step == "unlink" and event == "os.rename" and names[0] in at:
        raise OSError(errno.EIO, "not to be moved")
    elif step == "unlink" and event == "os.remove" and names[0] in at:
        raise OSError(errno.EACCES, "nor to be removed")
sys.addaudithook(fail)
storage = LocalStorage(Path(root))
async def main():
    async with storage.writing():
        done = await asyncio.gather(*(storage.put(name, b"x") for name in names), return_exceptions=True)
        for name, error in zip(names, done):
            print(error and errno.errorcode[error.__cause__.errno], storage.path(name) is not None)
        print(len(list(Path(root, ".incoming").iterdir())))
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("step", "error", "is_there", "left"),
    [("fsync", "EINVAL", False, 0), ("close", "EBADF", True, 0), ("unlink", "EIO", False, 1)],
)
def test_a_step_that_fails_for_one_output_fails_it_alone(
    tmp_path: Path, step: str, error: str, is_there: bool, left: int
) -> None:
    """It cannot be flushed, closed or removed: its caller is told of the first error, and the others are stored."""
    names = [f"{start}{'0' * 62}.jpg" for start in ("aa", "bb", "cc")]
    done = subprocess.run(
        [sys.executable, "-c", ONE_FAILS, tmp_path, step, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:-1] == [f"{error} {is_there}", "None True", "None True", str(left)]


def test_a_folder_that_cannot_be_made_durable_is_told_to_all_whose_outputs_are_in_it(tmp_path: Path) -> None:
    """The kernel tells of it once; the outputs of other folders are stored."""
    names = [f"{start}{number}{'0' * 61}.jpg" for start, number in (("aa", 1), ("bb", 1), ("aa", 2))]
    done = subprocess.run(
        [sys.executable, "-c", SYNC_FAILS, tmp_path, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["StorageError", "NoneType", "StorageError"]


REPEATED = """
import asyncio, errno, os, sys
from pathlib import Path
from libs.storage import LocalStorage, StorageError
left = 1
def fail(event, details):
    global left
    if event == "open" and os.path.basename(details[0]) == "aa" and left:
        left -= 1
        raise OSError(errno.EIO, "as the kernel says it, once")
sys.addaudithook(fail)
storage = LocalStorage(Path(sys.argv[1]))
place = Path(sys.argv[1], "aa", sys.argv[2])
async def main():
    async with storage.writing():
        try:
            await storage.put(sys.argv[2], b"x")
        except StorageError:
            held = place.open("rb")  # keeps its number from being given away again
            await storage.put(sys.argv[2], b"x")
            print(os.fstat(held.fileno()).st_ino != place.stat().st_ino, held.read() == place.read_bytes())
asyncio.run(main())
"""


def test_an_output_is_written_again_where_its_folder_could_not_be_made_durable(tmp_path: Path) -> None:
    """The kernel does not tell the second time what it has lost, so that nothing that is there proves anything."""
    name = f"aa{'0' * 62}.jpg"
    done = subprocess.run(
        [sys.executable, "-c", REPEATED, tmp_path, name], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True"]


def test_an_output_that_is_there_is_made_durable_too(tmp_path: Path) -> None:
    """Whoever moved it there may have been killed before it was."""
    name = f"aa{'0' * 62}.jpg"
    (tmp_path / "aa").mkdir()
    (tmp_path / "aa" / name).write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-c", SYNCING, tmp_path, name], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["aa ."]


def test_the_root_is_synced_only_with_a_sub_folder_that_this_process_did_not_sync_yet(tmp_path: Path) -> None:
    """The second output of a sub-folder needs the sub-folder alone to be flushed to disk."""
    names = [f"{start}{'0' * 62}.jpg" for start in ("aa", "bb")] + [f"aa{'1' * 62}.jpg"]
    done = subprocess.run(
        [sys.executable, "-c", SYNCING, tmp_path, *names], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["aa .", "bb .", "aa"]


async def test_a_store_that_cannot_be_a_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    """A file stands where the folder should be: that is told before any image is claimed."""
    (tmp_path / "file").write_text("in the way")
    storage = LocalStorage(tmp_path / "file")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        await storage.prepare()
    assert isinstance(caught.value.__cause__, OSError)
    async with storage.writing():
        with pytest.raises(StorageError, match="cannot be stored"):
            await storage.put(NAME, DATA)


async def test_a_cancelled_put_leaves_the_whole_output_or_nothing(tmp_path: Path) -> None:
    """Wherever in its course it is cancelled, and its store with it, no temporary file stays behind."""
    for steps in range(12):
        storage = LocalStorage(tmp_path)
        data = bytes(100_000) + bytes([steps])
        name = f"{hashlib.sha256(data).hexdigest()}.jpg"
        async with storage.writing():
            putting = asyncio.create_task(storage.put(name, data))
            for _ in range(steps):
                await asyncio.to_thread(lambda: None)  # lets the threads that write go on a step or so
            putting.cancel()
            await asyncio.wait([putting])
        path = storage.path(name)
        assert path is None or path.read_bytes() == data
    assert all(path.parent.name == path.name[:2] for path in files(tmp_path))


@pytest.mark.parametrize(
    "url",
    ["", "/var/lib/images", "images", "file:relative", "file://host/images", "s3://bucket/x", "file:///a?b", "file:///a%00b"],
)  # fmt: skip
def test_only_an_absolute_file_url_names_a_store(url: str) -> None:
    """Anything else is refused, and the refusal says what is accepted."""
    with pytest.raises(ValueError, match="file:///absolute/path"):
        open_storage(url)


def test_a_store_with_spaces_in_its_path_is_found() -> None:
    """Percent-encoding is undone."""
    assert open_storage("file:///srv/my%20images").root == Path("/srv/my images")
    assert open_storage("file://localhost/srv").root == Path("/srv")
