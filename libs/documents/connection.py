"""Connects a service to its documents, waiting for a MongoDB that is not there yet."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pymongo
import structlog
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from libs.documents.documents import Documents
from libs.mongo import Mongo, OtherReplicaSetError, StandaloneServerError
from libs.runtime.errors import FatalError, StoppedError
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop
from libs.runtime.settings import CommonSettings

_log = structlog.get_logger()
_PAUSE_SECONDS = 1.0
_INDEX_SECONDS = 3600.0  # a new index on a collection that is already large
_FATAL = {
    13: "MongoDB refuses access (not authorised)",
    18: "MongoDB refuses access (authentication failed)",
    8000: "MongoDB refuses access (authentication failed)",
    85: "An index of the same name has other options; drop it",
    86: "An index of the same name has other options; drop it",
}


@asynccontextmanager
async def connected(settings: CommonSettings, service: str, *, stop: Stop, health: Health) -> AsyncIterator[Documents]:
    """The documents of `settings`, with their indexes, once MongoDB answers; closes the connection behind itself.

    Raises:
        FatalError: the connection string is wrong, access is refused, or the server is a standalone.
        StoppedError: the stop came first.
    """
    try:
        mongo = Mongo.connect(
            settings.mongo_connection_string,
            settings.database_name,
            operation_seconds=settings.operation_seconds,
            app_name=f"darkroom-{service}",
        )
    except (ConfigurationError, ValueError) as error:
        raise FatalError(f"MONGO_CONNECTION_STRING: {error}") from error
    try:
        documents = Documents(mongo, requests_name=settings.collection_name, lease_seconds=settings.lease_seconds)
        await _wait_for_server(documents, stop, health)
        yield documents
    finally:
        mongo.close()


async def _wait_for_server(documents: Documents, stop: Stop, health: Health) -> None:
    while not stop.is_set:
        try:
            await documents.ping()
            with pymongo.timeout(_INDEX_SECONDS):
                await documents.ensure_indexes()
        except (StandaloneServerError, OtherReplicaSetError) as error:
            raise FatalError(str(error)) from error
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code in _FATAL:
                raise FatalError(f"{_FATAL[error.code]}: {error}") from error
            health.set_unready("waiting for MongoDB")
            _log.warning("mongo.waiting", error=repr(error)[:300])
        else:
            return
        health.beat()
        try:
            async with asyncio.timeout(_PAUSE_SECONDS * random.uniform(0.5, 1.0)):  # noqa: S311 (jitter)
                await stop.wait()
        except TimeoutError:
            continue
    raise StoppedError
