"""Real service processes for tests: started, waited for by their ready line, stopped by their id."""

import asyncio
import base64
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.runtime.tether import tethered

READY_SECONDS = 60.0
STOP_SECONDS = 60.0
SECRET = "whsec_" + base64.b64encode(b"only for the tests of darkroom").decode()
LOOPBACK = "127.0.0.0/8,::1/128"


@dataclass(slots=True)
class Service:
    """A running service."""

    name: str
    url: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its structured log lines so far."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and gives the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(STOP_SECONDS):
            return await self.process.wait()


def memory_of(pid: int, counter: str) -> int:
    """Bytes by a counter of Linux's /proc/PID/status: `VmRSS` is what is resident, `VmHWM` the most that ever was."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    [line] = [line for line in status.splitlines() if line.startswith(f"{counter}:")]
    return int(line.split()[1]) * 1024


def environment(mongo_uri: str, folder: Path, **settings: str) -> dict[str, str]:
    """The environment of a service: nothing of the machine's own settings, and free ports."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DARKROOM_", "MONGO_"))}
    return {
        **kept,
        "MONGO_CONNECTION_STRING": mongo_uri,
        "DATABASE_NAME": f"e2e_{folder.name}"[:60],
        "DARKROOM_PORT": "0",
        "DARKROOM_WATCHER_PORT": "0",
        "DARKROOM_NOTIFIER_PORT": "0",
        "DARKROOM_STORAGE": (folder / "images").as_uri(),
        "DARKROOM_EGRESS_ALLOW": LOOPBACK,
        "DARKROOM_WEBHOOK_SECRET": SECRET,
        "DARKROOM_WORKERS": "1",
        **settings,
    }


@asynccontextmanager
async def started(
    name: str, env: Mapping[str, str], folder: Path, *, number: int = 0, module: str = ""
) -> AsyncIterator[Service]:
    """Runs `python -m services.<name>`, or `module`, until the end of the context; it has to be ready first."""
    reading, writing = socket.socketpair()
    log = folder / f"{name}{number}.log"
    with writing, log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *tethered([sys.executable, "-m", module or f"services.{name}", "--ready-fd", str(writing.fileno())]),
            env=dict(env),
            cwd=Path(__file__).parents[1],
            pass_fds=[writing.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    service = Service(name, "", process, log)
    try:
        service.url = await _ready(reading, service)
        yield service
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(told: socket.socket, service: Service) -> str:
    reader, writer = await asyncio.open_connection(sock=told)
    try:
        async with asyncio.timeout(READY_SECONDS):
            line = await reader.readline()
    finally:
        writer.close()
    if not line:
        await service.process.wait()
        raise AssertionError(f"{service.name} ended before it was ready:\n{service.log.read_text(encoding='utf-8')}")
    return str(json.loads(line)["url"])
