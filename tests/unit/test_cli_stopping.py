"""Signals to a command that runs other processes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Its work ends some time after it is cancelled, as a service that finishes what it holds.
COMMAND = """
import asyncio
from services.cli.stopping import run_until_signal

def say(text):
    print(text, flush=True)

async def work():
    say("running")
    try:
        await asyncio.Event().wait()
    finally:
        say("stopping")
        await asyncio.Event().wait()

run_until_signal(work, lambda: say("killed"), lambda: say("interrupted"))
"""


@pytest.mark.parametrize(
    ("first", "said"),
    [(signal.SIGINT, ["interrupted", "stopping"]), (signal.SIGTERM, ["stopping"])],
)
def test_a_person_is_told_of_the_stop_and_ctrl_c_then_kills(first: signal.Signals, said: list[str]) -> None:
    """Told at once, before the work unwinds; nobody waits behind SIGTERM, but Ctrl-C behind that kills as well."""
    with subprocess.Popen([sys.executable, "-c", COMMAND], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "running\n"
            process.send_signal(first)
            assert [process.stdout.readline().strip() for _ in said] == said
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == "killed\n"
            assert process.wait(20) == 130
        finally:
            process.kill()
