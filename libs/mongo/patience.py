"""Waits out a MongoDB that does not answer, where the work at hand must not be given up."""

import stamina
from pymongo.errors import PyMongoError


def patiently() -> "stamina._core._RetryContextIterator":
    """Attempts without end, with jittered pauses of up to half a second, until MongoDB has answered.

    A longer pause would be time lost after an election. It spares nothing either: while there is no primary, the
    attempts themselves wait for one, each as long as its time limit allows.

    `async for attempt in patiently(): with attempt: …`. A lease, not patience, bounds how long the result counts.
    """
    return stamina.retry_context(
        on=PyMongoError, attempts=None, timeout=None, wait_initial=0.05, wait_max=0.5, wait_jitter=0.1
    )
