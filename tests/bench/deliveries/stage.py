"""What a benchmark of deliveries runs on: MongoDB, a receiver, the bare loop, and notifiers as they come."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from libs.documents import Documents
from libs.mongo import EmbeddedMongo, Mongo
from tests.bench.deliveries.bare_loop import BareLoop, bare_loop
from tests.bench.deliveries.news import store
from tests.bench.deliveries.receiver import Receiver, receiving
from tests.processes import Service, environment, started

AT_ONCE = 64
"""What the bare loop has in flight: with the 256 of a notifier it is slower."""

_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Stage:
    """`receiver` has a port for each endpoint; `mongod` is the process of MongoDB."""

    documents: Documents
    receiver: Receiver
    loop: BareLoop
    env: dict[str, str]
    folder: Path
    mongod: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def notifier(self) -> AsyncIterator[Service]:
        """One notifier, a process with the default settings, until the end of the context.

        It is killed, since a stop waits for endpoints that hang; what it leaves undone is removed behind it.
        """
        async with started("notifier", self.env, self.folder, number=next(self._numbers)) as service:
            yield service
        await self.documents.mongo.collection("deliveries").delete_many({})

    async def store(self, count: int) -> None:
        """Stores pending deliveries, to one endpoint after the other."""
        await store(self.documents, itertools.islice(itertools.cycle(self.receiver.urls), count))

    async def received(self, count: int, *, seconds: float = 120.0) -> None:
        """Returns once so many have come to the receiver; TimeoutError when they have not in time."""
        async with asyncio.timeout(seconds):
            while await self.receiver.count() < count:  # noqa: ASYNC110 (another process)
                await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def stage(endpoints: int) -> AsyncIterator[Stage]:
    """A stage with nothing stored, until the end of the context."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        embedded = await stack.enter_async_context(EmbeddedMongo(folder / "mongo"))
        receiver = await stack.enter_async_context(receiving(endpoints))
        loop = await stack.enter_async_context(bare_loop(AT_ONCE, receiver.urls))
        env = environment(embedded.uri, folder)
        mongo = Mongo.connect(embedded.uri, env["DATABASE_NAME"], operation_seconds=60)
        stack.callback(mongo.close)
        # What the benchmark itself holds is not to expire meanwhile.
        documents = Documents(mongo, lease_seconds=3600)
        await documents.ensure_indexes()
        process = embedded.running[0].process
        assert process is not None
        yield Stage(documents, receiver, loop, env, folder, process.pid)
