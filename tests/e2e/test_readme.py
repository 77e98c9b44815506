"""What the README tells a newcomer to type, typed."""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import environment, started

ROOT = Path(__file__).parents[2]
UV = Path(sysconfig.get_path("scripts")) / "uv"
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
BASE = "http://localhost:8000"
EXAMPLE_ID = "0b7cbc20-0b02-4a4c-a1a6-0e0c1c6f1c5e"
EXAMPLE_ENDPOINT = "ep_019c1360a8007d1f4b6e2a90c35d71e8"


def block(part: str) -> str:
    """The one shell block that contains `part`."""
    [found] = [text for text in BLOCKS if part in text]
    return str(found)


def promised(text: str) -> Any:
    """The answer that stands as a comment in a shell block."""
    [comment] = re.findall(r"^# (\{.*)", text, re.MULTILINE)
    return json.loads(comment)


def test_the_first_command_installs_and_shows_darkroom(tmp_path: Path) -> None:
    """In a fresh environment, by uv, whose cache spares the downloads: the extra has all that the demo needs."""
    make, install, demo = (shlex.split(part) for part in block("darkroom demo").split("&&"))
    assert make == ["python3", "-m", "venv", ".venv"]
    assert install[:-1] == [".venv/bin/pip", "install", "-q"]
    requirement = f"{ROOT}{install[-1].removeprefix('.')}"
    assert requirement.endswith("]")
    env = {**os.environ, "PYTHONPATH": "", "TMPDIR": str(tmp_path)}
    commands: list[list[str | Path]] = [
        [UV, "venv", "--quiet", "--python", sys.executable, ".venv"],
        [UV, "pip", "install", "--quiet", "--python", ".venv/bin/python", requirement],
        [*demo],
    ]
    for command in commands:
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    assert done.stdout.endswith("All of it held.\n")


@dataclass(frozen=True, slots=True)
class Terminal:
    """A shell in `folder`, beside a Darkroom at `url`."""

    folder: Path
    url: str

    async def types(self, text: str, request_id: str = "", endpoint_id: str = "") -> list[Any]:
        """The JSON answers to the commands of a block, run as they stand but for base URL and ids."""
        text = (
            text.replace(BASE, self.url)
            .replace(EXAMPLE_ID, request_id)
            .replace("request_id=…", f"request_id={request_id}")
            .replace(EXAMPLE_ENDPOINT, endpoint_id)
        )
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", text),
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await shell.communicate()
        assert shell.returncode == 0, err.decode()
        return list(documents(out.decode()))


def documents(text: str) -> Iterator[Any]:
    """The JSON documents that stand one after another in `text`."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:]


@pytest.fixture
async def terminal(mongo_uri: str, tmp_path: Path) -> AsyncIterator[Terminal]:
    """A shell beside an ingest service, for which no watcher works."""
    if shutil.which("curl") is None:
        pytest.fail("curl is not installed: its Debian package is `curl`")
    async with started("ingest", environment(mongo_uri, tmp_path), tmp_path) as ingest:
        yield Terminal(tmp_path, ingest.url)


async def test_the_curl_examples_do_what_is_said_of_them(terminal: Terminal) -> None:
    """The trial, upload, status in four ways, cancellation, the test receiver of webhooks, and subscriptions."""
    trial, upload, status, cancel, webhook, subscribe, subscription = (text for text in BLOCKS if "curl" in text)

    [accepted] = await terminal.types(trial)
    assert accepted["status"] == "pending"
    [accepted] = await terminal.types(upload)
    request_id = accepted["request_id"]
    assert promised(upload) == accepted | {"request_id": EXAMPLE_ID}

    whole, counts, window, known = await terminal.types(status, request_id)
    assert {answer["request_id"] for answer in (whole, counts, window, known)} == {request_id}
    assert [row["product_name"] for row in whole["details"]] == ["SKU1", "SKU2"]
    assert [len(row["input_image_urls"]) for row in whole["details"]] == [2, 1]
    assert "details" not in counts
    assert counts["total"] == 3
    assert window["details"] == []
    assert [row["facts"] for row in known["details"]] == [[None, None], [None]]

    [cancelled] = await terminal.types(cancel, request_id)
    assert (cancelled["request_id"], cancelled["status"]) == (request_id, "cancelled")
    [refused] = await terminal.types(cancel, request_id)
    assert refused["status"] == 409

    [received] = await terminal.types(webhook)
    assert received == promised(webhook)

    [subscribed] = await terminal.types(subscribe)
    assert subscribed["secret"].startswith("whsec_")
    listed, sent, rotated, disabled = await terminal.types(subscription, endpoint_id=subscribed["id"])
    assert [webhook["id"] for webhook in listed["webhooks"]] == [subscribed["id"]]
    assert sent["delivery_id"].startswith("msg_")
    assert rotated["secret"] != subscribed["secret"]
    assert disabled["disabled"]["reason"] == "by_owner"
    [unsubscribed] = await terminal.types("curl -s " + BASE + "/api/webhooks")
    assert unsubscribed["webhooks"] == []
