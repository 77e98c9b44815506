"""A whole Darkroom as processes of this machine: its MongoDB and a fleet of services."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from libs.mongo import EmbeddedMongo
from services.cli.fleet import Fleet
from services.cli.supervisor import Supervisor


class Machine:
    """Runs an embedded MongoDB with its data in `mongo_folder`, or uses the one at `connection_string`.

    `fleet` is called with the connection string of whichever it is. `stop_seconds` is what a service gets to end in.
    """

    def __init__(
        self,
        fleet: Callable[[str], Fleet],
        *,
        mongo_folder: Path,
        connection_string: str | None = None,
        stop_seconds: float,
    ) -> None:
        self._fleet = fleet
        self._embedded = None if connection_string else EmbeddedMongo(mongo_folder)
        self._stop_seconds = stop_seconds
        self._supervisor: Supervisor | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.connection_string = connection_string or ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[dict[str, str]]:
        """Enters when everything is ready, with the URLs of the services by name.

        A MongoDB of its own is started again when it ends. Leaving stops the services, and MongoDB after them, since
        they write down what they give back.

        Raises:
            MongodNotFoundError, MongodFailedError: there is no MongoDB to run on, or none any more.
            ServiceRefusedError, ServiceBrokenError: a service cannot run with its settings, or not at all.
        """
        async with self._database():
            commands = self._fleet(self.connection_string).commands()
            self._supervisor = Supervisor(commands, stop_seconds=self._stop_seconds)
            async with self._supervisor.running():
                yield {command.name: self._supervisor.urls[command.name] for command in commands}

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[None]:
        if self._embedded is None:
            yield
            return
        async with self._embedded:
            self.connection_string = self._embedded.uri
            try:
                async with asyncio.TaskGroup() as tasks:
                    self._keeping = tasks.create_task(self._embedded.keep_running(), name="keep mongod")
                    yield
                    self._keeping.cancel()
            except BaseExceptionGroup as errors:
                raise _first(errors) from None

    @property
    def killed(self) -> set[str]:
        """The services that did not end in time when they were last stopped."""
        return self._supervisor.killed if self._supervisor else set()

    def kill(self) -> None:
        """Kills everything at once."""
        if self._keeping:
            self._keeping.cancel()
        if self._supervisor:
            self._supervisor.kill()
        for member in self._embedded.running if self._embedded else ():
            if member.process:
                with suppress(ProcessLookupError):
                    os.killpg(member.process.pid, signal.SIGKILL)


def _first(error: BaseException) -> BaseException:
    """The first error of a group, or of groups in it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
