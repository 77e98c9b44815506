"""Leaves hosts alone that do not answer, and finds out when they do again."""

import random
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Self

from libs.runtime import metrics
from libs.webhooks import jittered

_FAILURES = 5
_LONGEST_SECONDS = 300.0
SILENT = frozenset({"connect_error", "dns_error", "timeout"})
"""Codes of attempts that no receiver answered."""


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    pause_seconds: float = 0.0
    until: float = 0.0
    probing: bool = False
    code: str = ""


@dataclass(slots=True)
class Pass:
    """Whether an attempt may be made: not for `seconds` where that is above 0.

    A context around the attempt, to be entered at once; `ended` is to be called with what came of it, or the attempt
    has not come to an end.
    """

    host: str
    leave: Callable[["Pass"], None]
    seconds: float = 0.0
    probed: _Circuit | None = None
    answered: bool | None = None
    code: str = ""

    def __enter__(self) -> Self:
        if self.probed:
            self.probed.probing = True
        return self

    def __exit__(self, *_: object) -> None:
        if self.probed:
            self.probed.probing = False
        if self.answered is not None and not self.seconds:
            self.leave(self)

    def ended(self, code: str | None) -> None:
        """The attempt has ended with this reason code, or well."""
        self.code = code or ""
        self.answered = self.code not in SILENT


class Breaker:
    """A circuit breaker for each host, of this notifier alone.

    After five attempts one after the other that nobody answered, attempts to a host are put off: for `first_seconds`,
    then for twice as long each time up to five minutes, with jitter. After each pause one attempt, at one at a time,
    finds out whether there is an answer again. Any answer closes the circuit, whatever it says. Nothing is kept of
    hosts that answer.
    """

    def __init__(
        self,
        *,
        first_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._first_seconds = first_seconds
        self._clock = clock
        self._jitter = jitter
        self._circuits: dict[str, _Circuit] = {}

    @property
    def closed_to_all(self) -> dict[str, tuple[float, str]]:
        """The hosts that no further attempt may be made to now: for how many seconds, and the code of the last one."""
        return {
            host: (self._wait_seconds(circuit), circuit.code)
            for host, circuit in self._circuits.items()
            if self._wait_seconds(circuit) > 0
        }

    def taken(self, running: Mapping[str, int], each: int, *, kept: Container[str] = ()) -> Counter[str]:
        """`running` with those counted as running that must not be started, where a host may have `each`.

        `kept` has the hosts to which an attempt is about to be made, which finds out whether there is an answer.
        """
        taken = Counter(running)
        for host, circuit in self._circuits.items():
            if circuit.failures >= _FAILURES:
                taken[host] = each if self._wait_seconds(circuit) > 0 or host in kept else max(taken[host], each - 1)
        return taken

    def passing(self, host: str) -> Pass:
        """What an attempt at the host has to pass; what it says when it is left opens or closes the circuit."""
        circuit = self._circuits.get(host)
        if circuit is None:
            return Pass(host, self._note)
        seconds = self._wait_seconds(circuit)
        return Pass(host, self._note, seconds, circuit if circuit.failures >= _FAILURES and not seconds else None)

    def _note(self, attempt: Pass) -> None:
        if attempt.answered:
            if self._circuits.pop(attempt.host, None):
                self._count()
            return
        circuit = self._circuits.setdefault(attempt.host, _Circuit())
        circuit.failures += 1
        circuit.code = attempt.code
        # Attempts that were under way when the circuit opened say nothing new.
        if circuit.failures >= _FAILURES and self._clock() >= circuit.until:
            circuit.pause_seconds = min(max(self._first_seconds, circuit.pause_seconds * 2), _LONGEST_SECONDS)
            circuit.until = self._clock() + jittered(circuit.pause_seconds, self._jitter())
            self._count()

    def _count(self) -> None:
        metrics.WEBHOOK_HOSTS_SILENT.set(sum(one.failures >= _FAILURES for one in self._circuits.values()))

    def _wait_seconds(self, circuit: _Circuit) -> float:
        if circuit.failures < _FAILURES:
            return 0.0
        if circuit.probing:
            return circuit.pause_seconds
        return max(0.0, circuit.until - self._clock())
