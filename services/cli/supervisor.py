"""Keeps services running: starts them, starts again what dies, and stops all of them."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.cli.process import Command, ServiceProcess

_log = structlog.get_logger()
_REFUSED = 2
_MOST_EARLY_DEATHS = 3
_PREFIX = re.compile(r"^darkroom [a-z]+: ")


class ServiceRefusedError(Exception):
    """A service cannot run with its settings; starting it again would not help."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot run: {_PREFIX.sub('', reason)}")


class ServiceBrokenError(Exception):
    """A service died again and again and was never ready; the message has what it said and where its log is."""

    def __init__(self, name: str, code: int | None, last_words: Sequence[str], log: Path | None) -> None:
        end = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        said = "\n".join(f"  {line}" for line in last_words) or "  (nothing on standard error)"
        place = f"Its log is {log}." if log else "Its log stands above."
        super().__init__(
            f"{name} ended {_MOST_EARLY_DEATHS} times before it was ready, at last {end}, saying:\n{said}\n{place}"
        )


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses before a dead service is started again: doubling, up to a cap, from the first after a good run."""

    first_seconds: float = 0.5
    cap_seconds: float = 30.0
    reset_after_seconds: float = 60.0


class Supervisor:
    """Runs `commands`, each as a process of its own.

    `urls` has the URL of every service that is or was ready, by its name. `stop_seconds` is what a service gets
    between SIGTERM and the kill; one not ready within `start_seconds` counts as dead. `killed` names those that did not
    end in time when they were last stopped.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        stop_seconds: float,
        start_seconds: float = 60.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._commands = commands
        self._stop_seconds = stop_seconds
        self._start_seconds = start_seconds
        self._backoff = backoff or Backoff()
        self._processes: dict[str, ServiceProcess] = {}
        self._all_ready = asyncio.Event()
        self.urls: dict[str, str] = {}
        self.killed: set[str] = set()

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the services that run now, by name."""
        return {name: process.pid for name, process in self._processes.items()}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Enters when every service is ready, and stops all of them on leaving.

        They stop at the same time: none needs another to finish what it holds, since all of it is in the documents.
        Each error cancels the body.

        Raises:
            ServiceRefusedError: a service ended with exit code 2 before it was ready for the first time.
            ServiceBrokenError: a service ended three times in a row before it was ready for the first time.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._keep_running(command), name=f"keep {command.name}")
                    for command in self._commands
                ]
                await self._all_ready.wait()
                yield
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def kill(self) -> None:
        """Kills every service at once."""
        for process in self._processes.values():
            process.kill()

    async def _keep_running(self, command: Command) -> None:
        loop = asyncio.get_running_loop()
        pause_seconds = self._backoff.first_seconds
        early_deaths = 0
        while True:
            started = loop.time()
            self.killed.discard(command.name)
            process = self._processes[command.name] = await ServiceProcess.start(command)
            try:
                url = await process.ready(self._start_seconds)
                if url is not None:
                    self._note_ready(command.name, url)
                    command = command.pinned(url)  # who knows the address finds the next run there too
                    await process.wait()
            finally:
                await _to_its_end(process.stop(self._stop_seconds))
                del self._processes[command.name]
                if process.was_killed:
                    self.killed.add(command.name)
            if command.name not in self.urls:
                if process.code == _REFUSED:
                    raise ServiceRefusedError(command.name, "".join(process.last_words[-1:]))
                # One that is late has not died by itself: it may be waiting for a MongoDB that will come.
                early_deaths = 0 if process.was_late else early_deaths + 1
                if early_deaths == _MOST_EARLY_DEATHS:
                    raise ServiceBrokenError(command.name, process.code, process.last_words, command.log)
            if loop.time() - started >= self._backoff.reset_after_seconds:
                pause_seconds = self._backoff.first_seconds
            _log.warning("service.died", name=command.name, code=process.code, restart_in_seconds=pause_seconds)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, self._backoff.cap_seconds)

    def _note_ready(self, name: str, url: str) -> None:
        self.urls[name] = url
        _log.info("service.running", name=name, url=url)
        if len(self.urls) == len(self._commands):
            self._all_ready.set()


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Awaits `work` even while the awaiting task is cancelled again: no process may be left behind."""
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
