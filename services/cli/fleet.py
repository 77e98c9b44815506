"""The services of one Darkroom on this machine, as commands for the supervisor."""

import os
import random
import socket
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import services
from services.cli.process import Command

_PORT_VARIABLES = {
    "ingest": "DARKROOM_PORT",
    "watcher": "DARKROOM_WATCHER_PORT",
    "notifier": "DARKROOM_NOTIFIER_PORT",
}

# Below those that systems give to outbound connections, so that none takes the port before our service does.
_FREE_PORTS = range(20_000, 32_768)


class PortTakenError(Exception):
    """The port that was asked for cannot be listened on; the message says why."""


def search_path() -> dict[str, str]:
    """PYTHONPATH for the services when we are not installed but run from a source tree."""
    top = Path(str(services.__file__)).parents[1]
    if top == Path(sysconfig.get_path("purelib")):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(top), os.environ.get("PYTHONPATH", ""))))}


@dataclass(frozen=True, slots=True)
class Fleet:
    """One ingest and any number of watchers and notifiers.

    `common` is the environment of all of them. `port` is ingest's, which notifiers have to know too, so not 0.
    `workers` is the number of codec processes per watcher. Of several watchers or notifiers, the first has the health
    port that is given and the others take any free one. Only notifiers are given the secret.
    """

    common: Mapping[str, str]
    port: int
    workers: int
    webhook_secret: str
    watchers: int = 1
    notifiers: int = 1
    watcher_port: int = 0
    notifier_port: int = 0
    folder: Path | None = None
    logs: Path | None = None
    _search: dict[str, str] = field(default_factory=search_path, init=False)

    def commands(self) -> list[Command]:
        """One command per service process."""
        workers = {"DARKROOM_WORKERS": str(self.workers)}
        secret = {"DARKROOM_WEBHOOK_SECRET": self.webhook_secret}
        return [
            self._command("ingest", "ingest", self.port, {}),
            *self._several("watcher", self.watchers, self.watcher_port, workers),
            *self._several("notifier", self.notifiers, self.notifier_port, secret),
        ]

    def _several(self, service: str, count: int, port: int, environment: Mapping[str, str]) -> list[Command]:
        if count == 1:
            return [self._command(service, service, port, environment)]
        ports = (port, *repeat(0, count - 1))
        return [
            self._command(service, f"{service}-{number}", own, environment) for number, own in enumerate(ports, start=1)
        ]

    def _command(self, service: str, name: str, port: int, environment: Mapping[str, str]) -> Command:
        own = {"DARKROOM_PORT": str(self.port), "DARKROOM_WEBHOOK_SECRET": "", _PORT_VARIABLES[service]: str(port)}
        return Command(
            name,
            (*service_argv(service), "--name", name),
            {**self.common, **self._search, **own, **environment},
            folder=self.folder,
            log=self.logs / f"{name}.log" if self.logs else None,
            port_variable=_PORT_VARIABLES[service],
        )


def service_argv(service: str) -> tuple[str, ...]:
    """The command that runs a service. `-P`: a folder `services` where we happen to be called is not ours."""
    return (sys.executable, "-P", "-m", f"services.{service}")


def usable_port(host: str, port: int) -> int:
    """`port` when it can be listened on; any port that can when it is 0.

    Raises:
        PortTakenError: it cannot.
    """
    if port:
        try:
            _try_port(host, port)
        except OSError as error:
            raise PortTakenError(
                f"Port {port} of {host} cannot be used ({error.strerror}): stop what uses it, or choose another one "
                "with --port or DARKROOM_PORT (0 takes any free one)."
            ) from error
        return port
    while True:
        port = random.choice(_FREE_PORTS)  # noqa: S311 (no secret)
        with suppress(OSError):
            _try_port(host, port)
            return port


def _try_port(host: str, port: int) -> None:
    address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as asyncio's servers do
        probe.bind((address, port))
