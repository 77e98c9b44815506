"""Runs work in a transaction, within one time limit.

Not by Motor's `with_transaction`: that commits outside its own error handling, so that neither a write conflict at the
commit nor a commit of unknown outcome is tried again, and it knows no limit but 120 s, in which it repeats without a
pause. What to repeat is by the drivers' specification, "Transactions: Convenient API".
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pymongo
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession
from pymongo.errors import ExecutionTimeout, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

ResultT = TypeVar("ResultT")
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.5
_WRITE_CONFLICT = 112


class WriteConflictError(Exception):
    """Another transaction, which is still open, has written to one of the documents."""


class Transaction:
    """One run of `work`, repeated whole after transient errors until `seconds` have passed."""

    def __init__(
        self, client: AsyncIOMotorClient[dict[str, Any]], seconds: float, *, repeats_conflicts: bool = True
    ) -> None:
        self._client = client
        self._seconds = seconds
        self._repeats_conflicts = repeats_conflicts
        self._deadline = time.monotonic() + seconds
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    async def run(self, work: Callable[[AsyncIOMotorClientSession], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """The result of `work`, committed.

        Raises:
            WriteConflictError: another transaction holds one of the documents, and conflicts are not repeated.
            pymongo.errors.PyMongoError: it was not committed in time, or it is not known whether it was.
        """
        async with await self._client.start_session() as session:
            with pymongo.timeout(self._seconds):
                while True:
                    try:
                        return await self._attempt(session, work)
                    except PyMongoError as error:
                        if not self._repeats_conflicts and _is_conflict(error):
                            raise WriteConflictError(str(error)) from error
                        if not error.has_error_label("TransientTransactionError") or not self._time_is_left():
                            raise
                    await self._pause()

    async def _attempt(
        self,
        session: AsyncIOMotorClientSession,
        work: Callable[[AsyncIOMotorClientSession], Coroutine[Any, Any, ResultT]],
    ) -> ResultT:
        # Not "snapshot": that reads as of before the earliest write that is still under way anywhere, so that what the
        # caller has just found or claimed would not be there. By the commit a majority has what was read here too.
        session.start_transaction(ReadConcern("majority"), WriteConcern("majority"), ReadPreference.PRIMARY)
        try:
            result = await work(session)
        except BaseException:
            if session.delegate.in_transaction:
                await session.abort_transaction()
            raise
        await self._commit(session)
        return result

    async def _commit(self, session: AsyncIOMotorClientSession) -> None:
        while True:
            try:
                await session.commit_transaction()
            except PyMongoError as error:
                unknown = error.has_error_label("UnknownTransactionCommitResult")
                if not unknown or isinstance(error, ExecutionTimeout) or not self._time_is_left():
                    raise
            else:
                return
            await self._pause()

    def _time_is_left(self) -> bool:
        return time.monotonic() < self._deadline

    async def _pause(self) -> None:
        await asyncio.sleep(self._pause_seconds * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
        self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)


def _is_conflict(error: PyMongoError) -> bool:
    return isinstance(error, OperationFailure) and error.code == _WRITE_CONFLICT
