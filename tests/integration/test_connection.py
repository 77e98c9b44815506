"""Connecting a service to its documents, and the end of a connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs.documents import Documents, connected
from libs.leases import IN_ORDER
from libs.mongo import EmbeddedMongo, Mongo
from libs.runtime.errors import FatalError, StoppedError
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop
from libs.runtime.settings import CommonSettings, load
from tests import primaries


@asynccontextmanager
async def connecting(mongo: Mongo, *, stop: Stop | None = None, **settings: object) -> AsyncIterator[Documents]:
    """A service's connection to the database of the test."""
    values = {"mongo_connection_string": mongo.uri, "database_name": mongo.database.name, **settings}
    async with connected(load(CommonSettings, **values), "test", stop=stop or Stop(), health=Health()) as documents:
        yield documents


async def test_a_service_finds_its_collections_with_their_indexes(mongo: Mongo) -> None:
    """The indexes are there as soon as the connection is."""
    async with connecting(mongo, collection_name="jobs"):
        indexes = await mongo.collection("jobs").index_information()
    assert set(indexes) == {"_id_", "open", "unannounced"}


async def test_an_index_that_is_in_the_way_is_named(mongo: Mongo) -> None:
    """Waiting would not help, so the service ends with a sentence."""
    await mongo.collection("images").create_index([("other", 1)], name=IN_ORDER)
    with pytest.raises(FatalError, match="index of the same name"):
        async with connecting(mongo):
            pass


async def test_a_wrong_connection_string_is_named(mongo: Mongo) -> None:
    """The sentence begins with the setting."""
    with pytest.raises(FatalError, match="MONGO_CONNECTION_STRING"):
        async with connecting(mongo, mongo_connection_string="mongo://nowhere"):
            pass


async def test_a_service_that_waits_for_its_database_can_be_stopped(mongo: Mongo) -> None:
    """The stop ends the wait for a server that does not answer."""
    stop = Stop()

    async def connect() -> None:
        uri = "mongodb://127.0.0.1:1/?replicaSet=rs0"
        async with connecting(mongo, stop=stop, mongo_connection_string=uri, operation_seconds=0.5):
            raise AssertionError("nothing listens there")

    waiting = asyncio.create_task(connect())
    stop.set()
    with pytest.raises(StoppedError):
        async with asyncio.timeout(30):
            await waiting


@pytest.mark.timeout(60)
async def test_a_connection_is_closed_without_waiting_for_a_server_that_is_gone(tmp_path: Path) -> None:
    """The driver has sessions to end, and an operation could take ten minutes; the close does not."""
    async with EmbeddedMongo(tmp_path) as embedded:
        connection = Mongo.connect(embedded.uri, "closed", operation_seconds=600)
        await connection.collection("things").insert_one({"_id": 1})
        await primaries.kill(embedded.running[0])
        connection.close()
