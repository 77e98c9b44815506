"""How many attempts a host may have at once: few until it has answered one of them, and more while it goes on to."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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

    @contextmanager
    def attempt(self, name: str) -> Iterator[Callable[[], None]]:
        """Lasts as long as an attempt at the host `name` does; what it gives is to be called at an answer."""
        host = self._hosts.setdefault(name, _Host())
        host.running += 1

        def answered() -> None:
            host.answered_at = self._clock()

        try:
            yield answered
        finally:
            host.running -= 1
