"""The circuit breaker, by a clock of the test's own."""

from collections import Counter

import pytest

from services.notifier.breaker import Breaker

HOST = "h:80"


class Clock:
    """Says the time that it was told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time, in the test's hands."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """A breaker without jitter."""
    return Breaker(clock=clock, jitter=lambda: 0.0)


def attempt(breaker: Breaker, code: str | None) -> float:
    """Makes an attempt that comes to `code`, if it may; the seconds it is put off for otherwise."""
    with breaker.passing(HOST) as passing:
        if not passing.seconds:
            passing.ended(code)
        return passing.seconds


def opened(breaker: Breaker) -> None:
    """Fails as often as it takes."""
    for _ in range(5):
        assert not attempt(breaker, "connect_error")


def test_a_host_is_left_alone_after_five_attempts_without_an_answer(breaker: Breaker) -> None:
    """Four are not enough; the fifth opens the circuit, of this host alone."""
    for code in ("connect_error", "timeout", "dns_error", "timeout"):
        assert not attempt(breaker, code)
    assert not attempt(breaker, "timeout")
    assert attempt(breaker, None) == 5
    assert breaker.closed_to_all == {HOST: (5, "timeout")}
    with breaker.passing("other:80") as other:
        assert not other.seconds


def test_any_answer_begins_the_count_anew(breaker: Breaker) -> None:
    """A 500 is an answer, as is a delivered webhook."""
    for answer in ("http_500", "bad_response", None):
        for _ in range(4):
            attempt(breaker, "timeout")
        assert not attempt(breaker, answer)
    assert not attempt(breaker, "timeout")


def test_after_the_pause_one_attempt_at_a_time_finds_out(breaker: Breaker, clock: Clock) -> None:
    """While it is under way all others are put off, and in the claims there is room for one."""
    opened(breaker)
    assert breaker.taken({}, 4) == {HOST: 4}
    clock.now += 5
    assert breaker.closed_to_all == {}
    assert breaker.taken({}, 4) == {HOST: 3}
    assert breaker.taken({HOST: 4}, 4) == {HOST: 4}
    with breaker.passing(HOST) as probe:
        assert not probe.seconds
        assert attempt(breaker, None) > 0
        assert breaker.taken({HOST: 1}, 4) == {HOST: 4}
        probe.ended(None)
    assert not attempt(breaker, None)
    assert breaker.taken({}, 4) == Counter()


def test_the_pauses_grow_to_five_minutes(breaker: Breaker, clock: Clock) -> None:
    """Twice as long after each attempt that was in vain."""
    opened(breaker)
    pauses = []
    for _ in range(8):
        [(pause, _)] = breaker.closed_to_all.values()
        pauses.append(pause)
        clock.now += pause
        assert not attempt(breaker, "timeout")
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]


def test_attempts_that_were_under_way_do_not_lengthen_the_pause(breaker: Breaker) -> None:
    """They tell nothing new."""
    with breaker.passing(HOST) as first, breaker.passing(HOST) as second:
        opened(breaker)
        first.ended("timeout")
        second.ended("timeout")
    assert breaker.closed_to_all == {HOST: (5, "timeout")}


def test_an_attempt_that_was_cut_off_leaves_the_next_to_find_out(breaker: Breaker, clock: Clock) -> None:
    """It was a probe, and says nothing of the host."""
    opened(breaker)
    clock.now += 5
    with pytest.raises(KeyboardInterrupt), breaker.passing(HOST):
        raise KeyboardInterrupt
    assert breaker.closed_to_all == {}
    assert not attempt(breaker, None)
    assert breaker.taken({}, 4) == Counter()


def test_the_jitter_only_adds(clock: Clock) -> None:
    """A fifth at most."""
    jittered = Breaker(clock=clock, jitter=lambda: 1.0)
    opened(jittered)
    [(seconds, _)] = jittered.closed_to_all.values()
    assert seconds == pytest.approx(6)
