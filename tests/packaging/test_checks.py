"""`python -m tests`, as far as it is about how pytest is run, on a test that stands in for ours."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.__main__ import PYTEST, SCRIPTS

TEST = """import os

def test_it():
    assert os.environ.get("PYTEST_XDIST_WORKER", "none")[:2] == "{worker}"
"""


@pytest.mark.parametrize(("further", "worker"), [((), "gw"), (("-n", "0"), "no")])
def test_tests_run_side_by_side_unless_told_otherwise(further: tuple[str, ...], worker: str, tmp_path: Path) -> None:
    """What is handed on to pytest has the last word on that, and pytest's closing line comes last."""
    (tmp_path / "test_it.py").write_text(TEST.format(worker=worker))
    program, *arguments = PYTEST
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env = {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}  # others take their time
    done = subprocess.run(
        [SCRIPTS / program, *arguments, *further], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.fullmatch(r"=+ 1 passed in \S+ =+", done.stdout.splitlines()[-1])
