import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from libs.egress import Download, EgressError, EgressPolicy, GuardedSession
from libs.egress.session import MAX_REDIRECTS

from .egress_servers import (
    Answer,
    client_tls,
    ok,
    raw_server,
    resets_after,
    response,
    says,
    server_tls,
    stalls_after,
)

LOOPBACK = EgressPolicy([IPv4Network("127.0.0.0/8")])
IMAGE = bytes(range(256)) * 40
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def session() -> AsyncIterator[GuardedSession]:
    """A session that may reach loopback."""
    async with GuardedSession(LOOPBACK, host_in_flight=2) as opened:
        yield opened


async def fetch(
    session: GuardedSession, url: str, *, max_bytes: int = 1_000_000, total_seconds: float = 20
) -> Download:
    """A download with limits that do not matter."""
    return await session.download(url, max_bytes=max_bytes, total_seconds=total_seconds)


async def failure(
    session: GuardedSession, answer: Answer, *, total_seconds: float = 20, max_bytes: int = 20_000
) -> EgressError:
    """What a download of this answer fails with."""
    async with raw_server(answer) as server:
        with pytest.raises(EgressError) as caught:
            await fetch(session, f"{server.url}/a.jpg", max_bytes=max_bytes, total_seconds=total_seconds)
    return caught.value


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
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(IMAGE, "Content-Type: image/jpeg"),
    ],
)
async def test_a_whole_body_is_downloaded(session: GuardedSession, answer: bytes) -> None:
    """With and without a length, chunked, or as the whole of a range, the bytes come back as sent."""
    async with raw_server(says(answer)) as server:
        got = await fetch(session, f"{server.url}/a.jpg")
    assert got == Download(IMAGE, f"{server.url}/a.jpg", "image/jpeg")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_held_once(session: GuardedSession, *, chunked: bool) -> None:
    """While it comes in, memory grows by the body and what a buffer keeps in reserve, not by twice its size."""
    pieces, piece = 512, bytes(64 * 1024)
    size = pieces * len(piece)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED if chunked else f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        for _piece in range(pieces):
            writer.write(b"10000\r\n" + piece + b"\r\n" if chunked else piece)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")

    async with raw_server(answer) as server:
        tracemalloc.start()
        try:
            got = await fetch(session, server.url, max_bytes=size)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(got.body) == size
    assert peak < size * 1.3


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
        (201, False), (204, False), (206, False), (300, False), (304, False), (400, False), (401, False), (403, False),
        (404, False), (408, True), (410, False), (425, True), (429, True), (500, True), (502, True), (503, True),
        (504, True), (599, True), (999, False),
    ],
)  # fmt: skip
async def test_an_answer_that_is_no_image_fails_by_its_status(
    session: GuardedSession, status: int, *, retryable: bool
) -> None:
    """The code names the status; only what may pass by itself is retryable."""
    error = await failure(session, says(response(f"{status} Whatever", b"" if status in {204, 304} else b"x")))
    assert (error.code, error.retryable, error.retry_after_seconds) == (f"http_{status}", retryable, None)


async def test_part_of_a_range_is_a_failure(session: GuardedSession) -> None:
    """A 206 that says it is not everything is not taken for the image."""
    part = response("206 Partial Content", IMAGE, "Content-Range: bytes 0-10239/10241")
    assert (await failure(session, says(part))).code == "http_206"


async def test_the_wish_of_a_busy_server_is_passed_on(session: GuardedSession) -> None:
    """Retry-After of a 503 stands in the error."""
    error = await failure(session, says(response("503 Busy", b"", "Retry-After: 120")))
    assert (error.retryable, error.retry_after_seconds) == (True, 120)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n" + b"x" * 10,
        CHUNKED + b"10\r\n" + b"x" * 8,
        CHUNKED + b"10\r\n" + b"x" * 16 + b"\r\n",
    ],
)
@pytest.mark.parametrize("ending", [says, resets_after])
async def test_a_short_body_is_a_truncated_download(session: GuardedSession, answer: bytes, ending: object) -> None:
    """Less than was announced, by length or by chunks, is retried rather than decoded."""
    assert callable(ending)
    error = await failure(session, ending(answer))
    assert (error.code, error.retryable) == ("truncated_download", True)


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


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "nonsense"])
async def test_a_compressed_body_is_refused(session: GuardedSession, encoding: str) -> None:
    """Nothing is decompressed, so no body can be a bomb."""
    error = await failure(session, says(ok(gzip.compress(bytes(1_000_000)), f"Content-Encoding: {encoding}")))
    assert (error.code, error.retryable) == ("bad_encoding", False)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx",
        CHUNKED + b"nonsense\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000 + b"\r\n",
    ],
)
async def test_an_answer_that_is_no_http_is_a_bad_response(session: GuardedSession, answer: bytes) -> None:
    """Nonsense status lines, impossible lengths and header bombs are classed as the server's fault."""
    error = await failure(session, stalls_after(answer))
    assert (error.code, error.retryable) == ("bad_response", True)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nX: y\r\n", CHUNKED + b"1\r\n"]
)
async def test_a_server_that_says_nothing_more_runs_into_the_deadline(session: GuardedSession, answer: bytes) -> None:
    """Slow headers and stalled bodies end with the total time, and may be tried again."""
    error = await failure(session, stalls_after(answer), total_seconds=0.2)
    assert (error.code, error.retryable) == ("timeout", True)


async def test_a_server_that_sends_a_byte_at_a_time_runs_into_the_deadline(session: GuardedSession) -> None:
    """The deadline is for the whole download: progress does not push it back."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0)

    assert (await failure(session, drip, total_seconds=0.2, max_bytes=10**9)).code == "timeout"


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


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_to_the_image(session: GuardedSession, status: int) -> None:
    """Relative, absolute and badly encoded locations are followed; the download says where it came from."""
    async with raw_server(says(ok(IMAGE))) as target:
        locations = [f"{target.url}/a%2fb?c=%7e", f"//127.0.0.1:{target.port}/a%2fb?c=%7e"]
        for location in locations:
            async with raw_server(says(response(f"{status} Moved", b"x", f"Location: {location}"))) as server:
                got = await fetch(session, server.url)
            assert (got.body, got.url) == (IMAGE, f"{target.url}/a%2fb?c=%7e")
        async with raw_server(says(response(f"{status} Moved", b"x", f"Location: {target.url}/ä b"))) as server:
            assert (await fetch(session, server.url)).url == f"{target.url}/%C3%A4%20b"


async def test_a_relative_redirect_stays_on_its_server(session: GuardedSession) -> None:
    """A path as location is resolved against the URL that was requested."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = len(server.heads)
        writer.write(response("302 Found", b"", "Location: ../b?x", "Connection: close") if seen == 1 else ok(IMAGE))

    async with raw_server(answer) as server:
        assert (await fetch(session, f"{server.url}/c/a?y")).url == f"{server.url}/b?x"


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://10.0.0.1/", "blocked_address"),
        ("http://[::ffff:169.254.169.254]/latest/meta-data", "blocked_address"),
        ("//0x0a.1/", "blocked_address"),
        ("ftp://example.com/a.jpg", "bad_scheme"),
        ("file:///etc/passwd", "bad_scheme"),
        ("javascript:alert(1)", "bad_scheme"),
        ("http://user:pass@127.0.0.1/", "credentials_in_url"),
        ("http://[::1", "bad_url"),
        ("//[x", "bad_url"),
        ("http:", "bad_url"),
    ],
)
async def test_a_redirect_is_checked_like_any_url(session: GuardedSession, location: str, code: str) -> None:
    """A server cannot send the request where its uploader could not have sent it."""
    error = await failure(session, says(response("302 Found", b"", f"Location: {location}")))
    assert (error.code, error.retryable) == (code, False)


async def test_a_redirect_without_a_location_fails_by_its_status(session: GuardedSession) -> None:
    """Without a place to go to, a 302 is an answer that is no image."""
    assert (await failure(session, says(response("302 Found", b"")))).code == "http_302"


async def test_a_redirect_to_a_forbidden_listener_opens_no_connection() -> None:
    """What listens on an address that is not allowed never sees the hop."""
    async with (
        raw_server(says(ok(IMAGE)), host="127.0.0.2") as forbidden,
        raw_server(says(response("302 Found", b"", f"Location: {forbidden.url}/"))) as server,
        GuardedSession(EgressPolicy([IPv4Network("127.0.0.1/32")]), host_in_flight=1) as session,
    ):
        with pytest.raises(EgressError) as caught:
            await fetch(session, server.url)
    assert caught.value.code == "blocked_address"
    assert (server.connections, forbidden.connections) == (1, 0)


async def test_a_redirect_loop_ends_at_the_limit(session: GuardedSession) -> None:
    """Ten redirects are followed, the eleventh is not."""

    async def around(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response("302 Found", b"", f"Location: {server.url}/", "Connection: close"))

    async with raw_server(around) as server:
        with pytest.raises(EgressError) as caught:
            await fetch(session, server.url)
    assert (caught.value.code, caught.value.retryable) == ("redirect_limit", False)
    assert len(server.heads) == 1 + MAX_REDIRECTS


async def test_all_hops_share_one_deadline(session: GuardedSession) -> None:
    """A chain of redirects, each well within the total time, cannot stretch it."""

    async def slowly_around(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Another download's deadline is what makes each hop slow.
        assert (await failure(session, stalls_after(), total_seconds=0.2)).code == "timeout"
        writer.write(response("302 Found", b"", f"Location: {server.url}/", "Connection: close"))

    async with raw_server(slowly_around) as server:
        with pytest.raises(EgressError) as caught:
            await fetch(session, server.url, total_seconds=0.7)
    assert caught.value.code == "timeout"


async def test_tls_is_verified_and_never_left_by_a_redirect(session: GuardedSession, tmp_path: Path) -> None:
    """An unknown certificate is refused; a trusted server may redirect to https only."""
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(raw_server(says(ok(IMAGE))))
        redirect = response("302 Found", b"", f"Location: {plain.url}/")
        server = await stack.enter_async_context(raw_server(says(redirect), tls=server_tls(tmp_path)))
        trusting = await stack.enter_async_context(GuardedSession(LOOPBACK, host_in_flight=1, tls=client_tls()))
        with pytest.raises(EgressError) as untrusted:
            await fetch(session, server.url)
        assert (untrusted.value.code, untrusted.value.retryable) == ("tls_error", False)
        with pytest.raises(EgressError) as downgraded:
            await fetch(trusting, server.url)
        assert (downgraded.value.code, downgraded.value.retryable) == ("bad_scheme", False)
    assert plain.heads == []


@pytest.mark.parametrize(
    ("greeting", "connect_seconds", "code"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", 20, "tls_error"), (b"", 0.2, "timeout")],
)
async def test_a_server_that_speaks_no_tls_fails_the_handshake(
    greeting: bytes, connect_seconds: float, code: str
) -> None:
    """Plain HTTP is a TLS error; silence runs into the limit that connecting has below the total time."""
    done = asyncio.Event()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await done.wait()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, GuardedSession(LOOPBACK, connect_seconds=connect_seconds, host_in_flight=1) as session:
        with pytest.raises(EgressError) as caught:
            await fetch(session, url, total_seconds=200)
        done.set()
    assert caught.value.code == code


async def test_a_host_that_hangs_holds_its_own_slots_only(session: GuardedSession) -> None:
    """No more requests than slots reach the hanging host, and another host answers meanwhile."""
    both_arrived, release = asyncio.Event(), asyncio.Event()
    now = most = 0

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 2:
            both_arrived.set()
        await release.wait()
        now -= 1
        writer.write(ok(IMAGE))

    async with raw_server(hold) as slow, raw_server(says(ok(IMAGE)), host="127.0.0.2") as quick:
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(fetch(session, slow.url)) for _ in range(6)]
            await both_arrived.wait()
            assert (await fetch(session, quick.url)).body == IMAGE
            release.set()
        assert [task.result().body for task in held] == [IMAGE] * 6
    assert most == 2


async def test_waiting_for_a_slot_costs_no_time_of_the_download(session: GuardedSession) -> None:
    """Downloads that queue behind hanging ones get their whole deadline afterwards."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(server.heads) <= 2:
            await asyncio.Event().wait()
        writer.write(ok(IMAGE))

    async with raw_server(answer) as server:
        outcomes = await asyncio.gather(
            *(fetch(session, server.url, total_seconds=1) for _ in range(4)), return_exceptions=True
        )
    assert [isinstance(outcome, EgressError) for outcome in outcomes] == [True, True, False, False]


async def test_a_cancelled_download_closes_its_connection(session: GuardedSession) -> None:
    """Who gives up leaves nothing behind: the server sees the end, and the slot is free again."""
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        arrived.set()
        assert await reader.read() == b""
        gone.set()

    async with raw_server(answer) as server:
        for _ in range(3):
            task = asyncio.create_task(fetch(session, server.url))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await gone.wait()
            arrived.clear()
            gone.clear()
    assert not session._slots._gates
