"""One change stream over a collection, read in whole batches.

Motor's own iterator hops to a thread for every event and drops one when it is cancelled, so the stream is read by raw
`aggregate` and `getMore`. Such a cursor lives in one explicit session. Rules of resuming: the change streams
specification of MongoDB's drivers, "Resumable Error".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import pymongo
from pymongo.errors import ConnectionFailure, CursorNotFound, OperationFailure, PyMongoError

from libs.mongo import AWAIT_SECONDS, Collection, Document, Mongo, Session

Event = Mapping[str, Any]
_CLOSE_SECONDS = 0.5

# ChangeStreamHistoryLost, ChangeStreamFatalError, InvalidResumeToken, CappedPositionLost
_HISTORY_LOST = {286, 280, 260, 136}
# Of servers before 4.4, or where the label was lost on the way; the specification's list.
_RESUMABLE = {6, 7, 43, 63, 89, 91, 133, 150, 189, 234, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436}


class HistoryLostError(Exception):
    """The stream cannot continue where it was: the oplog has rolled past it, or the collection is gone."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one read, oldest first, and the server's time at the newest (None when there are none)."""

    events: Sequence[Event]
    cluster_time: datetime | None


class ChangeStream:
    """A filtered change stream; an async context manager that opens and closes it.

    `pipeline` runs on the server behind `$changeStream`. `resumes` counts how often the stream was taken up again.
    """

    def __init__(self, mongo: Mongo, collection: Collection, pipeline: Sequence[Mapping[str, Any]]) -> None:
        self._mongo = mongo
        self._name = collection.name
        self._pipeline = pipeline
        self._session: Session | None = None
        self._cursor = 0
        self._token: Mapping[str, Any] | None = None
        self.resumes = 0

    async def __aenter__(self) -> Self:
        self._session = await self._mongo.client.start_session()
        try:
            await self._open()
        except BaseException:
            await self._session.end_session()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is None:
            return
        try:
            if self._cursor:
                with pymongo.timeout(_CLOSE_SECONDS):
                    await self._command({"killCursors": self._name, "cursors": [self._cursor]})
        except PyMongoError:
            self._cursor = 0  # the server drops an idle cursor by itself
        finally:
            await self._session.end_session()

    async def read(self, wait_seconds: float = AWAIT_SECONDS) -> Batch:
        """The next batch, empty when nothing happened within `wait_seconds`. Cancelling it would drop events.

        It waits for `AWAIT_SECONDS` at most, which bounds how long a stopping process waits for it.

        A resumable error reopens the stream where it was; the batch is then what the server had ready.

        Raises:
            HistoryLostError: the stream has to be opened anew and the documents looked through.
            pymongo.errors.PyMongoError: any other failure.
        """
        milliseconds = max(1, round(min(wait_seconds, AWAIT_SECONDS) * 1000))
        try:
            with pymongo.timeout(0):  # timeoutMS would replace the await time
                reply = await self._command(
                    {"getMore": self._cursor, "collection": self._name, "maxTimeMS": milliseconds}
                )
        except PyMongoError as error:
            if not _is_resumable(error):
                raise
            self.resumes += 1
            return await self._open()
        return self._take(reply, "nextBatch")

    async def _open(self) -> Batch:
        stage = {"resumeAfter": self._token} if self._token else {}
        reply = await self._command(
            {"aggregate": self._name, "pipeline": [{"$changeStream": stage}, *self._pipeline], "cursor": {}}
        )
        return self._take(reply, "firstBatch")

    def _take(self, reply: Mapping[str, Any], key: str) -> Batch:
        cursor = reply["cursor"]
        self._cursor = cursor["id"]
        self._token = cursor.get("postBatchResumeToken", self._token)
        events: list[Event] = cursor[key]
        if not self._cursor or any(event["operationType"] == "invalidate" for event in events):
            raise HistoryLostError("the watched collection was dropped or renamed")
        newest = events[-1].get("clusterTime") if events else None
        return Batch(events, datetime.fromtimestamp(newest.time, UTC) if newest else None)

    async def _command(self, command: Document) -> Document:
        try:
            # With the dates of events as of all that is read, which is not what a command has by itself.
            options = self._mongo.database.codec_options
            reply: Document = await self._mongo.database.command(command, codec_options=options, session=self._session)
        except OperationFailure as error:
            if error.code in _HISTORY_LOST:
                raise HistoryLostError(str(error)) from error
            raise
        return reply


def _is_resumable(error: PyMongoError) -> bool:
    if isinstance(error, ConnectionFailure | CursorNotFound) or error.has_error_label("ResumableChangeStreamError"):
        return True
    return isinstance(error, OperationFailure) and error.code in _RESUMABLE
