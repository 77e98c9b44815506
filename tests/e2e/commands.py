"""The darkroom command as a real process, and every process that belongs to it."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.processes import LOOPBACK
from tests.waiting import until

ROOT = Path(__file__).parents[2]
DARKROOM = (sys.executable, "-m", "services.cli")
READY = re.compile(rb"Darkroom is ready at (\S+)")


def environment(**settings: str) -> dict[str, str]:
    """Nothing of the machine's own settings; loopback may be reached."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "MONGO_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "DARKROOM_EGRESS_ALLOW": LOOPBACK, "DARKROOM_WORKERS": "1", **settings}


def broken(service: str, folder: Path) -> dict[str, str]:
    """The environment in which a service fails before its first line, as one that is badly installed does."""
    site = folder / "site"
    site.mkdir()
    # Python goes on after an error in this module, so it has to end the process by itself.
    (site / "sitecustomize.py").write_text(
        "import os, sys, traceback\n"
        f"if 'services.{service}' in sys.orig_argv:\n"
        f"    try:\n        raise ImportError('{service} is broken here')\n"
        "    except ImportError:\n        traceback.print_exc()\n        os._exit(1)\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def darkroom(*arguments: str, folder: Path, **settings: str) -> Done:
    """Runs the command to its end."""
    process = await asyncio.create_subprocess_exec(
        *DARKROOM,
        *arguments,
        env=environment(**settings),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


@dataclass(slots=True)
class Up:
    """A running `darkroom up`; `greeting` is what it printed when it was ready."""

    process: asyncio.subprocess.Process
    log: Path
    url: str = ""
    greeting: str = ""

    def family(self) -> list[psutil.Process]:
        """Every process that descends from it: services, codec workers, mongod."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def logged(self, event: str, count: int = 1) -> None:
        """Returns when its log, or a service's, has the event so often."""

        async def found() -> bool:
            return self.log.read_text(encoding="utf-8").count(event) >= count

        await until(found, f"{count} x {event}")

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Sends the signal and gives the exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(60):
            return await self.process.wait()


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended; a zombie has, even where the init of a container leaves it lying about."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


async def gone(family: list[psutil.Process]) -> None:
    """Returns when none of these processes runs any more."""

    async def ended() -> bool:
        return not any(map(runs, family))

    await until(ended, f"the end of {family}", seconds=60)


@asynccontextmanager
async def begun(*arguments: str, folder: Path, **settings: str) -> AsyncIterator[Up]:
    """`darkroom up` in `folder`, with what it logs in a file; killed at the end if it still runs."""
    log = folder / "up.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *DARKROOM,
            "up",
            *arguments,
            env=environment(**settings),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
        )
    try:
        yield Up(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def up(*arguments: str, folder: Path, **settings: str) -> AsyncIterator[Up]:
    """`darkroom up` on a free port once it is ready."""
    async with begun("--port", "0", *arguments, folder=folder, **settings) as started:
        assert started.process.stdout is not None
        async with asyncio.timeout(120):
            while b"Ctrl-C" not in (line := await started.process.stdout.readline()):
                assert line, started.log.read_text(encoding="utf-8")
                started.greeting += line.decode()
                if found := READY.match(line):
                    started.url = found[1].decode()
        yield started
