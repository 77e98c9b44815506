from collections.abc import AsyncIterator

import pytest

from libs.egress import Download, EgressError, GuardedSession

from .egress_servers import (
    CHUNKED,
    IMAGE,
    LOOPBACK,
    Answer,
    apart,
    failure,
    fetch,
    goes_on_after,
    ok,
    raw_server,
    resets_after,
    response,
    says,
    stalls_after,
)


@pytest.fixture
async def session() -> AsyncIterator[GuardedSession]:
    """A session that may reach loopback."""
    async with GuardedSession(LOOPBACK, host_in_flight=2) as opened:
        yield opened


@pytest.mark.parametrize(
    "answer",
    [
        ok(IMAGE, "Content-Type: Image/JPEG; q=1"),
        response("203 Non-Authoritative Information", IMAGE, "Content-Type: image/jpeg"),
        response("206 Partial Content", IMAGE, "Content-Type: image/jpeg", "Content-Range: bytes 0-10239/10240"),
        ok(IMAGE, "Content-Type: image/jpeg", "Content-Encoding: identity"),
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + IMAGE,
        b"HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + IMAGE,
        CHUNKED[:-2] + b"Content-Type: image/jpeg\r\n\r\n2800\r\n" + IMAGE + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 50 + ok(IMAGE, "Content-Type: image/jpeg"),
    ],
)
async def test_a_whole_body_is_downloaded(session: GuardedSession, answer: bytes) -> None:
    """With and without a length, chunked, or as the whole of a range, the bytes come back as sent."""
    async with raw_server(says(answer)) as server:
        got = await fetch(session, f"{server.url}/a.jpg")
    assert got == Download(IMAGE, f"{server.url}/a.jpg", "image/jpeg")


@pytest.mark.parametrize(
    ("claimed", "told"),
    [("text/html; charset=utf-8", "text/html"), ("application/octet-stream", "application/octet-stream"), ("", "")],
)
async def test_what_a_server_calls_its_bytes_does_not_matter(session: GuardedSession, claimed: str, told: str) -> None:
    """A wrong content type, or a page under the name of an image, is downloaded: the decoder judges the bytes."""
    page = b"<!doctype html><title>Not found</title>"
    async with raw_server(says(ok(page, f"Content-Type: {claimed}"))) as server:
        assert await fetch(session, f"{server.url}/a.jpg") == Download(page, f"{server.url}/a.jpg", told)


async def test_a_request_carries_nothing_that_was_not_asked_for(session: GuardedSession) -> None:
    """The path is sent as given; no compression is offered, no cookie is kept and no credentials are invented."""
    async with raw_server(says(ok(IMAGE, "Set-Cookie: a=b", "Connection: close"))) as server:
        for _ in range(2):
            await fetch(session, f"{server.url}/%7ea/../b%2f?X-Sig=%2b+a==&x=#fragment")
    for head in server.heads:
        lines = head.lower().splitlines()
        assert head.startswith("GET /%7ea/../b%2f?X-Sig=%2b+a==&x= HTTP/1.1\r\n")
        assert "accept-encoding: identity" in lines
        assert not [line for line in lines if line.startswith(("cookie", "authorization", "proxy", "referer"))]


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (101, False), (201, False), (204, False), (205, False), (206, False),
        (300, False), (304, False), (400, False), (401, False), (403, False),
        (404, False), (408, True), (410, False), (425, True), (429, True), (500, True), (502, True), (503, True),
        (504, True), (599, True), (999, False),
    ],
)  # fmt: skip
async def test_an_answer_that_is_no_image_fails_by_its_status(
    session: GuardedSession, status: int, *, retryable: bool
) -> None:
    """The code names the status; only what may pass by itself is retryable."""
    error = await failure(session, says(response(f"{status} Whatever", b"" if status in {101, 204, 304} else b"x")))
    assert (error.code, error.retryable, error.retry_after_seconds) == (f"http_{status}", retryable, None)


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-10239/10241", "bytes 1-10240/10240", "bytes 0-10239/*", "bytes */10240", "bytes 0-10239",
        "0-10239/10240", "items 0-10239/10240", "bytes 0-10239/10240, bytes 0-10239/10240", "",
    ],
)  # fmt: skip
async def test_part_of_a_range_is_a_failure(session: GuardedSession, content_range: str) -> None:
    """A 206 that does not say that it is everything is not taken for the image."""
    part = response("206 Partial Content", IMAGE, f"Content-Range: {content_range}")
    error = await failure(session, says(part))
    assert (error.code, error.retryable) == ("http_206", False)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
@pytest.mark.parametrize(("wish", "seconds"), [("120", 120), ("Sun, 06 Nov 1994 12:02:00 GMT", 120), ("soon", None)])
async def test_the_wish_of_a_busy_server_is_passed_on(
    session: GuardedSession, status: int, wish: str, seconds: float | None
) -> None:
    """Retry-After, in seconds or as a date, stands in the error; nonsense does not."""
    headers = [f"Retry-After: {wish}", "Date: Sun, 06 Nov 1994 12:00:00 GMT"]
    error = await failure(session, says(response(f"{status} Busy", b"", *headers)))
    assert (error.code, error.retryable, error.retry_after_seconds) == (f"http_{status}", True, seconds)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + b"x" * 10,
        b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n",
        CHUNKED,
        CHUNKED + b"10\r\n" + b"x" * 8,
        CHUNKED + b"10\r\n" + b"x" * 16 + b"\r\n",
        CHUNKED + b"10\r\n" + b"x" * 16 + b"\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("ending", [says, resets_after])
async def test_a_short_body_is_a_truncated_download(session: GuardedSession, answer: bytes, ending: object) -> None:
    """Less than was announced, by length or by chunks, is retried rather than decoded."""
    assert callable(ending)
    error = await failure(session, ending(answer))
    assert (error.code, error.retryable) == ("truncated_download", True)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n"])
async def test_a_body_that_ends_with_a_reset_is_a_truncated_download(session: GuardedSession, head: bytes) -> None:
    """Where only the end of the connection delimits the body, a reset is not that end."""
    error = await failure(session, resets_after(head, IMAGE))
    assert (error.code, error.retryable) == ("truncated_download", True)


@pytest.mark.parametrize("surplus", [b"x", IMAGE, ok(b"another answer")])
@pytest.mark.parametrize("arrives", [lambda head, surplus: says(head + surplus), apart])
async def test_a_length_that_is_too_small_never_gives_more_than_it_says(
    session: GuardedSession, surplus: bytes, arrives: object
) -> None:
    """What comes after the announced length is no part of the body: it is cut off there, or not valid HTTP."""
    assert callable(arrives)
    async with raw_server(arrives(ok(IMAGE[:100]), surplus)) as server:
        try:
            got: bytes | str = (await fetch(session, server.url)).body
        except EgressError as error:
            got = error.code
    assert got in {IMAGE[:100], "bad_response"}


@pytest.mark.parametrize(
    "answer",
    [
        stalls_after(b"HTTP/1.1 200 OK\r\nContent-Length: 20001\r\n\r\n"),
        stalls_after(b"HTTP/1.1 200 OK\r\n\r\n", bytes(20_001)),
        stalls_after(CHUNKED, b"4e21\r\n", bytes(20_001)),
    ],
)
async def test_a_body_over_the_limit_is_given_up_early(session: GuardedSession, answer: Answer) -> None:
    """Too many bytes are noticed when announced or counted, though the server is not done."""
    error = await failure(session, answer)
    assert (error.code, error.retryable) == ("too_large", False)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"<html>hello</html>\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 1000 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/9.9 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nA\x00B: c\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ],
)
async def test_an_answer_that_is_no_http_is_a_bad_response(session: GuardedSession, answer: bytes) -> None:
    """Nonsense status lines and impossible lengths are classed as the server's fault."""
    error = await failure(session, stalls_after(answer))
    assert (error.code, error.retryable) == ("bad_response", True)


@pytest.mark.parametrize(
    "chunks",
    [
        [b"nonsense\r\n"],
        [b"1\r\nx\r\n", b"zz\r\n"],
        [b"3\r\nxxxxxx\r\n0\r\n\r\n"],
        [b"-1\r\nx\r\n0\r\n\r\n"],
        [b"0x1\r\nx\r\n0\r\n\r\n"],
        [b"ffffffffffffffffffff\r\nx\r\n"],
        [b"1\r\nx\r\n0\r\n", b"X: y\r\n" * 10_000],
        [b"1\r\nx\r\n0\r\nX: ", b"y" * 100_000],
    ],
)
@pytest.mark.parametrize("arrives", [lambda *parts: stalls_after(b"".join(parts)), apart])
async def test_chunks_that_make_no_sense_are_a_bad_response(
    session: GuardedSession, chunks: list[bytes], arrives: object
) -> None:
    """With the headers or after them, they end the download at once: the body is not waited for any more."""
    assert callable(arrives)
    error = await failure(session, arrives(CHUNKED, *chunks), total_seconds=60)
    assert (error.code, error.retryable) == ("bad_response", True)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1_000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10_000),
        (b"HTTP/1.1 200 OK\r\n", b"y" * 10_000),
        (b"HTTP/1.1 200 O", b"y" * 10_000),
        (b"", b"y" * 10_000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n" * 1_000),
    ],
)
async def test_a_header_bomb_is_a_bad_response(session: GuardedSession, head: bytes, piece: bytes) -> None:
    """Headers without end, in number or in length, are refused after some kilobytes."""
    error = await failure(session, goes_on_after(head, piece), total_seconds=60)
    assert (error.code, error.retryable) == ("bad_response", True)


@pytest.mark.parametrize("ending", [says(), resets_after()])
async def test_a_connection_that_ends_without_an_answer_is_a_connect_error(
    session: GuardedSession, ending: Answer
) -> None:
    """Closed or reset before the header section, it may be tried again."""
    error = await failure(session, ending)
    assert (error.code, error.retryable) == ("connect_error", True)


async def test_a_port_that_nobody_listens_on_is_a_connect_error(session: GuardedSession) -> None:
    """A refused connection may be tried again."""
    async with raw_server(says()) as server:
        pass
    with pytest.raises(EgressError) as caught:
        await fetch(session, server.url)
    assert (caught.value.code, caught.value.retryable) == ("connect_error", True)
