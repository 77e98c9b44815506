"""What every test may use: a real MongoDB, and in it a database of its own."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from libs.documents import Documents
from libs.mongo import EmbeddedMongo, Mongo

# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

FAULTS = ("--setParameter", "enableTestCommands=1")
"""Lets a test make MongoDB's commands fail (`configureFailPoint: failCommand`)."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run in the event loop that what they test runs in: the command line in asyncio's, the services in uvloop.

    (uvloop closes a pipe's descriptor twice, at once, which the command line's pipes would not bear beside threads.)
    """
    if item.path.name.startswith("test_cli_") and "unit" in item.path.parts:
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
async def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The connection string of a one-member replica set that lives as long as the test session."""
    folder: Path = tmp_path_factory.mktemp("mongo")
    async with EmbeddedMongo(folder, options=FAULTS) as embedded:
        yield embedded.uri


@pytest.fixture
async def mongo(mongo_uri: str) -> AsyncIterator[Mongo]:
    """A connection to a database of this test alone, dropped behind it."""
    connection = Mongo.connect(mongo_uri, f"test_{secrets.token_hex(8)}")
    yield connection
    await connection.client.drop_database(connection.database.name)
    connection.close()


@pytest.fixture
async def documents(mongo: Mongo) -> Documents:
    """The collections, with their indexes, in a database of this test alone."""
    documents = Documents(mongo)
    await documents.ensure_indexes()
    return documents
