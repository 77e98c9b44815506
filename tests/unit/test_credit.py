"""How many attempts a host may have at once, by a clock of the test's own."""

from contextlib import ExitStack

import pytest

from services.notifier.credit import Credit


def test_a_host_that_answers_may_have_more_while_it_does() -> None:
    """Four, then sixteen from its first answer on, and four again when no more has come for a second."""
    now = 1000.0
    credit = Credit(4, 16, clock=lambda: now)
    with ExitStack() as attempts:
        first = attempts.enter_context(credit.attempt("h:80"))
        attempts.enter_context(credit.attempt("h:80"))
        assert credit.taken({"h:80": 2}) == {"h:80": 2}
        first()
        assert credit.taken({"h:80": 2}) == {"h:80": 2 - 12}
        now += 1.1
        assert credit.taken({"h:80": 2}) == {"h:80": 2}


def test_what_one_host_answers_gives_others_nothing() -> None:
    """Each has its own."""
    credit = Credit(1, 2, clock=lambda: 0.0)
    with credit.attempt("a:80") as answered, credit.attempt("b:80"):
        answered()
        assert credit.taken({"a:80": 1, "b:80": 1}) == {"a:80": 0, "b:80": 1}


def test_a_host_is_remembered_for_a_quarter_of_a_second_behind_its_last_answer() -> None:
    """What answers between two claims has its credit at the next one; what has not answered has none."""
    now = 1000.0
    credit = Credit(1, 2, clock=lambda: now)
    with credit.attempt("quick:80") as answered, credit.attempt("silent:80"):
        answered()
    assert credit.taken({}) == {"quick:80": -1}
    now += 1.1
    assert credit.taken({}) == {}
    assert credit._hosts == {}


def test_an_attempt_that_is_broken_off_has_ended() -> None:
    """It counts for nothing behind that."""
    credit = Credit(1, 2, clock=lambda: 0.0)
    with pytest.raises(KeyError), credit.attempt("a:80"):
        raise KeyError
    assert credit.taken({}) == {}
    assert credit._hosts == {}
