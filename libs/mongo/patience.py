"""Waits out a MongoDB that does not answer, where the work at hand must not be given up."""

import stamina
from pymongo.errors import PyMongoError


def patiently() -> "stamina._core._RetryContextIterator":
    """Attempts without end, with jittered pauses of up to five seconds, until MongoDB has answered.

    `async for attempt in patiently(): with attempt: …`. A lease, not patience, bounds how long the result counts.
    """
    return stamina.retry_context(on=PyMongoError, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0)
