"""One run of one service: its process, when it is ready, what it said last, and its end."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import structlog

from libs.runtime.tether import tethered

_log = structlog.get_logger()
_SAID_BYTES = 4096
_SAID_LINES = 10
_LEFTOVER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Command:
    """A service to run: `argv` is given `--ready-fd N`; what it logs goes to `log`, or to our standard error.

    `port_variable` names the setting of the port it listens on.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: Path | None = None
    log: Path | None = None
    port_variable: str = ""

    def pinned(self, url: str) -> "Command":
        """The same command, but where any free port was asked for it is the one of `url`."""
        if self.environment.get(self.port_variable) != "0":
            return self
        return replace(self, environment={**self.environment, self.port_variable: url.rpartition(":")[2]})


class ServiceProcess:
    """A started process.

    It is tied to us, so that it ends with us, and stands in a session of its own: Ctrl-C in a terminal reaches only
    the supervisor, and whatever the service leaves behind can be killed as a group.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, ready: "_Ready", said: "_Said") -> None:
        self._name = name
        self._process = process
        self._ready = ready
        self._said = said
        self.was_killed = False
        self.was_late = False

    @classmethod
    async def start(cls, command: Command) -> Self:
        """Starts the process; its logs go where `command` says, its standard error is also remembered."""
        loop = asyncio.get_running_loop()
        output = _output(command.log)
        said = _Said(output)
        ready = _Ready()
        ready_from, ready_to = os.pipe()
        said_from, said_to = os.pipe()
        await loop.connect_read_pipe(lambda: said, os.fdopen(said_from, "rb", buffering=0))
        await loop.connect_read_pipe(lambda: ready, os.fdopen(ready_from, "rb", buffering=0))
        try:
            process = await asyncio.create_subprocess_exec(
                *tethered([*command.argv, "--ready-fd", str(ready_to)]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=said_to,
                pass_fds=[ready_to],
                env=dict(command.environment),
                cwd=command.folder,
                start_new_session=True,
            )
        finally:
            os.close(ready_to)
            os.close(said_to)
        return cls(command.name, process, ready, said)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; negative for a signal, None while the process runs."""
        return self._process.returncode

    @property
    def last_words(self) -> list[str]:
        """The last lines it wrote to standard error."""
        return self._said.tail.decode(errors="replace").strip().splitlines()[-_SAID_LINES:]

    async def ready(self, within_seconds: float) -> str | None:
        """The URL the service gave; None when it ended before it was ready, or was not ready in time (`was_late`)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                return await asyncio.shield(self._ready.url)
        self.was_late = True
        _log.warning("service.not_ready", name=self._name, waited_seconds=within_seconds)
        return None

    async def wait(self) -> None:
        """Returns when the process has ended."""
        await self._process.wait()

    async def stop(self, within_seconds: float) -> None:
        """Asks the process to end (SIGTERM) and kills it when it has not after `within_seconds`.

        Kills whatever it started and left behind as well. Safe to call when the process has already ended.
        """
        if self.code is None:
            # Not Process.terminate(): that polls, and may take the exit code from asyncio's child watcher.
            _signal_process(self.pid)
            try:
                async with asyncio.timeout(within_seconds):
                    await self._process.wait()
            except TimeoutError:
                self.was_killed = True
                _log.warning("service.killed", name=self._name, after_seconds=within_seconds)
        self.kill()
        await self._process.wait()
        self._ready.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEFTOVER_SECONDS):
                await self._said.closed
        self._said.close()

    def kill(self) -> None:
        """Kills the process and all of its group at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class _Ready(asyncio.Protocol):
    """Takes the line with the URL from the ready pipe."""

    def __init__(self) -> None:
        self.url: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None
        self._line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._line += data
        if b"\n" in self._line and not self.url.done():
            self.url.set_result(str(json.loads(self._line)["url"]))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        if not self.url.done():
            self.url.set_result(None)

    def close(self) -> None:
        if self._transport:
            self._transport.close()


class _Said(asyncio.Protocol):
    """Passes standard error on to `output` and keeps the end of it; owns `output`."""

    def __init__(self, output: int) -> None:
        self.tail = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None
        self._output = output

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-_SAID_BYTES:]
        with suppress(OSError):  # the terminal is gone; the service itself is not to suffer for it
            os.write(self._output, data)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        os.close(self._output)
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        if self._transport:
            self._transport.close()


def _output(log: Path | None) -> int:
    if log is None:
        return os.dup(2)
    log.parent.mkdir(parents=True, exist_ok=True)
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _signal_process(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
