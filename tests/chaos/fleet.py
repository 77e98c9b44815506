"""Replicas of the services, each started again when it ends, as an orchestrator would."""

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.processes import Service, started


@dataclass(slots=True)
class Replica:
    """One replica of a service; `service` is None while it is not ready."""

    name: str
    number: int
    env: Mapping[str, str]
    folder: Path
    service: Service | None = None
    starts: int = 0
    unclean_stops: list[int] = field(default_factory=list)

    async def keep(self) -> None:
        """Runs the replica, and runs it again each time it ends, until cancelled."""
        while True:
            self.starts += 1
            number = self.number * 1000 + self.starts
            try:
                async with started(self.name, self.env, self.folder, number=number) as service:
                    self.service = service
                    await service.process.wait()
            except AssertionError:  # it was killed before it was ready
                continue
            finally:
                self.service = None

    def kill(self) -> bool:
        """Sends SIGKILL; false when there is nothing to kill now."""
        return self._signal(signal.SIGKILL)

    async def freeze(self, seconds: float) -> bool:
        """Stops the process, without its knowing, for `seconds`."""
        service = self.service
        if not self._signal(signal.SIGSTOP):
            return False
        await asyncio.sleep(seconds)
        if service is not None and service.process.returncode is None:
            service.process.send_signal(signal.SIGCONT)
        return True

    async def stop(self) -> bool:
        """Asks it to stop and notes the exit code when it is not 0."""
        service = self.service
        if not self._signal(signal.SIGTERM) or service is None:
            return False
        if (code := await service.process.wait()) not in {0, -signal.SIGKILL}:
            self.unclean_stops.append(code)
        return True

    def _signal(self, number: signal.Signals) -> bool:
        if self.service is None or self.service.process.returncode is not None:
            return False
        if psutil.Process(self.service.process.pid).status() == psutil.STATUS_STOPPED:
            return False
        self.service.process.send_signal(number)
        return True
