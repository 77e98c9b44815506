from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
import yarl

from libs.documents import Documents, Failed, ImageFailure
from tests.ingests import SAMPLE, Ingest, ingesting

UNKNOWN = "2f1c5a3e-8d6b-4c57-9a34-0e9f7b1d2c48"
NAME = "ab" * 32 + ".jpg"
IMAGE = bytes(range(256))


@pytest.fixture
async def ingest(documents: Documents, tmp_path: Path) -> AsyncIterator[Ingest]:
    """An ingest service with the settings it has by default."""
    async with ingesting(documents, tmp_path) as ingest:
        yield ingest


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Ingest]:
    """An ingest service without a database, and with one image in its store."""
    async with ingesting(None, tmp_path) as ingest:
        async with ingest.context.storage.writing():
            await ingest.context.storage.put(NAME, IMAGE)
        yield ingest


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/upload/", "/docs/assets/../x", "/compressed_images/", "/favicon.ico"]
)
async def test_an_unknown_path_is_a_404(bare: Ingest, path: str) -> None:
    """With a problem like every other error."""
    status, body = await bare.call("GET", path)

    assert (status, body["code"], body["title"]) == (404, "not_found", "Not Found")


async def test_the_address_alone_leads_to_the_documentation(bare: Ingest) -> None:
    """Who opens the URL that `up` prints is not met by an error."""
    async with aiohttp.ClientSession() as client, client.get(f"{bare.url}/") as answer:
        assert (answer.status, answer.url.path, answer.content_type) == (200, "/docs", "text/html")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/upload", "POST"),
        ("POST", "/api/status", "GET,HEAD"),
        ("PATCH", f"/api/requests/{UNKNOWN}", "DELETE"),
        ("PUT", "/api/webhook-test", "POST"),
        ("DELETE", f"/compressed_images/{NAME}", "GET,HEAD"),
        ("POST", "/openapi.json", "GET,HEAD"),
    ],
)
async def test_a_wrong_method_is_a_405_that_says_which_are_right(
    bare: Ingest, method: str, path: str, allowed: str
) -> None:
    """The header Allow lists what the path takes."""
    async with bare.client.request(method, bare.url + path) as answer:
        body = await answer.json(content_type=None)

    assert (answer.status, body["code"], answer.headers["Allow"]) == (405, "method_not_allowed", allowed)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(bare: Ingest, request_bytes: bytes) -> None:
    """A malformed request line or header, and a path of nine thousand characters, get a problem 400."""
    answer = await bare.raw(request_bytes)

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"application/problem+json" in answer
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", "/api/status?request_id=17", "request_id: must be a UUID such as 2f1c5a3e-"),
        ("GET", f"/api/status?request_id={UNKNOWN}%0A", "request_id: must be a UUID such as 2f1c5a3e-"),
        ("DELETE", "/api/requests/17", "id: must be a UUID such as 2f1c5a3e-"),
    ],
)
async def test_a_refusal_is_written_for_people(bare: Ingest, method: str, path: str, words: str) -> None:
    """It says what a value must be, not which pattern it failed."""
    status, body = await bare.call(method, yarl.URL(f"{bare.url}{path}", encoded=True).raw_path_qs)

    assert status == 422
    assert body["detail"].startswith(words)


async def test_an_unknown_expectation_is_a_417(bare: Ingest) -> None:
    """Only 100-continue can be expected."""
    status, body = await bare.call("GET", "/api/status", headers={"Expect": "miracles"})

    assert (status, body["code"]) == (417, "expectation_failed")


# --- cancellation ----------------------------------------------------------------------------------------------------
async def test_cancelling_ends_what_has_not_finished(ingest: Ingest) -> None:
    """The request is cancelled, its images count as cancelled, and a second time is a conflict."""
    request_id = await ingest.accepted(SAMPLE)

    assert await ingest.call("DELETE", f"/api/requests/{request_id}") == (
        200,
        {"request_id": request_id, "status": "cancelled"},
    )
    status = await ingest.status(request_id, details="false")
    assert (status["status"], status["cancelled"], status["pending"]) == ("cancelled", 3, 0)
    again, body = await ingest.call("DELETE", f"/api/requests/{request_id}")
    assert (again, body["code"]) == (409, "already_final")


async def test_a_finished_request_cannot_be_cancelled(ingest: Ingest, documents: Documents) -> None:
    """409, and the status stays."""
    request_id = await ingest.accepted(SAMPLE)
    _, held = await documents.images.claim(10)
    await documents.outcomes.write([(image, Failed(ImageFailure("http_404", "gone"))) for image in held])
    await documents.requests.close_if_done(request_id, 3)

    status, body = await ingest.call("DELETE", f"/api/requests/{request_id}")

    assert (status, body["code"]) == (409, "already_final")
    assert (await ingest.status(request_id))["status"] == "failed"


@pytest.mark.parametrize(("request_id", "expected"), [(UNKNOWN, 404), ("17", 422), ("%00", 422)])
async def test_cancelling_what_is_not_there_is_a_problem(ingest: Ingest, request_id: str, expected: int) -> None:
    """Unknown 404, malformed 422."""
    status, _ = await ingest.call("DELETE", f"/api/requests/{request_id}")

    assert status == expected


# --- the webhook receiver --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "payload",
    [b'{"request_id": "x", "status": "completed"}', b"[]", b"null", b'"\\ud800"', b"1e999", b"12345678901234567890123"],
)
async def test_a_tried_webhook_comes_back_as_it_was_sent(bare: Ingest, payload: bytes) -> None:
    """Any JSON, to the last digit."""
    headers = {"Content-Type": "application/json"}
    async with bare.client.post(f"{bare.url}/api/webhook-test", data=payload, headers=headers) as answer:
        body = await answer.read()

    assert answer.status == 200
    assert body == b'{"message":"Webhook received","receivedPayload":' + payload + b"}"


@pytest.mark.parametrize(
    ("payload", "content_type", "status", "code"),
    [
        (b"", "application/json", 422, "invalid_json"),
        (b"{", "application/json", 422, "invalid_json"),
        (b"NaN", "application/json", 422, "invalid_json"),
        (b"\xff", "application/json", 422, "invalid_json"),
        (b"[" * 100_000, "application/json", 422, "invalid_json"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b'"' + b"a" * 2**20 + b'"', "application/json", 413, "body_too_large"),
    ],
)
async def test_a_tried_webhook_that_is_no_json_is_a_problem(
    bare: Ingest, payload: bytes, content_type: str, status: int, code: str
) -> None:
    """Broken, endlessly nested, too large or of another type."""
    headers = {"Content-Type": content_type}
    answered, body = await bare.call("POST", "/api/webhook-test", data=BytesIO(payload), headers=headers)

    assert (answered, body["code"]) == (status, code)


# --- images ----------------------------------------------------------------------------------------------------------
async def test_an_image_is_served_to_be_kept_for_ever(bare: Ingest) -> None:
    """Right type, immutable, not to be sniffed."""
    async with bare.client.get(f"{bare.url}/compressed_images/{NAME}") as answer:
        body = await answer.read()

    assert (answer.status, body) == (200, IMAGE)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_an_image_is_not_sent_to_who_has_it(bare: Ingest) -> None:
    """304 for its entity tag, weak or among others; the whole image for another one."""
    url = f"{bare.url}/compressed_images/{NAME}"
    async with bare.client.get(url) as answer:
        tag = answer.headers["ETag"]
    for tags, expected in ((tag, 304), (f'"x", W/{tag}', 304), ("*", 304), ('"x"', 200)):
        async with bare.client.get(url, headers={"If-None-Match": tags}) as answer:
            assert answer.status == expected
            assert answer.headers["ETag"] == tag
            assert "immutable" in answer.headers["Cache-Control"]
            assert await answer.read() == (IMAGE if expected == 200 else b"")


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=10-19", 206, IMAGE[10:20]),
        ("bytes=-5", 206, IMAGE[-5:]),
        ("bytes=300-", 416, b""),
        ("nonsense", 416, b""),
    ],
)
async def test_a_part_of_an_image_may_be_asked_for(bare: Ingest, wanted: str, status: int, body: bytes) -> None:
    """206 for a range inside; 416 for one outside, which no cache may keep."""
    async with bare.client.get(f"{bare.url}/compressed_images/{NAME}", headers={"Range": wanted}) as answer:
        received = await answer.read()

    assert (answer.status, received) == (status, body)
    assert ("Cache-Control" in answer.headers) == (status == 206)
    if status == 416:
        assert answer.headers["Content-Range"] == "bytes */256"


@pytest.mark.parametrize("name", ["cd" * 32 + ".jpg", "x", "..%2f..%2fetc%2fpasswd", "%00", NAME.upper(), ".incoming"])
async def test_an_image_that_is_not_there_is_a_404(bare: Ingest, name: str) -> None:
    """Unknown, malformed, and ways out of the folder."""
    status, body = await bare.call("GET", f"/compressed_images/{name}")

    assert (status, body["code"]) == (404, "unknown_image")


# --- health ----------------------------------------------------------------------------------------------------------
async def test_metrics_count_by_route_and_outcome(ingest: Ingest) -> None:
    """Uploads by outcome, and requests by route, never by path."""
    await ingest.accepted(SAMPLE)
    await ingest.upload("nonsense")
    await ingest.call("GET", "/made/up/path")

    async with ingest.client.get(f"{ingest.url}/metrics") as answer:
        text = await answer.text()

    assert 'darkroom_uploads_total{outcome="accepted"}' in text
    assert 'darkroom_uploads_total{outcome="invalid_csv"}' in text or 'outcome="no_images"' in text
    assert 'darkroom_http_seconds_count{method="POST",route="/api/upload",status="200"}' in text
    assert "/made/up/path" not in text
