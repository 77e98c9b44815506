"""How many attempts a host may have at once: few until it has answered one of them, and more while it goes on to."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_PROMPT_SECONDS = 1.0


@dataclass(slots=True)
class _Host:
    running: int = 0
    answered_at: float = -math.inf


class Credit:
    """A host has `few` at once, and `many` for a second behind each of its answers.

    So those that hang take `few` slots each, however much is queued for them, and the slots are there for the others; a
    host that answers has them as long as it does. Nothing is kept of hosts of which neither is true.
    """

    def __init__(self, few: int, many: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.few = few
        self._more = max(0, many - few)
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    def taken(self, running: Mapping[str, int]) -> Counter[str]:
        """`running`, by host, less what hosts may have beyond `few`."""
        taken, prompt = Counter(running), self._clock() - _PROMPT_SECONDS
        for name, host in list(self._hosts.items()):
            if host.answered_at >= prompt:
                taken[name] -= self._more
            elif not host.running:
                del self._hosts[name]
        return taken

    def attempt(self, name: str) -> "_Attempt":
        """A context that lasts as long as an attempt at the host `name` does; what it gives is called at an answer."""
        return _Attempt(self._hosts.setdefault(name, _Host()), self._clock)


class _Attempt:
    # By hand: the generator of a `contextmanager` takes three times as long, for each delivery.
    __slots__ = ("_clock", "_host")

    def __init__(self, host: _Host, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock

    def __enter__(self) -> Callable[[], None]:
        self._host.running += 1
        return self._answered

    def __exit__(self, *_: object) -> None:
        self._host.running -= 1

    def _answered(self) -> None:
        self._host.answered_at = self._clock()
