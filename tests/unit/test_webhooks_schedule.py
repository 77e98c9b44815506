import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.webhooks import next_attempt_seconds

SCHEDULE = (5.0, 300.0, 60.0)


@pytest.mark.parametrize(("attempts_made", "seconds"), [(1, 5), (2, 300), (3, 60), (4, None), (99, None)])
def test_each_failed_attempt_has_its_pause_until_the_schedule_is_used_up(
    attempts_made: int, seconds: float | None
) -> None:
    """Three pauses make four attempts."""
    assert next_attempt_seconds(SCHEDULE, attempts_made, jitter=0, retry_after_seconds=None) == seconds


def test_an_empty_schedule_means_one_attempt() -> None:
    """Nothing is tried again, whatever the receiver asks for."""
    assert next_attempt_seconds((), 1, jitter=0, retry_after_seconds=10) is None


@pytest.mark.parametrize(
    ("hint", "seconds"), [(0, 5), (4, 5), (5, 5), (6, 6), (120, 120), (300, 300), (301, 300), (86_400, 300)]
)
def test_the_receivers_hint_makes_the_pause_longer_up_to_the_longest_one(hint: float, seconds: float) -> None:
    """The later of schedule and Retry-After counts, but no more than the longest pause of the schedule."""
    assert next_attempt_seconds(SCHEDULE, 1, jitter=0, retry_after_seconds=hint) == seconds


@given(
    st.lists(st.floats(0.001, 1e6), min_size=1, max_size=12),
    st.integers(1, 12),
    st.floats(0, 1),
    st.none() | st.floats(0, 1e9),
)
def test_jitter_only_adds_and_stays_within_a_fifth(
    schedule: list[float], attempts_made: int, jitter: float, hint: float | None
) -> None:
    """With jitter, the pause lies between the one without it and a fifth more."""
    plain = next_attempt_seconds(schedule, attempts_made, jitter=0, retry_after_seconds=hint)
    jittered = next_attempt_seconds(schedule, attempts_made, jitter=jitter, retry_after_seconds=hint)
    if plain is None or jittered is None:
        assert plain is jittered is None
        assert attempts_made > len(schedule)
    else:
        assert plain <= jittered <= plain * 1.2 * (1 + 1e-9)


def test_full_jitter_spreads_even_a_capped_hint() -> None:
    """What a receiver sent away all at once does not return all at once."""
    assert next_attempt_seconds(SCHEDULE, 1, jitter=1, retry_after_seconds=9999) == pytest.approx(360)
