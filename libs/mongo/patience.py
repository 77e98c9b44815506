"""Waits out a MongoDB that does not answer, where the work at hand must not be given up."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
from pymongo.errors import PyMongoError

ResultT = TypeVar("ResultT")
_retrying = stamina.AsyncRetryingCaller(
    attempts=None, timeout=None, wait_initial=0.05, wait_max=0.5, wait_jitter=0.1
).on(PyMongoError)


async def patiently(work: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """The result of `work`, which is tried without end, with jittered pauses of up to half a second.

    A longer pause would be time lost after an election. It spares nothing either: while there is no primary, the
    attempts themselves wait for one, each as long as its time limit allows. A lease, not patience, bounds how long the
    result counts.
    """
    try:
        return await work()  # nearly always this is all; the machinery of trying again was 5 % of a notifier's time
    except PyMongoError:
        return await _retrying(work)
