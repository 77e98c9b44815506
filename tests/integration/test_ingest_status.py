from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from libs.documents import Documents, Failed, HeldImage, ImageFailure, Outcome, Output
from libs.mongo import Mongo
from services.ingest.models import RequestStatus
from tests.ingests import HEADER, SAMPLE, Ingest, ingesting

UNKNOWN = "2f1c5a3e-8d6b-4c57-9a34-0e9f7b1d2c48"
NAME = "ab" * 32 + ".jpg"


@pytest.fixture
async def ingest(documents: Documents, tmp_path: Path) -> AsyncIterator[Ingest]:
    """An ingest service with the settings it has by default."""
    async with ingesting(documents, tmp_path) as ingest:
        yield ingest


async def finish(documents: Documents, outcomes: dict[int, Outcome]) -> None:
    """Does a watcher's work on the one request there is: these positions get these outcomes."""
    _, held = await documents.images.claim(100)
    finished: list[tuple[HeldImage, Outcome]] = [
        (image, outcomes[image.position]) for image in held if image.position in outcomes
    ]
    assert len((await documents.outcomes.write(finished)).images) == len(outcomes)


async def test_a_new_request_is_all_pending(ingest: Ingest) -> None:
    """Rows and URLs in order, outputs null, no errors, and counts that say so."""
    status = await ingest.status(await ingest.accepted(SAMPLE))

    RequestStatus.model_validate(status)
    assert (status["status"], status["completed_at"]) == ("pending", None)
    assert {name: status[name] for name in ("total", "completed", "failed", "cancelled", "pending")} == {
        "total": 3,
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
        "pending": 3,
    }
    assert status["details"] == [
        {
            "serial_number": 1,
            "product_name": "SKU1",
            "input_image_urls": ["https://picsum.photos/200/300", "https://picsum.photos/200/301"],
            "output_image_urls": [None, None],
            "errors": [],
        },
        {
            "serial_number": 2,
            "product_name": "SKU2",
            "input_image_urls": ["https://picsum.photos/200/302"],
            "output_image_urls": [None],
            "errors": [],
        },
    ]


async def test_outputs_and_errors_stand_beside_their_inputs(ingest: Ingest, documents: Documents) -> None:
    """A completed image has a URL, a failed one an error with its index in the row, a pending one neither."""
    request_id = await ingest.accepted(SAMPLE)
    output = Output(NAME, bytes=40, source_bytes=100, width=1, height=1, format="jpeg")
    await finish(documents, {0: output, 1: Failed(ImageFailure("http_404", "picsum.photos answered 404"))})

    status = await ingest.status(request_id)

    RequestStatus.model_validate(status)
    first, second = status["details"]
    assert first["output_image_urls"] == [f"{ingest.url}/compressed_images/{NAME}", None]
    assert first["errors"] == [{"position": 1, "code": "http_404", "detail": "picsum.photos answered 404"}]
    assert (second["output_image_urls"], second["errors"]) == ([None], [])
    assert (status["completed"], status["failed"], status["pending"]) == (1, 1, 1)
    assert (status["bytes_in"], status["bytes_out"]) == (100, 40)


async def test_what_is_known_of_each_image_is_told_when_asked_for(ingest: Ingest, documents: Documents) -> None:
    """Aligned with the outputs, and nothing where there is none."""
    request_id = await ingest.accepted(SAMPLE)
    stages = {"queue": 40, "download": 210, "decode": 12, "encode": 9, "store": 3}
    size: dict[str, Any] = {"source_format": "png", "source_width": 2, "source_height": 3}
    output = Output(NAME, 40, 100, width=3, height=2, format="jpeg", quality=50, milliseconds=stages, **size)
    await finish(documents, {0: output})

    status = await ingest.status(request_id, facts="true")

    RequestStatus.model_validate(status)
    first, second = status["details"]
    flags = dict.fromkeys(("kept", "animated", "larger_than_source", "target_missed", "reused"), False)
    sizes = {"bytes_in": 100, "bytes_out": 40, "width": 3, "height": 2}
    assert first["facts"] == [{**sizes, "format": "jpeg", "quality": 50, **flags, **size, "milliseconds": stages}, None]
    assert second["facts"] == [None]


@pytest.mark.parametrize(
    ("query", "serial_numbers"),
    [
        ({"limit": 2}, [0, 1]),
        ({"offset": 3}, [3, 4]),
        ({"offset": 1, "limit": 3}, [1, 2, 3]),
        ({"offset": 9}, []),
        ({"limit": 99, "details": "true"}, [0, 1, 2, 3, 4]),
    ],
)
async def test_limit_and_offset_count_rows(ingest: Ingest, query: dict[str, int], serial_numbers: list[int]) -> None:
    """Not images: each row has two."""
    csv = HEADER + "".join(f"{n},SKU,https://a.example/{n}a.jpg,https://a.example/{n}b.jpg\n" for n in range(5))

    status = await ingest.status(await ingest.accepted(csv), **query)

    assert [row["serial_number"] for row in status["details"]] == serial_numbers
    assert all(len(row["input_image_urls"]) == 2 for row in status["details"])
    assert status["total"] == 10


async def test_details_may_be_left_out(ingest: Ingest) -> None:
    """The counts alone are a small answer, however large the request."""
    status = await ingest.status(await ingest.accepted(SAMPLE), details="false")

    assert "details" not in status
    assert status["total"] == 3


async def test_the_head_of_a_status_has_no_body(ingest: Ingest) -> None:
    """HEAD answers like GET, without rows being read."""
    request_id = await ingest.accepted(SAMPLE)

    async with ingest.client.head(f"{ingest.url}/api/status?request_id={request_id}") as answer:
        assert answer.status == 200
        assert await answer.read() == b""


async def test_many_rows_are_streamed_whole(ingest: Ingest) -> None:
    """More rows than one chunk holds are valid JSON, in order, with names of any characters."""
    name = 'ä"\\\n\u2028🎞'
    quoted = '"' + name.replace('"', '""') + '"'
    csv = HEADER + "".join(f"{n},{quoted},https://a.example/{n}.jpg\n" for n in range(3_000))

    status = await ingest.status(await ingest.accepted(csv))

    assert [row["serial_number"] for row in status["details"]] == list(range(3_000))
    assert {row["product_name"] for row in status["details"]} == {name}


async def test_a_status_that_cannot_be_finished_is_broken_off(ingest: Ingest, mongo: Mongo) -> None:
    """When the database fails after the answer has begun, the client sees a cut answer, not a short one."""
    csv = HEADER + "".join(f"{n},SKU{'x' * 200},https://a.example/{n}.jpg\n" for n in range(3_000))
    request_id = await ingest.accepted(csv)
    await mongo.client.admin.command(
        {
            "configureFailPoint": "failCommand",
            "mode": {"skip": 3},  # the request, its progress and the first chunk of its rows
            "data": {"failCommands": ["find"], "errorCode": 2},
        }
    )
    try:
        async with ingest.client.get(f"{ingest.url}/api/status?request_id={request_id}") as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
    finally:
        await mongo.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    assert len((await ingest.status(request_id))["details"]) == 3_000


@pytest.mark.parametrize("request_id", [UNKNOWN, UNKNOWN.upper()])
async def test_an_unknown_request_is_a_404(ingest: Ingest, request_id: str) -> None:
    """A well-formed id of nothing, in either case."""
    status, body = await ingest.call("GET", f"/api/status?request_id={request_id}")

    assert (status, body["code"]) == (404, "unknown_request")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "request_id=",
        "request_id=17",
        f"request_id={UNKNOWN}0",
        f"request_id={UNKNOWN}%0A",
        f"request_id={UNKNOWN}&limit=0",
        f"request_id={UNKNOWN}&limit=many",
        f"request_id={UNKNOWN}&offset=-1",
        f"request_id={UNKNOWN}&details=maybe",
        f"request_id={UNKNOWN}&limt=1",
        f"request_id={UNKNOWN}&request_id={UNKNOWN}",
    ],
)
async def test_a_wrong_question_is_a_422(tmp_path: Path, query: str) -> None:
    """Malformed, misspelt and repeated parameters are told, whether the database is there or not."""
    async with ingesting(None, tmp_path) as ingest:
        status, body = await ingest.call("GET", f"/api/status?{query}")

    assert (status, body["code"]) == (422, "invalid_parameters")
