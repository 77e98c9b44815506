"""The connection to MongoDB: majority writes by default, primary reads, and a time limit on every operation."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeAlias, TypeVar

import pymongo
import structlog
from bson.codec_options import CodecOptions
from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo.errors import BulkWriteError, PyMongoError, ServerSelectionTimeoutError
from pymongo.monitoring import CommandListener
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from libs.mongo.encoding import Encoded, in_messages
from libs.mongo.transactions import Transaction, WriteConflictError

Document: TypeAlias = dict[str, Any]
Collection: TypeAlias = AsyncIOMotorCollection[Document]
Session: TypeAlias = AsyncIOMotorClientSession
ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")

_MOST_CONFLICTS = 40  # enough to find four of a thousand
_log = structlog.get_logger()

BY_ID = "_id_"
"""The index of `_id`, to be hinted at wherever ids are given and a state beside them.

MongoDB tries each index for a hundred results. What was found at the front of the queue is at the front of all its
indexes, so that each does as well by then; but the end of one has everything in it that waits. To take 128 of 60,000
pending deliveries, 60,000 index entries were read.
"""

AWAIT_SECONDS = 1.0
"""Longest wait of one getMore on a change stream; it bounds how long a stopping process waits for it."""
_CLOSING_SECONDS = 0.5
# For the thread in which the driver sends: it would wait for the interpreter for five milliseconds, or longer.
_HEAD_START_SECONDS = 0.003


class StandaloneServerError(Exception):
    """The MongoDB server is a standalone, which has no change streams: start mongod with --replSet and initiate it."""


class OtherReplicaSetError(Exception):
    """The connection string names another replica set than the server is in; the message gives both names."""


@dataclass(frozen=True, slots=True)
class Mongo:
    """One database on a replica set or sharded cluster.

    Every write is `w: majority`, unless it is to a collection that was asked for otherwise; every read goes to the
    primary, every operation ends within `operation_seconds`.
    """

    uri: str
    client: AsyncIOMotorClient[Document]
    database: AsyncIOMotorDatabase[Document]
    operation_seconds: float

    @classmethod
    def connect(
        cls,
        uri: str,
        database: str,
        *,
        operation_seconds: float = 4.0,
        app_name: str = "darkroom",
        listeners: Sequence[CommandListener] = (),
    ) -> Self:
        """Prepares the connection; nothing is sent before the first operation. `listeners` are told of every command.

        They are called in the driver's threads.
        """
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            uri,
            appname=app_name,
            w="majority",
            readPreference="primary",
            retryWrites=True,
            timeoutMS=round(operation_seconds * 1000),
            # For operations that wait on purpose and so run outside timeoutMS: the getMore of change streams.
            socketTimeoutMS=round((AWAIT_SECONDS + operation_seconds) * 1000),
            serverSelectionTimeoutMS=round(operation_seconds * 1000),
            connectTimeoutMS=round(operation_seconds * 1000),
            tz_aware=True,
            event_listeners=list(listeners),
        )
        return cls(uri, client, client.get_database(database), operation_seconds)

    def collection(self, name: str, *, durable: bool = True) -> Collection:
        """A collection of the database.

        Not `durable`: the primary alone answers for what is written outside a transaction, and an election may undo it.
        """
        return self.database.get_collection(
            name,
            codec_options=CodecOptions(tz_aware=True),
            write_concern=None if durable else WriteConcern(1),
        )

    async def check_server(self) -> None:
        """Proves that the primary answers and can do what Darkroom needs.

        Raises:
            StandaloneServerError: the server is no member of a replica set and no mongos.
            OtherReplicaSetError: the server's set has another name than the connection string gives.
            pymongo.errors.PyMongoError: nothing answered within the time limit.
        """
        try:
            hello = await self.client.admin.command("hello")
        except ServerSelectionTimeoutError:
            # The driver leaves out servers that are not of the named set, as if they were not there.
            await self._check_seeds()
            raise
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise StandaloneServerError(StandaloneServerError.__doc__)

    async def _check_seeds(self) -> None:
        parsed = parse_uri(self.uri)
        wanted, tls = parsed["options"].get("replicaSet"), bool(parsed["options"].get("tls"))
        for host, port in parsed["nodelist"]:
            seed: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
                host, port, tls=tls, directConnection=True, serverSelectionTimeoutMS=1000
            )
            try:
                hello = await seed.admin.command("hello")
            except PyMongoError:
                continue
            finally:
                seed.close()
            if "setName" not in hello:
                raise StandaloneServerError(StandaloneServerError.__doc__)
            if wanted and hello["setName"] != wanted:
                raise OtherReplicaSetError(
                    f"{host}:{port} is in the replica set {hello['setName']!r}, not in {wanted!r}: mend replicaSet= "
                    "in the connection string."
                )

    async def insert(
        self,
        collection: str,
        documents: Sequence[Encoded],
        session: Session,
        *,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        """Inserts documents that have their `_id` inside a transaction; `meanwhile` is called while MongoDB does it.

        As `insert_many`, without what that does for each document in Python, which takes longer than to encode it.

        Raises:
            pymongo.errors.BulkWriteError: one of them is there already.
            pymongo.errors.PyMongoError: as any operation in a transaction.
        """
        first, *others = in_messages(documents)
        await self._insert(collection, first, session, meanwhile)
        for some in others:
            await self._insert(collection, some, session, lambda: None)

    async def _insert(
        self, collection: str, documents: Sequence[Encoded], session: Session, meanwhile: Callable[[], object]
    ) -> None:
        command = {"insert": collection, "ordered": False, "documents": documents}
        # On its way before it is awaited, since Motor gives a future.
        reply = asyncio.ensure_future(self.database.command(command, session=session))
        try:
            await asyncio.wait([reply], timeout=_HEAD_START_SECONDS)
            meanwhile()
        except BaseException:  # goes before an error of MongoDB, after which the transaction might be repeated
            with suppress(PyMongoError):
                await reply
            raise
        answer = await reply
        if answer.get("writeErrors"):
            raise BulkWriteError(answer)

    async def transaction(self, work: Callable[[Session], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Runs `work` in a transaction and commits it with majority, all within `operation_seconds`.

        It is repeated whole after transient errors, and the commit where its outcome is unknown.

        `work` gets the session to pass to its operations. Its effects outside the database must bear repetition.
        """
        return await Transaction(self.client, self.operation_seconds).run(work)

    async def transact_or_conflict(self, work: Callable[[Session], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Like `transaction`, but never waits for another transaction: what holds a document now may hold it for long.

        A write outside a transaction would wait, until its time limit or for as long as a killed process's transaction
        is kept open.

        Raises:
            WriteConflictError: another transaction holds one of the documents.
        """
        return await Transaction(self.client, self.operation_seconds, repeats_conflicts=False).run(work)

    async def transact_in_pieces(
        self, items: Sequence[ItemT], work: Callable[[Session, Sequence[ItemT]], Coroutine[Any, Any, ResultT]]
    ) -> list[ResultT]:
        """Runs `work` in a transaction over all `items`, passing over those that another open transaction holds.

        Where it holds some, the rest is done in pieces; where it holds many, some that it does not hold are left too,
        and so is what is behind an error of MongoDB. Gives the result of each piece that was done.
        """
        done: list[ResultT] = []
        pieces, conflicts, left = deque([items] if items else []), 0, 0
        while pieces:
            piece = pieces.popleft()
            try:
                done.append(await self.transact_or_conflict(partial(_on, work, piece)))
            except WriteConflictError:
                conflicts += 1
                middle = len(piece) // 2
                if middle and conflicts <= _MOST_CONFLICTS:
                    pieces += [piece[:middle], piece[middle:]]
                else:
                    left += len(piece)
            except PyMongoError as error:
                if not done:
                    raise
                # What was done is done; the caller comes again for the rest.
                _log.warning("mongo.pieces_left", pieces=len(pieces) + 1, error=repr(error)[:300])
                break
        if left:
            _log.info("mongo.locked", documents=left)
        return done

    def close(self) -> None:
        """Closes every connection; waits for half a second at most, in which the driver tells the server of the end.

        Without a limit it would look for a server to tell for as long as an operation may take.
        """
        with pymongo.timeout(_CLOSING_SECONDS):
            self.client.close()


async def _on(
    work: Callable[[Session, Sequence[ItemT]], Coroutine[Any, Any, ResultT]], piece: Sequence[ItemT], session: Session
) -> ResultT:
    return await work(session, piece)
