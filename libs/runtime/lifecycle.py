"""The life of a service process: settings, logs, signals, readiness and the exit code."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
import uvloop

from libs.runtime.errors import FatalError, StoppedError
from libs.runtime.logging import configure_logging
from libs.runtime.settings import InvalidSettingsError, SettingsT, load, unknown_names

_log = structlog.get_logger()


class Stop:
    """An idempotent flag: once set it stays set, and every waiter is released."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Asks for the stop. Safe to call again and before anything has started."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether the stop was asked for."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Returns once the stop was asked for."""
        await self._event.wait()


@dataclass(slots=True)
class Process:
    """What the running process offers to its service."""

    stop: Stop = field(default_factory=Stop)
    ready_fd: int | None = None

    def announce(self, url: str) -> None:
        """Tells whoever started the process (`--ready-fd`) where it listens. Only the first call does anything."""
        _log.info("service.ready", url=url)
        if self.ready_fd is not None:
            with os.fdopen(self.ready_fd, "w", encoding="utf-8") as pipe:
                pipe.write(json.dumps({"url": url}) + "\n")
            self.ready_fd = None


def run(service: str, settings: type[SettingsT], serve: Callable[[SettingsT, Process], Awaitable[None]]) -> int:
    """Runs `serve` until it returns and gives the exit code.

    SIGTERM and SIGINT set `Process.stop`; `serve` then has to return within its stated time. A second SIGINT ends the
    process at once with 130. Wrong settings and `FatalError` are one sentence on standard error and exit code 2.
    """
    parser = argparse.ArgumentParser(
        prog=f"darkroom {service}", description="Settings come from the environment or .env."
    )
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets one JSON line with the URL once ready")
    parser.add_argument("--name", default=service, help="what its log lines name it, where several run side by side")
    arguments = parser.parse_args()
    try:
        values = load(settings)
        configure_logging(arguments.name, values)
        if unknown := unknown_names():
            _log.warning("settings.unknown", names=unknown)
        uvloop.run(_serve(serve, values, arguments.ready_fd))
        # The loop has put back the default handlers: another SIGTERM while threads are joined must not spoil the exit.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except StoppedError:
        return 0
    except (InvalidSettingsError, FatalError) as error:
        sys.stderr.write(f"darkroom {service}: {error}\n")
        return 2
    return 0


async def _serve(
    serve: Callable[[SettingsT, Process], Awaitable[None]], settings: SettingsT, ready_fd: int | None
) -> None:
    process = Process(ready_fd=ready_fd)
    loop = asyncio.get_running_loop()

    def stop(received: signal.Signals) -> None:
        if process.stop.is_set and received is signal.SIGINT:
            os._exit(130)
        _log.info("service.stopping", signal=received.name)
        process.stop.set()

    for received in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(received, stop, received)
    await serve(settings, process)
    _log.info("service.stopped")
