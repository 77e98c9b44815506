"""The supervisor over real processes that stand in for services."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from services.cli.process import Command
from services.cli.supervisor import Backoff, ServiceBrokenError, ServiceRefusedError, Supervisor
from tests.waiting import until

ROOT = Path(__file__).parents[2]
QUICK = Backoff(first_seconds=0.01, cap_seconds=0.04)
PRELUDE = """
import json, os, pathlib, signal, sys, time
def ready(port=1):
    pipe = os.fdopen(int(sys.argv[sys.argv.index("--ready-fd") + 1]), "w")
    pipe.write(json.dumps({"url": f"http://127.0.0.1:{port}"}) + "\\n")
    pipe.close()
def runs():
    file = pathlib.Path("runs")
    file.write_text((file.read_text() if file.exists() else "") + "x")
    return len(file.read_text())
"""


def stand_in(
    folder: Path, script: str, *, name: str = "stand-in", environment: dict[str, str] | None = None
) -> Command:
    """A process that runs `script` where a service would."""
    return Command(
        name,
        (sys.executable, "-c", PRELUDE + script),
        {**os.environ, **(environment or {})},
        folder=folder,
        log=folder / f"{name}.log",
    )


def supervisor(*commands: Command, backoff: Backoff = QUICK, stop_seconds: float = 20) -> Supervisor:
    """A supervisor of `commands` whose pauses are short."""
    return Supervisor(commands, stop_seconds=stop_seconds, backoff=backoff)


async def gone(pid: int) -> None:
    """Returns when no process of this id runs; nothing tells the end of one that is not our child."""

    async def ended() -> bool:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return True

    await until(ended, f"the end of process {pid}", seconds=30)


def events(logs: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    """The lines of this event."""
    return [line for line in logs if line["event"] == event]


async def logged(logs: Sequence[Mapping[str, Any]], event: str, times: int = 1) -> None:
    """Returns when the event has been logged so often."""

    async def enough() -> bool:
        return len(events(logs, event)) >= times

    await until(enough, event, seconds=30)


async def test_it_enters_when_every_service_is_ready_and_leaves_none_behind(tmp_path: Path) -> None:
    """Inside, every service runs and has told its URL; outside, every process has ended by itself."""
    script = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); ready(int(os.environ['PORT'])); signal.pause()"
    commands = [stand_in(tmp_path, script, name=f"s{port}", environment={"PORT": str(port)}) for port in (1, 2, 3)]
    supervised = supervisor(*commands)
    async with supervised.running():
        assert supervised.urls == {f"s{port}": f"http://127.0.0.1:{port}" for port in (1, 2, 3)}
        pids = supervised.pids
        assert all(psutil.pid_exists(pid) for pid in pids.values())
    assert not any(psutil.pid_exists(pid) for pid in pids.values())
    assert not supervised.killed


async def test_a_service_that_dies_is_started_again_with_growing_pauses(tmp_path: Path) -> None:
    """Pauses double up to the cap, and every death is a line in the log."""
    script = "ready()\nif runs() <= 5: sys.exit(7)\nsignal.pause()"
    supervised = supervisor(stand_in(tmp_path, script))
    with capture_logs() as logs:
        async with supervised.running():
            await logged(logs, "service.running", 6)
    died = events(logs, "service.died")
    assert [line["restart_in_seconds"] for line in died] == [0.01, 0.02, 0.04, 0.04, 0.04]
    assert {(line["name"], line["code"]) for line in died} == {("stand-in", 7)}


async def test_after_a_good_run_the_pauses_begin_anew(tmp_path: Path) -> None:
    """A run that was long enough (here any run) ends the growth."""
    script = "ready()\nif runs() <= 4: sys.exit(7)\nsignal.pause()"
    supervised = supervisor(stand_in(tmp_path, script), backoff=Backoff(0.01, 0.04, reset_after_seconds=0))
    with capture_logs() as logs:
        async with supervised.running():
            await logged(logs, "service.running", 5)
    assert [line["restart_in_seconds"] for line in events(logs, "service.died")] == [0.01] * 4


async def test_a_killed_service_comes_back_at_its_old_address(tmp_path: Path) -> None:
    """After kill -9 a new process runs, and where any free port was asked for it is given the old one."""
    command = Command(
        "stand-in",
        (
            sys.executable,
            "-c",
            PRELUDE + "port = os.environ['PORT']; ready(4321 if port == '0' else port); signal.pause()",
        ),
        {**os.environ, "PORT": "0"},
        folder=tmp_path,
        log=tmp_path / "log",
        port_variable="PORT",
    )
    supervised = supervisor(command)
    async with supervised.running():
        pid = supervised.pids["stand-in"]
        with capture_logs() as logs:
            os.kill(pid, signal.SIGKILL)
            await logged(logs, "service.running")
        assert supervised.pids["stand-in"] != pid
        assert supervised.urls == {"stand-in": "http://127.0.0.1:4321"}
        assert [line["code"] for line in events(logs, "service.died")] == [-9]


async def test_a_service_that_refuses_its_settings_stops_everything(tmp_path: Path) -> None:
    """Exit code 2 at the start is not tried again: its sentence is shown and the others are stopped."""
    waits = stand_in(tmp_path, "runs(); ready(); signal.pause()", name="waits")
    refuses = stand_in(
        tmp_path,
        "while not os.path.exists('runs'): time.sleep(0.01)\n"
        "sys.stderr.write('warning\\ndarkroom watcher: DARKROOM_X: must be more\\n'); sys.exit(2)",
        name="refuses",
    )
    supervised = supervisor(waits, refuses)
    with pytest.raises(ServiceRefusedError, match=r"^refuses cannot run: DARKROOM_X: must be more$"):
        async with supervised.running():
            pytest.fail("it never was ready")
    assert supervised.pids == {}
    assert (tmp_path / "refuses.log").read_text() == "warning\ndarkroom watcher: DARKROOM_X: must be more\n"


@pytest.mark.parametrize(
    ("end", "told"),
    [("sys.exit(7)", "with exit code 7"), ("os.kill(os.getpid(), signal.SIGKILL)", "by signal 9")],
)
async def test_a_service_that_dies_three_times_and_was_never_ready_stops_everything(
    end: str, told: str, tmp_path: Path
) -> None:
    """A fourth start would not help: the error has its last lines and where its log is."""
    waits = stand_in(tmp_path, "ready(); signal.pause()", name="waits")
    dies = stand_in(
        tmp_path,
        f"print(*range(20), 'end of ' + 'x' * runs(), sep='\\n', file=sys.stderr, flush=True); {end}",
        name="dies",
    )
    supervised = supervisor(waits, dies)
    with pytest.raises(ServiceBrokenError) as caught:
        async with supervised.running():
            pytest.fail("it never was ready")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"dies ended 3 times before it was ready, at last {told}, saying:"
    assert lines[1:11] == [*(f"  {number}" for number in range(11, 20)), "  end of xxx"]
    assert lines[11:] == [f"Its log is {tmp_path / 'dies.log'}."]
    assert supervised.pids == {}


async def test_two_early_deaths_are_forgiven(tmp_path: Path) -> None:
    """Something that it needs may not have been there yet."""
    supervised = supervisor(stand_in(tmp_path, "if runs() < 3: sys.exit(1)\nready(); signal.pause()"))
    async with supervised.running():
        assert set(supervised.urls) == {"stand-in"}


async def test_a_service_that_ends_with_2_after_it_ran_is_started_again(tmp_path: Path) -> None:
    """Its settings were good at the start, so it may well come back."""
    supervised = supervisor(
        stand_in(tmp_path, "again = runs() > 1; ready()\nif not again: sys.exit(2)\nsignal.pause()")
    )
    with capture_logs() as logs:
        async with supervised.running():
            await logged(logs, "service.running", 2)
    assert [line["code"] for line in events(logs, "service.died")] == [2]


async def test_a_service_that_ignores_sigterm_is_killed_with_all_it_started(tmp_path: Path) -> None:
    """After its time is over, neither the process nor its children live on."""
    script = (
        "import subprocess\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "ready(child.pid); signal.pause()"
    )
    supervised = supervisor(stand_in(tmp_path, script), stop_seconds=0.1)
    async with supervised.running():
        child = int(supervised.urls["stand-in"].rpartition(":")[2])
        pid = supervised.pids["stand-in"]
    assert not psutil.pid_exists(pid)
    await gone(child)
    assert supervised.killed == {"stand-in"}


async def test_one_that_is_not_ready_in_time_is_started_again(tmp_path: Path) -> None:
    """A service that hangs at its start counts as dead."""
    supervised = Supervisor(
        [stand_in(tmp_path, "if runs() > 1: ready()\nsignal.pause()")], stop_seconds=20, start_seconds=1, backoff=QUICK
    )
    with capture_logs() as logs:
        async with supervised.running():
            pass
    assert "service.not_ready" in [line["event"] for line in logs]


async def test_cancelling_while_services_drain_still_leaves_none_behind(tmp_path: Path) -> None:
    """A stop that is asked for twice waits for the services as a single one does."""
    script = (
        "def drain(*_):\n  pathlib.Path('draining').touch()\n"
        "  while not os.path.exists('go'): time.sleep(0.01)\n  sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, drain); ready(); signal.pause()"
    )
    supervised = supervisor(stand_in(tmp_path, script))
    entered = asyncio.Event()

    async def run() -> None:
        async with supervised.running():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await entered.wait()
    pid = supervised.pids["stand-in"]
    task.cancel()
    await until(partial(asyncio.to_thread, (tmp_path / "draining").exists), "the service drains", seconds=30)
    task.cancel()
    (tmp_path / "go").touch()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pid)
    assert not supervised.killed


SUPERVISING = """
import asyncio, json, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from services.cli.process import Command
from services.cli.supervisor import Supervisor
async def main():
    folder = Path({folder!r})
    script = {script!r}
    commands = [Command(name, (sys.executable, "-c", script), folder=folder, log=folder / "log") for name in ("a", "b")]
    supervisor = Supervisor(commands, stop_seconds=20)
    async with supervisor.running():
        (folder / "pids").write_text(json.dumps(supervisor.pids))
        print("ready", file=sys.stderr, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_supervisor_that_is_killed_takes_its_services_along(tmp_path: Path) -> None:
    """A kill -9 leaves no time for anything, so the kernel tells the services."""
    source = SUPERVISING.format(root=str(ROOT), folder=str(tmp_path), script=PRELUDE + "ready(); signal.pause()")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            assert await process.stderr.readline() == b"ready\n"
        pids: dict[str, int] = json.loads((tmp_path / "pids").read_text())
        assert len(pids) == 2
    finally:
        process.kill()
        await process.communicate()
    for pid in pids.values():
        await gone(pid)
