"""The parts of the state machine over leases: holders that can be stopped half way, and what a document should be."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from libs.leases import Fields, Leases, Shares, Spread
from libs.leases.front import Seen
from libs.mongo import Document, Mongo

ResultT = TypeVar("ResultT")
HOUR_SECONDS = 3600.0


class Holder(Leases):
    """A holder that can be stopped between the find and the update of what it does next."""

    def __init__(self, mongo: Mongo, collection: str, name: str) -> None:
        fields, in_order = Fields("rank", "ready_at"), Spread(most=1)
        super().__init__(mongo, collection, fields, seconds=HOUR_SECONDS, holder=name, spread=in_order)
        self.name = name
        self.found = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def _look(self, limit: int, start: float | None, shares: Shares | None) -> Seen:
        return await self._halt(await super()._look(limit, start, shares))

    async def _ids(self, wanted: Mapping[str, Any], order: str, limit: int) -> list[Any]:
        return await self._halt(await super()._ids(wanted, order, limit))

    async def _halt(self, found: ResultT) -> ResultT:
        self.found.set()
        await self.go_on.wait()
        return found


@dataclass(slots=True)
class Model:
    """What a document should look like; `expired` and `due` say on which side of the server's clock its date lies."""

    rank: int
    state: str = "pending"
    attempts: int = 0
    lost_leases: int = 0
    token: str | None = None
    holder: str | None = None
    alone: bool = False
    expired: bool = False
    due: bool | None = None

    @property
    def suspect(self) -> bool:
        """Whether it is to be claimed by itself."""
        return self.lost_leases >= 2

    def leave(self, state: str) -> None:
        """Nobody holds it any more."""
        self.state, self.token, self.holder, self.alone, self.expired = state, None, None, False, False

    def seen(self) -> Document:
        """The document, without its dates."""
        lease = {"token": self.token, "holder": self.holder, "alone": self.alone} if self.token else None
        return {
            "_id": self.rank,
            "rank": self.rank,
            "state": self.state,
            "attempts": self.attempts,
            "lost_leases": self.lost_leases,
            "lease": lease,
            "delayed": self.due is not None,
        }


def seen(document: Document) -> Document:
    """What there is of a document, without its dates."""
    lease = document.get("lease")
    shown = {name: value for name, value in document.items() if name not in {"lease", "ready_at"}}
    fence = {name: value for name, value in lease.items() if name != "until"} if lease else None
    return {**shown, "lease": fence, "delayed": "ready_at" in document}


@dataclass(frozen=True, slots=True)
class Held:
    """A claim as its holder remembers it; it may have lost it long ago."""

    holder: str
    token: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Halfway:
    """An operation that has found `ids` and is yet to write; `adopt` tells the model what it did."""

    task: asyncio.Task[Any]
    adopt: Callable[[Any], Any]


@dataclass(slots=True)
class World:
    """The event loop and the database that all examples share."""

    loop: asyncio.AbstractEventLoop
    mongo: Mongo
    numbers: Iterator[int] = field(default_factory=count)

    def run(self, work: Awaitable[ResultT]) -> ResultT:
        """The result of one step."""
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))


@contextmanager
def world_of(uri: str) -> Iterator[World]:
    """An event loop and a connection of its own, since a state machine is not asynchronous."""
    loop = asyncio.new_event_loop()

    async def connect() -> Mongo:
        mongo = Mongo.connect(uri, "test_lease_machine")
        await mongo.check_server()  # binds the connection to this loop
        return mongo

    mongo = loop.run_until_complete(connect())
    try:
        yield World(loop, mongo)
        loop.run_until_complete(mongo.client.drop_database(mongo.database.name))
    finally:
        mongo.close()
        loop.close()
