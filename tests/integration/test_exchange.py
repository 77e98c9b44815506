"""Endings that are recorded in the call that claims more."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pymongo.errors import PyMongoError

from libs.documents import Attempt, Delivery, Documents, Ending
from libs.leases import spread
from libs.mongo import Mongo
from tests.integration.test_faults import APP, WRITE_FAULTS, Fault, failing
from tests.logged import logged, put
from tests.query_plans import Recorder

ATTEMPT = Attempt(datetime(2026, 1, 31, 12, tzinfo=UTC), 0.1, 204, None, "", "192.0.2.1")


@pytest.fixture
async def recorder(mongo_uri: str, documents: Documents) -> AsyncIterator[tuple[Recorder, Documents]]:
    """The same documents over a connection whose commands are noted, and which faults can be aimed at."""
    noted = Recorder()
    connection = Mongo.connect(
        mongo_uri, documents.mongo.database.name, operation_seconds=4, app_name=APP, listeners=[noted]
    )
    await connection.check_server()
    yield noted, Documents(connection)
    connection.close()


async def held_of(documents: Documents, pending: int, limit: int) -> list[Delivery]:
    """Claimed of so many pending ones."""
    await put(documents, [logged(number, "pending") for number in range(pending)])
    return await documents.deliveries.claim(limit)


def delivered(held: Sequence[Delivery]) -> list[Ending]:
    """All of them were."""
    return [Ending(delivery, ATTEMPT, "delivered") for delivery in held]


async def states(documents: Documents) -> list[str]:
    """Of all deliveries, by their rank."""
    found = await documents.mongo.collection("deliveries").find({}, sort=[("rank", 1)]).to_list(None)
    return [document["state"] for document in found]


async def test_one_call_records_and_claims(documents: Documents, recorder: tuple[Recorder, Documents]) -> None:
    """What is claimed comes as it is stored, and is held; nothing but one update and a find is sent."""
    noted, deliveries = recorder[0], recorder[1].deliveries
    held = await held_of(documents, 6, 2)
    before = len(noted.commands)
    claimed, recorded = await deliveries.exchange(delivered(held), 3)
    assert recorded
    assert [command["name"] for command in noted.commands[before:]] == ["find", "update"]
    assert await states(documents) == ["delivered"] * 2 + ["processing"] * 3 + ["pending"]
    for delivery in claimed:
        stored = await documents.delivery_log.get(delivery.webhook_id)
        assert replace(delivery, claimed_at=None) == stored
    assert await deliveries.record(delivered(claimed)) == [True] * 3


async def test_where_an_ending_does_not_count_a_record_tells_which(documents: Documents) -> None:
    """One was fenced meanwhile; what is claimed is held all the same."""
    first, second = await held_of(documents, 4, 2)
    endings = delivered([replace(first, token="0" * 32), second])
    claimed, recorded = await documents.deliveries.exchange(endings, 2)
    assert not recorded
    assert len(claimed) == 2
    assert await documents.deliveries.record(endings) == [False, True]
    assert await states(documents) == ["processing", "delivered", "processing", "processing"]


async def test_where_there_is_nothing_to_claim_endings_are_left_to_be_recorded(documents: Documents) -> None:
    """Nothing was sent for them."""
    held = await held_of(documents, 1, 1)
    assert await documents.deliveries.exchange(delivered(held), 2) == ([], False)
    assert await states(documents) == ["processing"]
    assert await documents.deliveries.record(delivered(held)) == [True]


async def test_endings_are_recorded_where_others_have_taken_what_was_found(
    documents: Documents, recorder: tuple[Recorder, Documents], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, or a part; the claim goes on to what is behind that."""
    monkeypatch.setattr(spread, "_REMEMBERED_SECONDS", 600.0)
    noted, deliveries = recorder[0], recorder[1].deliveries
    await put(documents, [logged(number, "pending") for number in range(12)])
    for taken, updates, got in ((2, 2, 2), (1, 1, 1)):
        held = await deliveries.claim(2)  # those behind them are remembered
        others = [delivery.webhook_id for delivery in await Documents(documents.mongo).deliveries.claim(taken)]
        before = len(noted.commands)
        claimed, recorded = await deliveries.exchange(delivered(held), 2)
        assert [command["name"] for command in noted.commands[before:]].count("update") == updates
        assert recorded
        assert len(claimed) == got
        assert not {delivery.webhook_id for delivery in claimed} & set(others)
        for delivery in held:
            stored = await documents.delivery_log.get(delivery.webhook_id)
            assert stored is not None
            assert (stored.state, len(stored.attempts)) == ("delivered", 1)


async def test_endings_go_along_with_the_claim_behind_one_that_erred(
    mongo: Mongo, recorder: tuple[Recorder, Documents]
) -> None:
    """What may have been claimed is looked for first, in a call that takes nothing along."""
    deliveries = recorder[1].deliveries
    held = await held_of(recorder[1], 4, 1)
    async with failing(mongo, "update", Fault({"closeConnection": True}, {"times": 1})):
        with pytest.raises(PyMongoError):
            await deliveries.claim(2)
    claimed, recorded = await deliveries.exchange(delivered(held), 2)
    assert recorded
    assert len(claimed) == 2


async def test_what_was_tried_before_is_claimed_with_its_attempts_counted(documents: Documents) -> None:
    """Its number of attempts is not known from the look at it."""
    held = await held_of(documents, 1, 1)
    await put(documents, [logged(7, "pending", attempts_made=3)])
    claimed, recorded = await documents.deliveries.exchange(delivered(held), 2)
    assert recorded
    assert [delivery.attempts_made for delivery in claimed] == [3]


@pytest.mark.parametrize("fault", WRITE_FAULTS)
async def test_an_exchange_that_errs_loses_neither_part(
    mongo: Mongo, documents: Documents, recorder: tuple[Recorder, Documents], fault: Fault
) -> None:
    """Endings are recorded again, with one attempt each, and what was claimed or not is claimed once."""
    deliveries = recorder[1].deliveries
    await put(documents, [logged(number, "pending") for number in range(4)])
    held = await deliveries.claim(2)
    endings, claimed, recorded = delivered(held), list[Delivery](), False
    async with failing(mongo, "update", fault):
        try:
            claimed, recorded = await deliveries.exchange(endings, 2)
        except PyMongoError:
            claimed, recorded = [], False
    for _ in range(2):  # as a courier and a ledger that try again
        assert recorded or await deliveries.record(endings) == [True, True]
        claimed += await deliveries.claim(2 - len(claimed)) if len(claimed) < 2 else []
    assert len({delivery.webhook_id for delivery in claimed}) == len(claimed) == 2
    assert await deliveries.record(delivered(claimed)) == [True, True]
    assert await states(documents) == ["delivered"] * 4
    for delivery in held:
        stored = await documents.delivery_log.get(delivery.webhook_id)
        assert stored is not None
        assert len(stored.attempts) == 1
