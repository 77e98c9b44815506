"""Transactions whose commit errs, whose server goes, and what they see, on a real MongoDB."""

from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import PyMongoError

from libs.mongo import EmbeddedMongo, Mongo, Session
from tests.fail_points import write_under_way


async def test_a_transaction_whose_commit_meets_a_write_conflict_is_repeated(mongo: Mongo) -> None:
    """The whole work is done again, and counts once."""
    counters = mongo.collection("counters")
    await counters.insert_one({"_id": 1, "n": 0})
    data = {
        "failCommands": ["commitTransaction"],
        "appName": "darkroom",
        "errorCode": 112,
        "errorLabels": ["TransientTransactionError"],
    }
    await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    runs = 0

    async def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        await counters.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)

    await mongo.transaction(work)
    assert runs == 2
    assert await counters.find_one() == {"_id": 1, "n": 1}


async def test_a_transaction_without_a_server_ends_and_is_not_repeated_hotly(tmp_path: Path) -> None:
    """When the only member is killed inside the work, the error comes after the time limit and a few tries."""
    async with EmbeddedMongo(tmp_path) as embedded:
        mongo = Mongo.connect(embedded.uri, "gone", operation_seconds=2)
        await mongo.collection("counters").insert_one({"_id": 1, "n": 0})
        [member] = embedded.running
        runs = 0

        async def work(session: Session) -> None:
            nonlocal runs
            runs += 1
            if member.process is not None and member.process.returncode is None:
                member.process.kill()
                await member.process.wait()
            await mongo.collection("counters").update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)

        with pytest.raises(PyMongoError):
            await mongo.transaction(work)
        assert runs < 50
        mongo.close()


async def test_a_transaction_sees_what_was_written_while_an_earlier_write_is_under_way(mongo: Mongo) -> None:
    """Although no majority can have it before the earlier one: what was just claimed, or found, is there."""
    work, seen = mongo.collection("work", durable=False), list[Any]()
    await work.insert_one({"_id": 1})
    async with write_under_way(mongo) as end_it:

        async def look(session: Session) -> None:
            seen.append(await work.find_one({"_id": 1}, session=session))
            await end_it()  # or the commit would wait for it

        await work.update_one({"_id": 1}, {"$set": {"state": "processing"}})
        await mongo.transaction(look)
    assert seen == [{"_id": 1, "state": "processing"}]
