"""Holds a process inside one of its MongoDB commands, so that it can be killed or frozen there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pymongo

from libs.mongo import Mongo, patiently

_REACH_SECONDS = 60.0

Reached: TypeAlias = Callable[[], Awaitable[None]]


@asynccontextmanager
async def held_command(
    mongo: Mongo,
    command: str,
    *,
    app: str,
    collection: str | None = None,
    passed: int = 0,
    seconds: float = 0.6,
    error: Mapping[str, Any] | None = None,
) -> AsyncIterator[Reached]:
    """Holds `command` of the application `app` in the server for `seconds`; await what it gives to see one held.

    The first `passed` are let through, and only those on `collection` count. It is answered with the write concern's
    `error` where there is one, although it was done. What is held is carried out when the time
    is up, even if the one who sent it is no more: it must be shorter than the time limit that the command came with.
    The end of the context waits for that.
    """
    admin = mongo.client.admin
    data: dict[str, Any] = {"failCommands": [command], "appName": app, "blockConnection": True}
    data["blockTimeMS"] = round(seconds * 1000)
    if collection is not None:
        data["namespace"] = f"{mongo.database.name}.{collection}"
    if error is not None:
        data["writeConcernError"] = error
    mode = {"skip": passed} if passed else {"times": 1}
    before = await admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

    async def reached() -> None:
        entered = before["count"] + 1
        with pymongo.timeout(_REACH_SECONDS):
            await admin.command({"waitForFailPoint": "failCommand", "timesEntered": entered, "maxTimeMS": 60_000})

    try:
        yield reached
    finally:
        # The server that was told may be gone, and its connections with it.
        await patiently(lambda: admin.command({"configureFailPoint": "failCommand", "mode": "off"}))


@asynccontextmanager
async def short_transactions(mongo: Mongo, seconds: int) -> AsyncIterator[None]:
    """Has the server end a transaction after `seconds` whose owner is gone; until then it locks what it has written."""
    admin = mongo.client.admin
    before = await admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": seconds})
    try:
        yield
    finally:
        await admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": before["was"]})


@asynccontextmanager
async def write_under_way(mongo: Mongo) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A write that has its place in the order of all writes and is not done yet.

    No majority has any later one before it is done: await what this gives, or leave the context.
    """
    admin, slow = mongo.client.admin, mongo.collection("slow")
    await slow.insert_one({"_id": 1})
    point = {"configureFailPoint": "hangAfterCollectionInserts", "data": {"collectionNS": slow.full_name}}
    before = await admin.command({**point, "mode": "alwaysOn"})

    async def write() -> None:
        await slow.insert_one({"_id": 2})

    async def end() -> None:
        await admin.command({**point, "mode": "off"})

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write(), name="a write under way")
        try:
            reached = {"waitForFailPoint": point["configureFailPoint"], "timesEntered": before["count"] + 1}
            await admin.command({**reached, "maxTimeMS": 60_000})
            yield end
        finally:
            await end()
