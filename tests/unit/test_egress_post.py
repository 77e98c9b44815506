import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from libs.egress import EgressError, GuardedSession, Response
from libs.egress.session import MAX_LOGGED_BYTES

from .egress_names import ScriptedResolver
from .egress_servers import (
    CHUNKED,
    LOOPBACK,
    Answer,
    RawServer,
    apart,
    goes_on_after,
    ok,
    raw_server,
    resets_after,
    response,
    says,
    stalls_after,
)

BODY = b'{"type":"request.completed"}'


@pytest.fixture
async def session() -> AsyncIterator[GuardedSession]:
    """A session that may reach loopback."""
    async with GuardedSession(LOOPBACK, host_in_flight=4) as opened:
        yield opened


async def deliver(session: GuardedSession, server: RawServer, *, total_seconds: float = 20) -> Response:
    """A POST of a webhook's body."""
    headers = {"Content-Type": "application/json", "webhook-id": "msg_1"}
    return await session.post(f"{server.url}/hook?a=%2b", body=BODY, headers=headers, total_seconds=total_seconds)


async def failure(
    session: GuardedSession, answer: Answer, *, total_seconds: float = 20
) -> tuple[EgressError, RawServer]:
    """What a POST that gets this answer fails with, and the server that saw it."""
    async with raw_server(answer) as server:
        with pytest.raises(EgressError) as caught:
            await deliver(session, server, total_seconds=total_seconds)
    return caught.value, server


async def test_a_post_is_sent_as_given_and_its_answer_returned(session: GuardedSession) -> None:
    """Body, path and headers arrive unchanged."""
    async with raw_server(says(response("202 Accepted", b"thanks", "X-Trace: a"))) as server:
        reply = await deliver(session, server)
    assert (reply.status, reply.body, reply.remote_address, reply.broken) == (202, b"thanks", "127.0.0.1", False)
    assert reply.headers["x-trace"] == "a"
    assert reply.retry_after_seconds is None
    assert server.bodies == [BODY]
    assert server.heads[0].startswith("POST /hook?a=%2b HTTP/1.1\r\n")
    lines = server.heads[0].lower().splitlines()
    assert {"content-type: application/json", "webhook-id: msg_1"} <= set(lines)
    assert {"accept-encoding: identity", f"content-length: {len(BODY)}"} <= set(lines)


@pytest.mark.parametrize("status", [200, 204, 300, 304, 400, 401, 404, 408, 410, 421, 425, 429, 500, 503, 599, 999])
async def test_every_status_is_an_answer(session: GuardedSession, status: int) -> None:
    """Which status is a success is the caller's to say."""
    async with raw_server(says(response(f"{status} Whatever", b"", "Retry-After: 7"))) as server:
        reply = await deliver(session, server)
    assert (reply.status, reply.retry_after_seconds, server.connections) == (status, 7, 1)


async def test_posts_to_one_host_do_not_wait_for_one_another() -> None:
    """However few downloads it may have at once: who posts knows how many it is to get."""
    together = asyncio.Barrier(3)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await together.wait()
        writer.write(response("204 No Content", b""))

    async with raw_server(answer) as server, GuardedSession(LOOPBACK, host_in_flight=1) as session:
        replies = await asyncio.gather(*(deliver(session, server) for _ in range(3)))
    assert [reply.status for reply in replies] == [204] * 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(session: GuardedSession, status: int) -> None:
    """The target of the redirect sees no connection."""
    async with raw_server(says(ok(b""))) as target:
        redirect = response(f"{status} Moved", b"", f"Location: {target.url}/")
        async with raw_server(says(redirect)) as server:
            reply = await deliver(session, server)
    assert (reply.status, reply.headers["Location"]) == (status, f"{target.url}/")
    assert target.connections == 0


@pytest.mark.parametrize(
    ("answer", "arrived"),
    [
        (stalls_after(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"), b"some"),
        (stalls_after(b"HTTP/1.1 200 OK\r\n\r\n"), b""),
        (stalls_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"), b"some"),
    ],
)
async def test_a_body_that_stalls_does_not_undo_the_answer(
    session: GuardedSession, answer: Answer, arrived: bytes
) -> None:
    """The header section decides; what came of the body in time is for the log."""
    async with raw_server(answer) as server:
        reply = await deliver(session, server, total_seconds=1)
    assert (reply.status, reply.body, reply.broken) == (200, arrived, False)


@pytest.mark.parametrize("ending", [says, resets_after])
async def test_a_body_that_breaks_off_does_not_undo_the_answer(session: GuardedSession, ending: object) -> None:
    """The answer is returned, and says that its body is not whole."""
    assert callable(ending)
    async with raw_server(ending(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")) as server:
        reply = await deliver(session, server)
    assert (reply.status, reply.broken, server.connections) == (200, True, 1)


@pytest.mark.parametrize("piece", [b"1\r\nx\r\n" * 1_000, b"1\r\nx\r\nzz\r\n"])
async def test_a_body_of_broken_or_endless_chunks_does_not_undo_the_answer(
    session: GuardedSession, piece: bytes
) -> None:
    """What makes no sense after the headers ends the reading at once."""
    async with raw_server(apart(CHUNKED.replace(b"200 OK", b"202 Accepted"), piece, piece, b"?")) as server:
        reply = await deliver(session, server, total_seconds=60)
    assert (reply.status, reply.broken, server.connections) == (202, True, 1)
    assert set(reply.body) == set(b"x")


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536),
        (CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\nContent-Encoding: gzip\r\n\r\n", b"x" * 65_536),
    ],
)
async def test_an_endless_body_is_cut(session: GuardedSession, head: bytes, piece: bytes) -> None:
    """No more than 16 KiB are kept, memory stays flat, and the receiver sees the connection end."""
    cut = asyncio.Event()

    async def forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await goes_on_after(head, piece)(reader, writer)
        finally:
            cut.set()

    async with raw_server(forever) as server:
        tracemalloc.start()
        try:
            reply = await deliver(session, server, total_seconds=60)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await cut.wait()
    assert (reply.status, reply.body, reply.broken) == (200, b"x" * MAX_LOGGED_BYTES, False)
    assert peak < 4_000_000


async def test_a_receiver_that_stalls_sees_the_connection_end(session: GuardedSession) -> None:
    """After the deadline nothing of the delivery is left open."""
    gone = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        assert await reader.read() == b""
        gone.set()

    async with raw_server(stall) as server:
        assert (await deliver(session, server, total_seconds=0.3)).status == 200
        await gone.wait()


async def test_a_compressed_body_is_kept_as_sent(session: GuardedSession) -> None:
    """A gzip bomb stays as small as it came."""
    bomb = gzip.compress(bytes(10_000_000))[:MAX_LOGGED_BYTES]
    async with raw_server(says(ok(bomb, "Content-Encoding: gzip"))) as server:
        reply = await deliver(session, server)
    assert (reply.status, reply.body) == (200, bomb)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (says(), "connect_error"),
        (resets_after(), "connect_error"),
        (says(b"HTTP/1.1 200 OK\r\n"), "connect_error"),
        (resets_after(b"HTTP/1.1 200 OK\r\n"), "connect_error"),
        (stalls_after(b"ICY 200 nonsense\r\n\r\n"), "bad_response"),
        (stalls_after(b"HTTP/1.1 000 OK\r\n\r\n"), "bad_response"),
        (stalls_after(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"), "bad_response"),
        (stalls_after(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000), "bad_response"),
        (goes_on_after(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 10_000), "bad_response"),
        (goes_on_after(b"", b"x" * 10_000), "bad_response"),
    ],
)
async def test_a_failed_post_is_classed_and_never_sent_twice(
    session: GuardedSession, answer: Answer, code: str
) -> None:
    """The receiver sees one request: whether to try again is the caller's decision."""
    error, server = await failure(session, answer)
    assert (error.code, error.retryable) == (code, True)
    assert (server.connections, server.bodies) == (1, [BODY])


async def test_a_post_that_one_address_has_read_is_not_sent_to_another() -> None:
    """A name with two addresses gives a POST one try: the second address is for connections that fail."""
    async with (
        raw_server(resets_after()) as first,
        raw_server(says(ok(b"")), host="127.0.0.2", port=first.port) as second,
        GuardedSession(LOOPBACK, host_in_flight=1, resolver=ScriptedResolver(["127.0.0.1", "127.0.0.2"])) as named,
    ):
        url = f"http://receiver.example:{first.port}/"
        with pytest.raises(EgressError) as caught:
            await named.post(url, body=BODY, headers={}, total_seconds=20)
    assert (caught.value.code, caught.value.retryable) == ("connect_error", True)
    assert (first.bodies, second.connections) == ([BODY], 0)


@pytest.mark.parametrize(
    "answer",
    [
        stalls_after(),
        stalls_after(b"HTTP/1.1 200 O"),
        stalls_after(b"HTTP/1.1 200 OK\r\nX: y\r\n"),
        stalls_after(b"HTTP/1.1 100 Continue\r\n\r\n"),
        goes_on_after(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        apart(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 100, seconds=0.05),
    ],
)
async def test_headers_that_do_not_come_run_into_the_deadline(session: GuardedSession, answer: Answer) -> None:
    """Until the header section is whole there is no answer."""
    error, server = await failure(session, answer, total_seconds=0.3)
    assert (error.code, error.retryable) == ("timeout", True)
    assert (server.connections, server.bodies) == (1, [BODY])


async def test_a_port_that_nobody_listens_on_is_a_connect_error(session: GuardedSession) -> None:
    """A refused connection may be tried again."""
    async with raw_server(says()) as server:
        pass
    with pytest.raises(EgressError) as caught:
        await deliver(session, server)
    assert (caught.value.code, caught.value.retryable) == ("connect_error", True)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://10.0.0.1/hook", "blocked_address"),
        ("ftp://example.com/hook", "bad_scheme"),
        ("https://user:pass@example.com/hook", "credentials_in_url"),
        ("example.com/hook", "bad_url"),
    ],
)
async def test_a_url_that_may_not_be_requested_is_refused(session: GuardedSession, url: str, code: str) -> None:
    """Webhooks are held to the same policy as images."""
    with pytest.raises(EgressError) as caught:
        await session.post(url, body=BODY, headers={}, total_seconds=20)
    assert (caught.value.code, caught.value.retryable) == (code, False)
