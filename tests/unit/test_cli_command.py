"""The darkroom command without a Darkroom: what it refuses, and what it needs installed."""

import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from services.cli.extras import MODULES

ROOT = Path(__file__).parents[2]
# The module by which a distribution is imported, where that is not its name.
MODULE_OF = {"pillow": "PIL"}


def darkroom(*arguments: str, folder: Path, without: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in `folder` with these settings alone; the module `without` counts as not installed."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(
        f"import sys\nsys.modules[{without!r}] = None\n" if without else ""
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "MONGO_"))}
    search = os.pathsep.join([str(folder / "site"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env={**kept, "PYTHONPATH": search, **settings},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_extras_are_probed_by_the_modules_they_bring() -> None:
    """The table holds every plain requirement of each extra in pyproject.toml."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, modules in MODULES.items():
        names = [re.split(r"[>=\[;]", requirement)[0] for requirement in declared[extra] if ";" not in requirement]
        assert set(modules) == {MODULE_OF.get(name, name.replace("-", "_")) for name in names}


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        (["ingest"], "aiohttp_swagger3", "ingest"),
        (["watcher"], "simplejpeg", "watcher"),
        (["submit", "products.csv"], "rich", "cli"),
        (["status", "x"], "rich", "cli"),
        (["deliveries"], "rich", "cli"),
        (["up"], "simplejpeg", "watcher"),
        (["demo"], "PIL", "all"),
    ],
)
def test_a_missing_extra_is_named(command: list[str], missing: str, extra: str, tmp_path: Path) -> None:
    """What is not installed is one sentence with the command that installs it."""
    (tmp_path / "products.csv").touch()
    done = darkroom(*command, folder=tmp_path, without=missing)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"Error: This needs more than is installed here: pip install 'darkroom[{extra}]'"
    ]


def test_a_client_needs_nothing_of_the_services(tmp_path: Path) -> None:
    """With the extra `cli` alone, there is no aiofiles, and a request can be asked for (nobody answers here)."""
    done = darkroom("status", "x", "--url", "http://127.0.0.1:1", folder=tmp_path, without="aiofiles")
    assert done.stderr.startswith("Error: Nothing answers at http://127.0.0.1:1")


@pytest.mark.parametrize("service", ["ingest", "watcher", "notifier"])
def test_a_service_takes_its_own_arguments(service: str, tmp_path: Path) -> None:
    """Everything behind the service's name is the service's, its help too; rich and the like need not be there."""
    done = darkroom(service, "--help", folder=tmp_path, without="rich")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: darkroom {service}")
    assert "--ready-fd" in done.stdout


def test_a_folder_of_the_same_name_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    """Called where somebody else's package `services` stands, the command still runs Darkroom's."""
    (tmp_path / "services" / "notifier").mkdir(parents=True)
    (tmp_path / "services" / "__init__.py").touch()
    (tmp_path / "services" / "notifier" / "__main__.py").write_text("raise SystemExit('not ours')")
    script = "import sys; sys.argv = ['darkroom', 'notifier', '--help']; from services.cli.__main__ import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("usage: darkroom notifier"), done.stderr


def test_up_says_when_its_port_is_taken(tmp_path: Path) -> None:
    """It says so before anything is started, MongoDB included."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = darkroom("up", "--port", str(port), folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: Port {port} of 127.0.0.1 cannot be used")
    assert "--port" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".darkroom" / "mongo").exists()


def test_up_says_which_setting_is_wrong(tmp_path: Path) -> None:
    """A setting that no service could run with is one sentence with its name."""
    done = darkroom("up", folder=tmp_path, DARKROOM_LEASE_SECONDS="soon")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: DARKROOM_LEASE_SECONDS: ")
    assert not (tmp_path / ".darkroom").exists()


def test_up_suggests_only_a_setting_that_is_like_the_misspelt_one(tmp_path: Path) -> None:
    """That both begin with DARKROOM_ is no likeness."""
    names = ("DARKROOM_QUALITY", "DARKROOM_WORKRES", "darkroom_lease_second", "DARKROOM_MONGO_CONECTION_STRING")
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it ends behind its warnings
        port = taken.getsockname()[1]
        done = darkroom("up", "--port", str(port), folder=tmp_path, **dict.fromkeys(names, "3"))
    assert sorted(done.stderr.splitlines()[:-1]) == [
        "Warning: there is no setting DARKROOM_MONGO_CONECTION_STRING; did you mean MONGO_CONNECTION_STRING?",
        "Warning: there is no setting DARKROOM_QUALITY.",
        "Warning: there is no setting DARKROOM_WORKRES; did you mean DARKROOM_WORKERS?",
        "Warning: there is no setting darkroom_lease_second; did you mean DARKROOM_LEASE_SECONDS?",
    ]


@pytest.mark.parametrize(
    "command",
    [["submit", "products.csv"], ["status", "x"], ["cancel", "x"], ["deliveries"], ["redeliver", "x"]],
)
def test_a_darkroom_that_is_not_there_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    """Connection refused says where it was looked for, by default where the settings say."""
    (tmp_path / "products.csv").touch()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        done = darkroom(*command, folder=tmp_path, DARKROOM_PORT=str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: Nothing answers at http://127.0.0.1:{port}")
    assert len(done.stderr.splitlines()) == 1


def test_an_address_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    """A base URL without a scheme does not end in a traceback."""
    done = darkroom("status", "x", "--url", "localhost:8000", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: 'localhost:8000' is no address of a Darkroom")


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    """Nothing is uploaded."""
    done = darkroom("submit", "missing.csv", folder=tmp_path)
    assert done.returncode == 2
    assert "'missing.csv' does not exist" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["msg_x", "--state", "failed"]])
def test_what_to_send_again_has_to_be_said_in_one_way(arguments: list[str], tmp_path: Path) -> None:
    """By nothing at all, everything would be sent again."""
    done = darkroom("redeliver", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert "Give the id of a delivery, or options that say which ones." in done.stderr
