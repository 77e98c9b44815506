"""How much CPU processes take, their children included."""

import asyncio
import time
from collections.abc import Iterable, Mapping

import psutil


class Meter:
    """CPU seconds per second of named groups of processes (1.0 is one core), from its making to each `read`.

    Under `others` is what everything else on the machine takes: a figure beside which that is much says little.
    """

    def __init__(self, groups: Mapping[str, Iterable[int]]) -> None:
        self._groups = {name: list(pids) for name, pids in groups.items()}
        self._before = self._seconds()
        self._since = time.monotonic()

    def read(self) -> dict[str, float]:
        """Cores taken on average since the last read."""
        now, seconds = time.monotonic(), self._seconds()
        taken = {name: (seconds[name] - self._before[name]) / (now - self._since) for name in seconds}
        self._before, self._since = seconds, now
        return taken

    def _seconds(self) -> dict[str, float]:
        seconds = {name: sum(map(_of, pids)) for name, pids in self._groups.items()}
        machine = psutil.cpu_times()
        return {**seconds, "others": sum(machine) - machine.idle - machine.iowait - sum(seconds.values())}


async def cores(pid: int, seconds: float) -> float:
    """Cores that one process takes over the next `seconds`."""
    meter = Meter({"it": [pid]})
    await asyncio.sleep(seconds)
    return meter.read()["it"]


def _of(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(_own(member) for member in (process, *process.children(recursive=True)))


def _own(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # a codec process that has done its share
        return 0.0
    return times.user + times.system
