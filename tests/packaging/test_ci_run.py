"""`.ci/run` on a project that stands in for ours, with programs that stand in for what it looks for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
README = "```sh\ncat state && : '.[test]' -m tests\n```\n"
PYTHON = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
OLD_PYTHON = f"""#!/bin/sh
exec "{sys.executable}" -c "import platform, sys
sys.version_info, platform.python_version = (3, 10, 12), lambda: '3.10.12'
$2"
"""


def command(path: Path, text: str) -> None:
    """Makes a program."""
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose README tells to show the file `state`: `committed` at HEAD, and `changed` since."""
    folder = tmp_path / "project"
    (folder / ".ci").mkdir(parents=True)
    command(folder / ".ci" / "run", SCRIPT.read_text(encoding="utf-8"))
    (folder / "README.md").write_text(README)
    (folder / "state").write_text("committed\n")
    git = ("git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *arguments], check=True)
    (folder / "state").write_text("changed\n")
    return folder


def ci_run(project: Path, *, python: str = PYTHON) -> subprocess.CompletedProcess[str]:
    """Runs the script where nothing is missing, so that it installs nothing."""
    programs = project.parent / "programs"
    programs.mkdir(exist_ok=True)
    command(programs / "python3", python)
    command(programs / "ldconfig", "#!/bin/sh\necho 'libcurl.so.4 (libc6)'\n")
    for name in ("chromium", "curl"):
        command(programs / name, "#!/bin/sh\n")
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    return subprocess.run(
        [project / ".ci" / "run"], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )


def test_it_runs_the_command_of_the_readme_where_it_stands(project: Path) -> None:
    """Without a virtual environment, what is tested is the tree as it is, and the command is shown."""
    done = ci_run(project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["cat state && : '.[test]' -m tests", "changed"]


def test_beside_somebodys_environment_it_says_that_it_tests_a_clone(project: Path) -> None:
    """Changes that are not committed are not tested, and nobody is to believe that they are."""
    (project / ".venv").mkdir()
    done = ci_run(project)
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("A .venv is here already, so this tests a clone of HEAD, ")
    assert last == "committed"


def test_it_refuses_an_old_python_with_a_sentence(project: Path) -> None:
    """Before anything is installed."""
    done = ci_run(project, python=OLD_PYTHON)
    assert done.returncode == 1
    assert done.stderr == "Darkroom needs Python 3.11 or newer, and python3 here is 3.10.12.\n"
    assert done.stdout == ""
