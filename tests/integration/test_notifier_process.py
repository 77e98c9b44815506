"""The notifier as a process of its own."""

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from libs.documents import Documents
from libs.mongo import Mongo
from tests.notifiers import TRACE, close_request, delivery_in
from tests.processes import SECRET, environment, started
from tests.webhook_server import receiving, waits_for


def env_of(mongo: Mongo, uri: str, folder: Path, **settings: str) -> dict[str, str]:
    """The environment of a notifier on the test's database."""
    return environment(uri, folder, **settings) | {"DATABASE_NAME": mongo.database.name}


async def test_an_idle_notifier_is_woken_by_the_change_stream(
    mongo: Mongo, mongo_uri: str, documents: Documents, tmp_path: Path
) -> None:
    """Ready, woken, delivered and verified; its logs carry request and trace; SIGTERM ends it with 0."""
    # With a sweep this rare, only the stream can have woken it.
    env = env_of(mongo, mongo_uri, tmp_path, DARKROOM_SWEEP_SECONDS="3600")
    async with receiving() as receiver, started("notifier", env, tmp_path) as notifier:
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{notifier.url}/readyz") as answer:
                assert answer.status == 200
            request_id = await close_request(documents, receiver.url)
            delivery = await delivery_in(documents, request_id, "delivered")
            async with client.get(f"{notifier.url}/metrics") as answer:
                exposed = await answer.text()
        assert await notifier.stop() == 0
    [received] = receiver.received
    assert received.verified(SECRET)["request_id"] == request_id
    assert 'darkroom_webhook_attempts_total{code="",outcome="delivered"} 1.0' in exposed
    lines = {line["event"]: line for line in notifier.events}
    for event in ("request.announced", "delivery.delivered"):
        assert (lines[event]["request_id"], lines[event]["service"]) == (request_id, "notifier")
        assert lines[event]["trace_id"] in TRACE
    assert lines["delivery.delivered"]["webhook_id"] == delivery.webhook_id
    assert SECRET not in notifier.log.read_text(encoding="utf-8")


async def test_a_notifier_killed_during_the_post_loses_nothing(
    mongo: Mongo, mongo_uri: str, documents: Documents, tmp_path: Path
) -> None:
    """Kill -9 while the receiver holds the connection: the next notifier delivers under the same id."""
    often = {"DARKROOM_LEASE_SECONDS": "3", "DARKROOM_OPERATION_SECONDS": "0.9", "DARKROOM_SWEEP_SECONDS": "0.2"}
    env = env_of(mongo, mongo_uri, tmp_path, **often)
    gate = asyncio.Event()
    async with receiving(waits_for(gate)) as receiver:
        request_id = await close_request(documents, receiver.url)
        async with started("notifier", env, tmp_path, number=1) as killed:
            await receiver.first(1)
            await killed.stop(signal.SIGKILL)
        gate.set()
        async with started("notifier", env, tmp_path, number=2):
            delivery = await delivery_in(documents, request_id, "delivered")
    first, second = receiver.received
    assert first.webhook_id == second.webhook_id == delivery.webhook_id
    assert delivery.attempts_made == 1


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("DARKROOM_WEBHOOK_SECRET", "", "it is not set"),
        ("DARKROOM_WEBHOOK_SECRET", "whsec_c2hvcnQ=", "24 to 64 bytes, not 5"),
        ("DARKROOM_WEBHOOK_SCHEDULE", "5,-1", "above 0"),
        ("DARKROOM_WEBHOOK_SCHEDULE", "5,inf", "above 0"),
    ],
)
async def test_a_notifier_refuses_settings_it_cannot_work_with(
    tmp_path: Path, setting: str, value: str, problem: str
) -> None:
    """Exit code 2 and one sentence that names the setting; the secret is not in it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.notifier"),
        env=environment("mongodb://127.0.0.1:1", tmp_path) | {setting: value},
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, written = await process.communicate()
    [sentence] = written.decode().splitlines()
    assert process.returncode == 2
    assert sentence.startswith(f"darkroom notifier: {setting}: ")
    assert problem in sentence
    assert not value.startswith("whsec_") or value not in sentence
