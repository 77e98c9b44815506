"""How the images are to be compressed: fields of the upload's form."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.documents import Documents
from libs.mongo import Mongo
from tests.ingests import HEADER, SAMPLE, Ingest, ingesting, multipart, stored

FILE = 'Content-Disposition: form-data; name="file"; filename="a.csv"'
HEADERS = {"Content-Type": "multipart/form-data; boundary=b0undary"}
DEFAULTS = {"quality": 50, "format": "jpeg", "background": "#ffffff", "metadata": "strip"}


@pytest.fixture
async def ingest(documents: Documents, tmp_path: Path) -> AsyncIterator[Ingest]:
    """An ingest service with the settings it has by default."""
    async with ingesting(documents, tmp_path) as ingest:
        yield ingest


async def upload(ingest: Ingest, **fields: str) -> tuple[int, Any]:
    """Uploads the sample with these fields; gives status and JSON."""
    texts = [(f'Content-Disposition: form-data; name="{name}"', value.encode()) for name, value in fields.items()]
    return await ingest.call("POST", "/api/upload", data=multipart([*texts, (FILE, SAMPLE.encode())]), headers=HEADERS)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, DEFAULTS),
        ({"quality": "", "max_bytes": ""}, DEFAULTS),
        ({"quality": "80"}, DEFAULTS | {"quality": 80}),
        ({"quality": "auto", "format": "webp"}, DEFAULTS | {"quality": "auto", "format": "webp"}),
        (
            {"target_ratio": "0.5", "max_width": "1600", "max_height": "1200"},
            {name: value for name, value in DEFAULTS.items() if name != "quality"}
            | {"target_ratio": 0.5, "max_width": 1600, "max_height": 1200},
        ),
        (
            {"max_bytes": "200000", "background": "#ff8800", "metadata": "copyright"},
            {"max_bytes": 200_000, "format": "jpeg", "background": "#ff8800", "metadata": "copyright"},
        ),
    ],
)
async def test_options_are_stored_with_the_request(
    ingest: Ingest, mongo: Mongo, fields: dict[str, str], options: dict[str, Any]
) -> None:
    """As plain values with the defaults written out, so that other defaults of a later version change nothing."""
    status, body = await upload(ingest, **fields)

    assert status == 200, body
    request = await mongo.collection("requests").find_one({"_id": body["request_id"]})
    assert request is not None
    assert request["options"] == options


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"quality": "0"}, "quality: must be a whole number from 1 to 95, or auto"),
        ({"quality": "96"}, "quality: must be a whole number from 1 to 95, or auto"),
        ({"quality": "best"}, "quality: must be a whole number from 1 to 95, or auto"),
        ({"target_ratio": "1"}, "target_ratio: Input should be less than 1"),
        ({"target_ratio": "nan"}, "target_ratio: "),
        ({"max_bytes": "0"}, "max_bytes: Input should be greater than or equal to 1"),
        ({"max_bytes": "1e9"}, "max_bytes: "),
        ({"format": "gif"}, "format: Input should be 'jpeg', 'keep', 'webp', 'avif' or 'png'"),
        ({"max_width": "-5"}, "max_width: Input should be greater than or equal to 1"),
        ({"max_height": "65501"}, "max_height: Input should be less than or equal to 65500"),
        ({"background": "white"}, "background: must be a colour such as #ffffff"),
        ({"metadata": "all"}, "metadata: Input should be 'strip', 'copyright' or 'keep'"),
        ({"quality": "50", "max_bytes": "9"}, "max_bytes: give only one of quality, target_ratio and max_bytes"),
        ({"format": "png", "target_ratio": "0.5"}, "target_ratio: PNG loses nothing, so its size cannot be chosen"),
    ],
)
async def test_a_wrong_option_is_refused_by_its_name(
    ingest: Ingest, mongo: Mongo, fields: dict[str, str], detail: str
) -> None:
    """What is accepted is said in words, and nothing is stored."""
    status, body = await upload(ingest, **fields)

    assert (status, body["code"]) == (422, "invalid_parameters")
    assert body["detail"].startswith(detail)
    assert await stored(mongo) == 0


async def test_a_wrong_option_before_the_file_is_told_before_the_file_is_sent(ingest: Ingest, mongo: Mongo) -> None:
    """Nobody sends half a gigabyte to learn that the quality was wrong."""
    never = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'--b0undary\r\nContent-Disposition: form-data; name="quality"\r\n\r\n200\r\n'
        yield f"--b0undary\r\n{FILE}\r\n\r\n{HEADER}".encode() + b"1,SKU,https://a.example/a.jpg\n" * 1000
        await never.wait()

    status, problem = await ingest.call("POST", "/api/upload", data=body(), headers=HEADERS)

    assert (status, problem["code"]) == (422, "invalid_parameters")
    assert await stored(mongo) == 0
