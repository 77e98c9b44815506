"""How much CPU processes take, their children included."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

import psutil


class Meter:
    """CPU that named groups of processes take, from its making or the last reading to each.

    A group is process ids, whose children are included, or a function that gives its CPU seconds so far. Under `others`
    is what everything else on the machine takes: a figure beside which that is much says little.
    """

    def __init__(self, groups: Mapping[str, Iterable[int] | Callable[[], float]]) -> None:
        self._groups = {name: group if callable(group) else list(group) for name, group in groups.items()}
        self._before = self._so_far()
        self._since = time.monotonic()

    def seconds(self) -> dict[str, float]:
        """CPU seconds since the last reading."""
        so_far = self._so_far()
        spent = {name: seconds - self._before[name] for name, seconds in so_far.items()}
        self._before, self._since = so_far, time.monotonic()
        return spent

    def read(self) -> dict[str, float]:
        """Cores taken on average since the last reading (1.0 is one core)."""
        elapsed = time.monotonic() - self._since
        return {name: seconds / elapsed for name, seconds in self.seconds().items()}

    def _so_far(self) -> dict[str, float]:
        seconds = {
            name: group() if callable(group) else sum(own(pid) + of_children(pid) for pid in group)
            for name, group in self._groups.items()
        }
        machine = psutil.cpu_times()
        return {**seconds, "others": sum(machine) - machine.idle - machine.iowait - sum(seconds.values())}


async def cores(pid: int, seconds: float) -> float:
    """Cores that one process takes over the next `seconds`."""
    meter = Meter({"it": [pid]})
    await asyncio.sleep(seconds)
    return meter.read()["it"]


def own(pid: int) -> float:
    """CPU seconds that a process has used itself."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def of_children(pid: int) -> float:
    """CPU seconds of all that descends from a process; what has ended counts from when its parent took notice."""
    process = psutil.Process(pid)
    ended = process.cpu_times()
    return float(ended.children_user + ended.children_system) + sum(map(_whole, process.children(recursive=True)))


def _whole(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # a codec process that has done its share
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
