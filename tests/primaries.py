"""The primary of a replica set: its answers held back, itself killed or stepped down."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from libs.mongo import EmbeddedMongo, Mongo
from libs.mongo.embedded import Member
from tests.waiting import until

UNANSWERED = "hangBeforeWaitingForWriteConcern"
"""Where the server stands when a write is done and goes to the others, and the client is yet to hear of it."""
UNFETCHED = "stopReplProducer"
"""Where a member throws away what it has got of the primary's writes."""


@asynccontextmanager
async def connected_to(member: Member) -> AsyncIterator[Mongo]:
    """A connection to this member alone."""
    mongo = Mongo.connect(f"mongodb://{member.address}/?directConnection=true", "admin", operation_seconds=30)
    try:
        yield mongo
    finally:
        mongo.close()


async def primary_of(embedded: EmbeddedMongo) -> Member:
    """The member that is primary now."""
    mongo = Mongo.connect(embedded.uri, "admin", operation_seconds=30)
    try:
        address = (await mongo.client.admin.command("hello"))["me"]
    finally:
        mongo.close()
    return next(member for member in embedded.running if member.address == address)


async def kill(member: Member) -> None:
    """Kills its process and waits until that is gone."""
    assert member.process is not None
    member.process.kill()
    await member.process.communicate()


@asynccontextmanager
async def left_behind(members: Iterable[Member]) -> AsyncIterator[None]:
    """These members get nothing of what the primary writes, also not what is under way to them."""
    async with AsyncExitStack() as stack:
        for member in members:
            mongo = await stack.enter_async_context(connected_to(member))
            await _set(mongo, UNFETCHED, "alwaysOn")
            stack.push_async_callback(_set, mongo, UNFETCHED, "off")
        yield


async def _set(mongo: Mongo, point: str, mode: str) -> None:
    await mongo.client.admin.command({"configureFailPoint": point, "mode": mode})


async def step_down(member: Member) -> None:
    """Makes it hand over to another member."""
    async with connected_to(member) as mongo:
        await mongo.client.admin.command({"replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 5, "force": True})


async def come_back(embedded: EmbeddedMongo, member: Member) -> None:
    """Starts a killed member again; every member has then what the primary writes.

    One that had writes of its own says that it is a secondary, finds out only later that it must take them back, and
    can until then neither confirm a write nor vote: with another one killed, there is no majority meanwhile.
    """
    if member.process is None or member.process.returncode is not None:
        await embedded.start_member(member)
    every = {"w": len(embedded.running), "wtimeout": 1000}

    async def whole() -> bool:
        async with connected_to(await primary_of(embedded)) as mongo:
            try:
                noted = await mongo.client.admin.command("appendOplogNote", 1, data={}, writeConcern=every)
            except PyMongoError:  # an election
                return False
        return "writeConcernError" not in noted

    await until(whole, "the set is whole")


async def leave_unanswered(member: Member) -> None:
    """Has it do and replicate every write from now on, and answer none."""
    async with connected_to(member) as mongo:
        await _set(mongo, UNANSWERED, "alwaysOn")


async def release(member: Member) -> None:
    """Commands reach the member again, and are answered."""
    async with connected_to(member) as mongo:
        for point in ("failCommand", UNANSWERED):
            await _set(mongo, point, "off")


async def committed(mongo: Mongo, collection: str, wanted: dict[str, Any]) -> int:
    """How many such documents a majority has, so that no election can undo them."""
    majority = mongo.collection(collection).with_options(read_concern=ReadConcern("majority"))
    return await majority.count_documents(wanted)
