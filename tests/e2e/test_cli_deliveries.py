"""`darkroom deliveries` and `redeliver` against a running ingest."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.documents import Documents
from tests.e2e.commands import DARKROOM, Done, darkroom, environment
from tests.ingests import Ingest, ingesting
from tests.logged import REQUEST, logged, put
from tests.waiting import until

OTHER = "0b7cbc20-0b02-4a4c-a1a6-0e0c1c6f1c5e"
ATTEMPT: dict[str, Any] = {"seconds": 0.1, "detail": "", "remote_address": "192.0.2.1"}


@pytest.fixture
async def ingest(documents: Documents, tmp_path: Path) -> AsyncIterator[Ingest]:
    """An ingest service for the command to speak to."""
    async with ingesting(documents, tmp_path) as ingest:
        yield ingest


async def states(documents: Documents) -> dict[str, str]:
    """The state of every delivery by its id."""
    return {found["_id"]: found["state"] async for found in documents.mongo.collection("deliveries").find()}


async def test_it_lists_what_became_of_webhooks(ingest: Ingest, documents: Documents, tmp_path: Path) -> None:
    """Where no terminal is, one line each with tabs between the cells; narrowed by options, or as JSON."""
    failed, delivered = await put(
        documents,
        [
            logged(0, "failed", host="a:81", attempts_made=3, reason="http_500"),
            logged(1, "delivered", request_id=OTHER),
        ],
    )
    collection = documents.mongo.collection("deliveries")
    attempt = [{"started_at": "$created_at", "status": 500, "error": "http_500", **ATTEMPT}]
    await collection.update_one({"_id": failed}, [{"$set": {"attempts": attempt}}])

    async def listed(*options: str) -> Done:
        done = await darkroom("deliveries", "--url", ingest.url, *options, folder=tmp_path)
        assert done.code == 0, done.err
        return done

    lines = [
        f"2026-01-31T12:00:01Z\tdelivered\trequest.completed\thttp://h/hook\t0\t\t{delivered}",
        f"2026-01-31T12:00:00Z\tfailed\trequest.completed\thttp://a:81/hook\t3\thttp_500\t{failed}",
    ]
    assert (await listed()).out.splitlines() == lines
    for options, shown in (
        (("--limit", "1"), lines[:1]),
        (("--request", REQUEST), lines[1:]),
        (("--endpoint", "a:81", "--state", "failed"), lines[1:]),
        (("--since", "2026-01-31T12:00:01Z"), lines[:1]),
        (("--since", "2h"), []),
    ):
        assert (await listed(*options)).out.splitlines() == shown, options
    told = json.loads((await listed("--json", "--state", "failed")).out)
    assert [found["id"] for found in told["deliveries"]] == [failed]
    assert told["deliveries"][0]["last_attempt"]["remote_address"] == "192.0.2.1"


async def test_a_long_list_is_read_page_by_page(ingest: Ingest, documents: Documents, tmp_path: Path) -> None:
    """As many as are asked for, though the interface gives 500 at a time."""
    ids = await put(documents, [logged(n, "delivered") for n in range(1100)])
    done = await darkroom("deliveries", "--url", ingest.url, "--limit", "1050", folder=tmp_path)
    assert [line.rpartition("\t")[2] for line in done.out.splitlines()] == ids[:49:-1]


async def test_one_is_sent_again_by_its_id(ingest: Ingest, documents: Documents, tmp_path: Path) -> None:
    """And what is queued stays so; an unknown one is a sentence."""
    [webhook_id] = await put(documents, [logged(0, "failed")])
    for said in ("is queued again.", "is delayed already; nothing was changed."):
        done = await darkroom("redeliver", webhook_id, "--url", ingest.url, folder=tmp_path)
        assert (done.code, done.out) == (0, f"Delivery {webhook_id} {said}\n"), done.err
    assert await states(documents) == {webhook_id: "delayed"}
    done = await darkroom("redeliver", "msg_" + "0" * 32, "--url", ingest.url, folder=tmp_path)
    assert done.code == 2
    assert done.err == "Error: Not Found (404): there is no delivery of this id\n"


async def test_all_that_failed_since_and_all_of_a_request_are_sent_again(
    ingest: Ingest, documents: Documents, tmp_path: Path
) -> None:
    """What failed before, or belongs to another, is left; so is what waits and has not been tried."""
    long_ago, lately, delivered = await put(
        documents,
        [logged(0, "failed"), logged(1, "failed", request_id=OTHER), logged(2, "delivered", request_id=OTHER)],
    )
    collection = documents.mongo.collection("deliveries")
    for webhook_id, days in ((long_ago, 3), (lately, 0)):
        ended = {"$subtract": ["$$NOW", days * 86_400_000]}
        await collection.update_one({"_id": webhook_id}, [{"$set": {"ended_at": ended}}])

    done = await darkroom("redeliver", "--failed-since", "2d", "--url", ingest.url, folder=tmp_path)
    assert (done.code, done.out) == (0, "1 delivery is queued again.\n"), done.err
    assert await states(documents) == {long_ago: "failed", lately: "delayed", delivered: "delivered"}
    done = await darkroom("redeliver", "--request", OTHER, "--url", ingest.url, folder=tmp_path)
    assert (done.code, done.out) == (0, "1 delivery is queued again.\n"), done.err
    assert await states(documents) == {long_ago: "failed", lately: "delayed", delivered: "delayed"}
    await collection.update_one({"_id": lately}, {"$set": {"attempts_made": 1}})
    done = await darkroom("redeliver", "--state", "delayed", "--url", ingest.url, folder=tmp_path)
    assert (done.code, done.out) == (0, "1 delivery is queued again.\n"), done.err


async def test_in_a_terminal_there_is_a_table(ingest: Ingest, documents: Documents, tmp_path: Path) -> None:
    """A person sees it framed."""
    [webhook_id] = await put(documents, [logged(0, "failed")])
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*DARKROOM, "deliveries", "--url", ingest.url),
        env=environment(TERM="xterm-256color", COLUMNS="200"),
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""

    async def ended() -> bool:
        nonlocal shown
        try:
            shown += await asyncio.to_thread(os.read, ours, 65536)
        except OSError:  # EIO: the last process of the terminal has ended
            return True
        return False

    try:
        await until(ended, "the command ends")
        assert await process.wait() == 0, shown.decode()
    finally:
        os.close(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(rf"│ failed +│ request\.completed │ http://h/hook │ 0 +│ +│ {webhook_id} │", text), text
