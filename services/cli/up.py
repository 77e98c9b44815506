"""`darkroom up`: MongoDB and the three services as processes of this machine, until Ctrl-C."""

import asyncio
import os
import sys
from contextlib import suppress

import click

from libs.runtime.logging import configure_logging
from services.cli.data_folder import DataFolder
from services.cli.fleet import Fleet, usable_port
from services.cli.machine import Machine
from services.cli.settings import UpSettings
from services.cli.stopping import run_until_signal

_STOP_MARGIN_SECONDS = 5.0


class Up:
    """Everything in one folder: `data` has the database, the images and the secret, unless the settings name others."""

    def __init__(self, settings: UpSettings, data: DataFolder, *, watchers: int, notifiers: int) -> None:
        self._settings = settings
        self._data = data
        self._watchers = watchers
        self._notifiers = notifiers
        self._machine = Machine(
            self._fleet,
            mongo_folder=data.mongo,
            connection_string=settings.mongo_connection_string if settings.is_set("mongo_connection_string") else None,
            stop_seconds=settings.shutdown_seconds + _STOP_MARGIN_SECONDS,
        )
        self._port = 0

    def run(self) -> int:
        """Runs until a signal; gives the exit code: 1 when a service had to be killed because it did not stop.

        Raises:
            DataFolderError: another `up` runs there, or the folder cannot be used.
            PortTakenError: the port cannot be listened on.
            MongodNotFoundError, MongodFailedError: there is no MongoDB to run on.
            ServiceRefusedError, ServiceBrokenError: a service cannot run with its settings, or not at all.
        """
        configure_logging("up", self._settings, stream=sys.stderr)
        with self._data.locked():
            self._port = usable_port(self._settings.host, self._settings.port)
            run_until_signal(self._serve, self._machine.kill, self._say_how_long_a_stop_takes)
        click.echo(f"Stopped. Data is kept in {self._data.path}.")
        return 1 if self._machine.killed else 0

    async def _serve(self) -> None:
        async with self._machine.running() as urls:
            click.echo(self._greeting(urls))
            await asyncio.Event().wait()

    def _say_how_long_a_stop_takes(self) -> None:
        with suppress(OSError):  # what reads our output may have ended by the same Ctrl-C
            click.echo(
                f"Stopping: what is running has up to {self._settings.shutdown_seconds:g} s to finish; "
                "Ctrl-C again ends everything at once."
            )

    def _fleet(self, connection_string: str) -> Fleet:
        settings = self._settings
        common = {
            **os.environ,
            "MONGO_CONNECTION_STRING": connection_string,
            "DARKROOM_STORAGE": settings.storage if settings.is_set("storage") else self._data.images_url,
            "DARKROOM_LOG_FORMAT": settings.log_format,
        }
        return Fleet(
            common,
            port=self._port,
            workers=settings.workers if settings.is_set("workers") else max(1, settings.workers // self._watchers),
            webhook_secret=settings.webhook_secret.get_secret_value() or self._data.webhook_secret(),
            watchers=self._watchers,
            notifiers=self._notifiers,
            watcher_port=settings.watcher_port if settings.is_set("watcher_port") else 0,
            notifier_port=settings.notifier_port if settings.is_set("notifier_port") else 0,
        )

    def _greeting(self, urls: dict[str, str]) -> str:
        base = urls["ingest"]
        return "\n".join(
            [
                f"Darkroom is ready at {base}",
                f"  upload   darkroom submit FILE.csv --url {base} --wait",
                f"  API      {base}/docs",
                f"  metrics  {' '.join(f'{url}/metrics' for url in urls.values())}",
                f"  MongoDB  {_without_password(self._machine.connection_string)}",
                f"  data     {self._data.path}",
                "Ctrl-C stops everything.",
            ]
        )


def _without_password(connection_string: str) -> str:
    scheme, separator, rest = connection_string.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
