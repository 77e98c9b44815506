"""Every check of the project by one command: `python -m tests`.

Lint, format, types, layers, then the tests; it stops at the first that fails. Further arguments go to pytest, as in
`python -m tests tests/unit -k lease`. Tests run in three processes at once, each with a MongoDB of its own, or in one
with `-n 0`, as by `pytest` alone and as a debugger needs it.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sysconfig.get_path("scripts"))

CHECKS = (
    ("ruff", "check", "--quiet", "."),
    ("ruff", "format", "--check", "--quiet", "."),
    ("mypy",),
    ("lint-imports", "--no-cache"),
)
# Tests wait for processes and for time to pass nearly as much as they compute: three at once keep two cores busy.
PYTEST = ("pytest", "--numprocesses", "3", "--dist", "worksteal")
# Hundreds of processes are started, and each would compile all it imports where none may leave that to the next.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(*command: str) -> int:
    """Runs one check of this environment at the top of the tree; returns its exit code."""
    click.echo(click.style("$ " + " ".join(command), bold=True))
    program, *arguments = command
    return subprocess.run([SCRIPTS / program, *arguments], cwd=ROOT, env=ENVIRONMENT, check=False).returncode


def main() -> int:
    """Runs the checks, then pytest, whose closing line comes last; returns the exit code of the first that fails."""
    for check in CHECKS:
        if code := run(*check):
            return code
    return run(*PYTEST, *sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
