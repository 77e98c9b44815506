"""The connection to MongoDB: majority writes, primary reads, and a time limit on every operation."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypeVar

import pymongo
from bson.codec_options import CodecOptions
from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorClientSession,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

Document: TypeAlias = dict[str, Any]
Collection: TypeAlias = AsyncIOMotorCollection[Document]
Session: TypeAlias = AsyncIOMotorClientSession
ResultT = TypeVar("ResultT")

AWAIT_SECONDS = 1.0
"""Longest wait of one getMore on a change stream; it bounds how long a stopping process waits for it."""

_MAJORITY = WriteConcern("majority")


class StandaloneServerError(Exception):
    """The MongoDB server is a standalone, which has no change streams: start mongod with --replSet and initiate it."""


@dataclass(frozen=True, slots=True)
class Mongo:
    """One database on a replica set or sharded cluster.

    Every write is `w: majority`, every read goes to the primary, every operation ends within `operation_seconds`.
    """

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
        return cls(client, client.get_database(database), operation_seconds)

    def collection(self, name: str) -> Collection:
        """A collection of the database."""
        return self.database.get_collection(name, codec_options=CodecOptions(tz_aware=True))

    async def check_server(self) -> None:
        """Proves that the primary answers and can do what Darkroom needs.

        Raises:
            StandaloneServerError: the server is no member of a replica set and no mongos.
            pymongo.errors.PyMongoError: nothing answered within the time limit.
        """
        hello = await self.client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise StandaloneServerError(StandaloneServerError.__doc__)

    async def transaction(self, work: Callable[[Session], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Runs `work` in a transaction and commits it with majority; repeats it whole after transient errors.

        `work` gets the session to pass to its operations. Its effects outside the database must bear repetition.
        """
        async with await self.client.start_session() as session:
            with pymongo.timeout(self.operation_seconds):
                result: ResultT = await session.with_transaction(
                    work,
                    read_concern=ReadConcern("snapshot"),
                    write_concern=_MAJORITY,
                    read_preference=ReadPreference.PRIMARY,
                )
                return result

    def close(self) -> None:
        """Closes every connection."""
        self.client.close()
