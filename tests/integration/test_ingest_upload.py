import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from io import BytesIO
from pathlib import Path

import pytest

from libs.documents import Documents
from libs.mongo import Mongo
from tests.ingests import HEADER, SAMPLE, Ingest, ingesting, multipart, stored

FILE = 'Content-Disposition: form-data; name="file"; filename="a.csv"'
HOOK = 'Content-Disposition: form-data; name="webhook_url"'
HEAD = (
    "POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b0undary\r\n"
    "Content-Length: {length}\r\n\r\n"
)


@pytest.fixture
async def ingest(documents: Documents, tmp_path: Path) -> AsyncIterator[Ingest]:
    """An ingest service with the settings it has by default."""
    async with ingesting(documents, tmp_path) as ingest:
        yield ingest


async def test_the_sample_is_stored_with_all_it_says(ingest: Ingest, mongo: Mongo) -> None:
    """Every row and URL of the sample is in the database when the answer comes."""
    status, body = await ingest.upload(SAMPLE, "https://shop.example/hook")

    assert (status, body["status"]) == (200, "pending")
    request = await mongo.collection("requests").find_one({"_id": body["request_id"]})
    assert request is not None
    assert (request["total"], request["loaded"]) == (3, True)
    assert request["webhook_url"] == "https://shop.example/hook"
    assert request["source"]["filename"] == "test.csv"
    assert request["source"]["bytes"] == len(SAMPLE)
    found = await mongo.collection("images").find({}, sort=[("_id", 1)]).to_list(None)
    assert [(image["row"], image["product_name"], image["url"]) for image in found] == [
        (0, "SKU1", "https://picsum.photos/200/300"),
        (0, "SKU1", "https://picsum.photos/200/301"),
        (1, "SKU2", "https://picsum.photos/200/302"),
    ]


async def test_the_trace_of_the_upload_is_carried_on(ingest: Ingest, mongo: Mongo) -> None:
    """A valid traceparent is continued, a broken one replaced by a new trace."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    _, first = await ingest.upload(SAMPLE, traceparent=f"00-{trace}-b7ad6b7169203331-01")
    _, second = await ingest.upload(SAMPLE, traceparent="nonsense")

    traces = {request["_id"]: request["trace"] async for request in mongo.collection("requests").find({})}
    assert traces[first["request_id"]].split("-")[1] == trace
    assert traces[second["request_id"]].split("-")[1] not in {trace, "0" * 32}


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
async def test_parts_may_come_in_any_order(ingest: Ingest, mongo: Mongo, order: Sequence[int]) -> None:
    """The webhook URL may stand before or after the file."""
    parts = [(FILE, SAMPLE.encode()), (HOOK, b"https://shop.example/hook")]
    status, body = await ingest.call(
        "POST",
        "/api/upload",
        data=multipart(parts[number] for number in order),
        headers={"Content-Type": "multipart/form-data; boundary=b0undary"},
    )

    assert status == 200, body
    request = await mongo.collection("requests").find_one({})
    assert request is not None
    assert request["webhook_url"] == "https://shop.example/hook"


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([], "missing_field"),
        ([(HOOK, b"https://shop.example/hook")], "missing_field"),
        ([(FILE, SAMPLE.encode()), (FILE, SAMPLE.encode())], "duplicate_field"),
        ([(HOOK, b"https://a.example"), (HOOK, b"https://a.example"), (FILE, SAMPLE.encode())], "duplicate_field"),
        ([(FILE, SAMPLE.encode()), (FILE.replace("file", "other"), b"x")], "unknown_field"),
        ([("Content-Disposition: form-data", SAMPLE.encode())], "unknown_field"),
        ([(f"{FILE}\r\nContent-Transfer-Encoding: base64", b"AAAA")], "encoded_field"),
        ([(f"{FILE}\r\nContent-Type: multipart/mixed; boundary=x", b"--x--")], "unknown_field"),
        ([(HOOK, b"\xff"), (FILE, SAMPLE.encode())], "invalid_parameters"),
        ([(HOOK, b"https://a.example/" + b"a" * 8000), (FILE, SAMPLE.encode())], "invalid_parameters"),
        ([(HOOK, b"https://a.example/" + b"a" * 80000), (FILE, SAMPLE.encode())], "invalid_parameters"),
    ],
)
async def test_a_form_with_other_fields_is_refused(
    ingest: Ingest, mongo: Mongo, parts: list[tuple[str, bytes]], code: str
) -> None:
    """Missing, unknown, repeated, encoded and undecodable fields get 422, and nothing is stored."""
    status, body = await ingest.call(
        "POST",
        "/api/upload",
        data=multipart(parts),
        headers={"Content-Type": "multipart/form-data; boundary=b0undary"},
    )

    assert (status, body["code"]) == (422, code)
    assert await stored(mongo) == 0


@pytest.mark.parametrize(
    "url",
    [
        " ",
        "shop.example/hook",
        "ftp://shop.example/hook",
        "javascript:alert(1)",
        "https://user:pass@shop.example/hook",
        "http://127.0.0.1:9/hook",
        "http://2130706433/hook",
        "http://[::ffff:10.0.0.1]/hook",
        "http://localhost./hook",
        "https://shop.example/a b",
    ],
)
async def test_a_webhook_url_that_may_not_be_called_is_refused(ingest: Ingest, mongo: Mongo, url: str) -> None:
    """Another scheme, credentials and forbidden literal addresses are told at upload, and nothing is stored."""
    status, body = await ingest.upload(SAMPLE, url)

    assert status == 422
    assert body["detail"].startswith("webhook_url: ")
    assert await stored(mongo) == 0


async def test_a_webhook_url_of_another_scheme_is_refused_in_words(ingest: Ingest) -> None:
    """The client reads what the URL must be, not a pattern."""
    _, body = await ingest.upload(SAMPLE, "shop.example/hook")

    assert body["detail"] == "webhook_url: must start with http:// or https://"


async def test_an_empty_webhook_url_is_none(ingest: Ingest, documents: Documents) -> None:
    """Forms in browsers send an empty field when nothing was typed."""
    request = await documents.requests.get(await ingest.accepted(SAMPLE, ""))

    assert request is not None
    assert request.webhook_url is None


async def test_a_file_name_that_is_not_utf_8_is_kept_as_far_as_it_can_be(ingest: Ingest, mongo: Mongo) -> None:
    """Its foreign bytes become question marks, in the name and in what is said of an unknown field."""
    headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
    name = multipart([(FILE, SAMPLE.encode())]).replace(b"a.csv", b"caf\xe9.csv")
    field = multipart([(FILE, b"x")]).replace(b'"file"', b'"caf\xe9"')

    status, body = await ingest.call("POST", "/api/upload", data=name, headers=headers)
    refused, problem = await ingest.call("POST", "/api/upload", data=field, headers=headers)

    assert status == 200, body
    request = await mongo.collection("requests").find_one({})
    assert request is not None
    assert request["source"]["filename"] == "caf?.csv"
    assert (refused, problem["code"]) == (422, "unknown_field")
    assert "caf?" in problem["detail"]


async def test_a_bad_csv_is_refused_whole_with_the_places(ingest: Ingest, mongo: Mongo) -> None:
    """The problem lists line, column and what is wrong; the good rows are not stored either."""
    status, body = await ingest.upload(f"{SAMPLE}x,SKU3,http://10.0.0.1/a.jpg\n")

    assert (status, body["code"]) == (422, "invalid_csv")
    assert [(problem["line"], problem["column"]) for problem in body["problems"]] == [(4, 1), (4, 3)]
    assert all(set(problem) == {"line", "column", "detail"} for problem in body["problems"])
    assert "DARKROOM_EGRESS_ALLOW" in body["problems"][1]["detail"]
    assert await stored(mongo) == 0


@pytest.mark.parametrize("csv", ["", HEADER])
async def test_a_csv_without_images_is_refused_by_that_code(ingest: Ingest, csv: str) -> None:
    """Empty file and header alone: `no_images`."""
    status, body = await ingest.upload(csv)

    assert (status, body["code"]) == (422, "no_images")


async def test_what_is_no_form_is_refused_by_its_type(ingest: Ingest, mongo: Mongo) -> None:
    """A bare CSV and a URL-encoded form get 415."""
    for content_type in ("text/csv", "application/x-www-form-urlencoded"):
        headers = {"Content-Type": content_type}
        status, body = await ingest.call("POST", "/api/upload", data=SAMPLE.encode(), headers=headers)
        assert (status, body["code"]) == (415, "unsupported_media_type")
    assert await stored(mongo) == 0


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(multipart([(FILE, SAMPLE.encode())])[:-30], id="in the file"),
        pytest.param(multipart([(FILE, SAMPLE.encode())])[:60], id="in the headers of a part"),
        pytest.param(b"", id="empty"),
        pytest.param(b"no boundary at all", id="no boundary"),
        pytest.param(multipart([(FILE, SAMPLE.encode())])[:-14], id="before the last boundary"),
    ],
)
async def test_a_form_that_ends_too_early_stores_nothing(ingest: Ingest, mongo: Mongo, body: bytes) -> None:
    """A body that is complete for HTTP but not for the form is a problem 400 or 422."""
    request = HEAD.format(length=len(body)).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode() + body

    answer = await ingest.raw(request)

    assert answer.split()[1] in {b"400", b"422"}
    assert b"application/problem+json" in answer
    assert await stored(mongo) == 0


async def test_a_connection_that_breaks_in_the_middle_stores_nothing(
    documents: Documents, mongo: Mongo, tmp_path: Path
) -> None:
    """Half a body and then the end of the connection: the service goes on as if nothing had come."""
    body = multipart([(FILE, SAMPLE.encode())])
    async with ingesting(documents, tmp_path) as ingest:
        async with ingest.connected() as (_, writer):
            writer.write(HEAD.format(length=len(body)).encode() + body[:-40])
            await writer.drain()
        await ingest.accepted(SAMPLE)

    assert await mongo.collection("requests").count_documents({}) == 1
    assert await mongo.collection("images").count_documents({}) == 3


async def test_a_client_that_stalls_is_told_so(documents: Documents, mongo: Mongo, tmp_path: Path) -> None:
    """An upload that sends nothing for too long gets 408."""
    body = multipart([(FILE, SAMPLE.encode())])
    async with ingesting(documents, tmp_path, upload_stall_seconds=0.2) as ingest:
        answer = await ingest.raw(HEAD.format(length=len(body)).encode() + body[:-40])

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"upload_stalled"' in answer
    assert await stored(mongo) == 0


async def test_a_client_that_drips_is_cut_off_at_the_deadline(
    documents: Documents, mongo: Mongo, tmp_path: Path
) -> None:
    """However steadily the bytes come, a body has a total time."""
    async with (
        ingesting(documents, tmp_path, upload_seconds=0.5, upload_stall_seconds=10) as ingest,
        ingest.connected() as (reader, writer),
    ):
        writer.write(HEAD.format(length=10**8).encode() + f"--b0undary\r\n{FILE}\r\n\r\n{HEADER}".encode())

        async def drip() -> None:
            while True:
                writer.write(b"1,SKU,https://a.example/a.jpg\n")
                await writer.drain()
                await asyncio.sleep(0)  # lets the answer be read

        dripping = asyncio.create_task(drip(), name="drip")
        answer = await reader.readuntil(b"\r\n\r\n")
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert await stored(mongo) == 0


async def test_an_announced_length_is_refused_before_the_body(
    documents: Documents, mongo: Mongo, tmp_path: Path
) -> None:
    """413 comes by the Content-Length alone, without a byte of the body."""
    async with ingesting(documents, tmp_path, max_upload_bytes=1000) as ingest:
        answer = await ingest.raw(HEAD.format(length=2 * 2**30).encode())

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert await stored(mongo) == 0


async def test_a_client_that_asks_first_is_refused_before_it_sends(
    documents: Documents, mongo: Mongo, tmp_path: Path
) -> None:
    """`Expect: 100-continue` with too large a body gets 413 instead of a go-ahead; a small one gets the go-ahead."""
    body = multipart([(FILE, SAMPLE.encode())])
    head = HEAD.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
    async with ingesting(documents, tmp_path, max_upload_bytes=1000) as ingest:
        refused = await ingest.raw(head.format(length=2 * 2**30).encode())
        accepted = await ingest.raw(head.format(length=len(body)).encode() + body)

    assert refused.startswith(b"HTTP/1.1 413 ")
    assert await mongo.collection("requests").count_documents({}) == 1
    assert accepted.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


async def test_an_unannounced_length_is_refused_as_soon_as_it_is_passed(
    documents: Documents, mongo: Mongo, tmp_path: Path
) -> None:
    """Without a Content-Length the bytes are counted; the rest of the body is not waited for."""
    sent = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield f"--b0undary\r\n{FILE}\r\n\r\n{HEADER}".encode()
        for _ in range(100):
            yield b"1,SKU,https://a.example/a.jpg\n" * 100
        await sent.wait()  # the body never ends

    async with ingesting(documents, tmp_path, max_upload_bytes=1000) as ingest:
        headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
        status, problem = await ingest.call("POST", "/api/upload", data=body(), headers=headers)

    assert (status, problem["code"]) == (413, "upload_too_large")
    assert await stored(mongo) == 0


async def test_more_images_than_allowed_are_refused(documents: Documents, mongo: Mongo, tmp_path: Path) -> None:
    """`DARKROOM_MAX_IMAGES` counts URLs; one more is 413."""
    async with ingesting(documents, tmp_path, max_images=3) as ingest:
        await ingest.accepted(SAMPLE)
        before = await stored(mongo)
        status, body = await ingest.upload(SAMPLE + "3,SKU3,https://picsum.photos/200/303\n")

    assert (status, body["code"]) == (413, "too_many_images")
    assert await stored(mongo) == before


async def test_many_batches_are_accepted_whole(ingest: Ingest, mongo: Mongo) -> None:
    """More images than fit one transaction are all there, aliases among them, when the answer comes."""
    csv = HEADER + "".join(f"{n},SKU{n},https://a.example/{n % 2000}.jpg\n" for n in range(2_500))

    request_id = await ingest.accepted(csv)

    request = await mongo.collection("requests").find_one({"_id": request_id})
    assert request is not None
    assert (request["total"], request["loaded"], request["inserted"]) == (2_500, True, 2_500)
    assert await mongo.collection("images").count_documents({}) == 2_500
    assert await mongo.collection("images").count_documents({"alias_of": {"$exists": True}}) == 500


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(50, 503, "database_unavailable", id="out of time"),
        pytest.param(2, 500, "internal_error", id="a defect of ours"),
    ],
)
async def test_a_database_that_fails_during_the_upload_is_a_problem(
    ingest: Ingest, mongo: Mongo, error: int, status: int, code: str
) -> None:
    """The client is told to try again where that may help, and gets no traceback."""
    await mongo.client.admin.command(
        {
            "configureFailPoint": "failCommand",
            "mode": {"times": 1},
            "data": {"failCommands": ["find", "aggregate", "update"], "errorCode": error},
        }
    )

    answered, body = await ingest.upload(SAMPLE)

    assert (answered, body["code"]) == (status, code)
    assert "Traceback" not in json.dumps(body)
    await ingest.accepted(SAMPLE)


async def test_one_upload_more_than_allowed_is_put_off(documents: Documents, tmp_path: Path) -> None:
    """503 with Retry-After before the body is read, also when the client asks first; afterwards there is room again."""
    body = multipart([(FILE, SAMPLE.encode())])
    head = HEAD.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").format(length=len(body)).encode()
    async with ingesting(documents, tmp_path, uploads=1) as ingest, ingest.connected() as (reader, writer):
        writer.write(head)
        await reader.readuntil(b"100 Continue\r\n\r\n")

        refused = await ingest.raw(HEAD.format(length=10**6).encode())
        refused_by_headers = await ingest.raw(head)
        writer.write(body)
        accepted = await reader.readuntil(b"\r\n\r\n")
        await ingest.accepted(SAMPLE)

    for answer in (refused, refused_by_headers):
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 5\r\n" in answer
        assert b'"too_many_uploads"' in answer
    assert accepted.startswith(b"HTTP/1.1 200 ")


async def test_uploads_that_are_cut_off_while_they_are_read_harm_nobody(
    documents: Documents, mongo: Mongo, tmp_path: Path
) -> None:
    """The deadline passes in the middle of large chunks: each gets 408, and the next upload is accepted."""
    csv = HEADER + "".join(f"{n},SKU{n},https://a.example/{n}.jpg\n" for n in range(150_000))
    form = multipart([(FILE, csv.encode())])
    headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
    async with ingesting(documents, tmp_path, upload_seconds=0.3) as ingest:
        answers = await asyncio.gather(
            *(ingest.call("POST", "/api/upload", data=BytesIO(form), headers=headers) for _ in range(3))
        )
        assert await stored(mongo) == 0
        await ingest.accepted(SAMPLE)

    assert [(status, body["code"]) for status, body in answers] == [(408, "upload_timeout")] * 3


async def test_uploads_are_refused_until_the_database_has_answered(tmp_path: Path) -> None:
    """Before MongoDB is there, the API says 503 and the health routes answer."""
    async with ingesting(None, tmp_path) as ingest:
        status, body = await ingest.upload(SAMPLE)
        live, _ = await ingest.call("GET", "/livez")

    assert (status, body["code"]) == (503, "database_unavailable")
    assert live == 200
