"""When a failed delivery is tried again."""

from collections.abc import Sequence

JITTER = 0.2
"""What is added to a pause at most, as a part of it, so that what was put off together does not come back together."""


def jittered(seconds: float, jitter: float) -> float:
    """`seconds` and up to a fifth more, by `jitter` from 0 to 1."""
    return seconds * (1 + JITTER * jitter)


def next_attempt_seconds(
    schedule: Sequence[float], attempts_made: int, *, jitter: float, retry_after_seconds: float | None
) -> float | None:
    """Seconds until the next attempt, after `attempts_made` of them (at least 1); None: the schedule is used up.

    `schedule` has the pauses before the second, third, … attempt. A receiver's Retry-After makes a pause longer, never
    shorter, and never longer than the longest of the schedule: the operator's schedule says how patient Darkroom is.
    `jitter`, from 0 to 1, then adds up to a fifth of the pause, on top of the cap too.
    """
    if attempts_made > len(schedule):
        return None
    hint = min(retry_after_seconds or 0.0, max(schedule))
    return jittered(max(schedule[attempts_made - 1], hint), jitter)
