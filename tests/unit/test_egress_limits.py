import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import psutil
import pytest

from libs.egress import EgressError, GuardedSession

from .egress_names import ScriptedResolver
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
    response,
    says,
    stalls_after,
)

SOON = 0.3
LATER = 10_000.0
# A limit that does not hold would be waited for until LATER.
pytestmark = pytest.mark.timeout(60)
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture
async def session() -> AsyncIterator[GuardedSession]:
    """A session that may reach loopback."""
    async with GuardedSession(LOOPBACK, host_in_flight=2) as opened:
        yield opened


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


@pytest.mark.parametrize(
    ("head", "piece", "code"),
    [
        (HEAD, b"x" * 65_536, "too_large"),
        (CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n", "too_large"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", b"x" * 65_536, "bad_encoding"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", b"x" * 65_536, "http_404"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" * 1_000, "timeout"),
        (b"", b"\r\n" * 10_000, "timeout"),
        (CHUNKED + b"1;extension=", b"x" * 65_536, "timeout"),
        (CHUNKED, b"0" * 65_536, "timeout"),
    ],
)
async def test_an_endless_answer_takes_no_memory(session: GuardedSession, head: bytes, piece: bytes, code: str) -> None:
    """Whatever goes on without end is given up by its bytes or by time, and kept in neither case."""
    tracemalloc.start()
    try:
        seconds = SOON if code == "timeout" else LATER
        error = await failure(session, goes_on_after(head, piece), max_bytes=1_000_000, total_seconds=seconds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.code == code
    assert peak < 4_000_000


async def test_a_length_is_not_believed_before_the_bytes_are_there(session: GuardedSession) -> None:
    """A server that announces a gigabyte and sends a little takes the memory of that little."""
    resident: list[int] = []

    async def announce(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resident.append(psutil.Process().memory_info().rss)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            resident.append(psutil.Process().memory_info().rss)
            await asyncio.sleep(0)

    error = await failure(session, announce, max_bytes=10**9, total_seconds=SOON)
    assert error.code == "timeout"
    assert max(resident) - resident[0] < 100_000_000


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nX: y\r\n", CHUNKED + b"1\r\n"]
)
async def test_a_server_that_says_nothing_more_runs_into_the_deadline(session: GuardedSession, answer: bytes) -> None:
    """Slow headers and stalled bodies end with the total time, and may be tried again."""
    error = await failure(session, stalls_after(answer), total_seconds=SOON)
    assert (error.code, error.retryable) == ("timeout", True)


async def test_a_server_that_sends_a_byte_at_a_time_runs_into_the_deadline(session: GuardedSession) -> None:
    """The deadline is for the whole download: progress does not push it back."""
    error = await failure(session, goes_on_after(HEAD, b"x"), total_seconds=SOON, max_bytes=10**9)
    assert (error.code, error.retryable) == ("timeout", True)


@pytest.mark.parametrize(
    "answer",
    [
        stalls_after(),
        stalls_after(b"HTTP/1.1 200 OK\r\nContent-Le"),
        apart(*(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 100), seconds=0.05),
        goes_on_after(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
async def test_headers_have_a_deadline_of_their_own(answer: Answer) -> None:
    """A host that accepts and says nothing is given up before the time for the whole download is over."""
    async with GuardedSession(LOOPBACK, head_seconds=SOON, host_in_flight=1) as session:
        error = await failure(session, answer, total_seconds=LATER)
    assert (error.code, error.retryable) == ("timeout", True)


@pytest.mark.parametrize(
    "answer",
    [
        stalls_after(HEAD),
        stalls_after(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", b"x" * 10_000),
        goes_on_after(HEAD, b"x", seconds=0.02),
        goes_on_after(CHUNKED, b"1\r\nx\r\n", seconds=0.02),
        goes_on_after(CHUNKED + b"1;extension=", b"x" * 1_000),
    ],
)
async def test_a_body_that_stalls_or_trickles_is_given_up_long_before_the_deadline(answer: Answer) -> None:
    """A stretch without a kilobyte a second ends the download, whatever else the server sends meanwhile."""
    async with GuardedSession(LOOPBACK, head_seconds=LATER, stall_seconds=SOON, host_in_flight=1) as session:
        error = await failure(session, answer, total_seconds=LATER)
    assert (error.code, error.retryable) == ("timeout", True)
    assert "body" in error.detail


async def test_a_body_that_keeps_its_pace_has_the_whole_time() -> None:
    """Four kilobytes a second, or bursts, for longer than the headers or a stall may take, end in the body."""

    async def slowly(piece: bytes, pieces: int) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {pieces * len(piece)}\r\n\r\n".encode()
        async with raw_server(apart(head, *[piece] * pieces, seconds=0.05)) as server:
            got = await fetch(patient, server.url, max_bytes=10**9, total_seconds=LATER)
        assert got.body == pieces * piece

    async with GuardedSession(LOOPBACK, head_seconds=1, stall_seconds=1, host_in_flight=2) as patient:
        await asyncio.gather(slowly(b"x" * 200, 30), slowly(b"x" * 100_000, 30))


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


async def test_a_host_that_hangs_does_not_slow_a_hundred_that_answer() -> None:
    """Twenty downloads from a hanging host, and two from each of a hundred others: these are all done meanwhile."""
    async with (
        raw_server(stalls_after()) as hanging,
        raw_server(says(ok(IMAGE, "Connection: close"))) as quick,
        GuardedSession(LOOPBACK, host_in_flight=2, resolver=ScriptedResolver(["127.0.0.1"])) as session,
    ):
        stuck = [asyncio.create_task(fetch(session, f"http://hangs.example:{hanging.port}/{n}")) for n in range(20)]
        urls = [f"http://host{n % 100}.example:{quick.port}/{n}" for n in range(200)]
        got = await asyncio.gather(*(fetch(session, url) for url in urls))
        assert [download.body for download in got] == [IMAGE] * 200
        assert not any(task.done() for task in stuck)
        assert hanging.connections == 2
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)


@pytest.mark.parametrize("other", ["HANGS.example", "hangs.example.", "h%61ngs.example"])
async def test_a_host_has_the_same_slots_under_every_spelling(other: str) -> None:
    """A trailing dot or another case is no way around the cap."""
    async with (
        raw_server(stalls_after()) as hanging,
        GuardedSession(LOOPBACK, host_in_flight=1, resolver=ScriptedResolver(["127.0.0.1"])) as session,
    ):
        names = ["hangs.example", other]
        stuck = [asyncio.create_task(fetch(session, f"http://{name}:{hanging.port}/")) for name in names]
        await hanging.seen(1)
        assert len(session._slots._gates) == 1
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
    assert hanging.connections == 1
    assert not session._slots._gates


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


async def test_a_download_does_not_wait_long_for_a_host_that_hangs() -> None:
    """Redirected to one whose slots are all taken, it can be tried again later, and nothing was asked of that host."""
    async with (
        raw_server(stalls_after()) as hanging,
        raw_server(says(response("302 Found", b"", f"Location: http://hangs.example:{hanging.port}/2"))) as server,
        GuardedSession(
            LOOPBACK, host_in_flight=1, busy_seconds=SOON, resolver=ScriptedResolver(["127.0.0.1"])
        ) as session,
    ):
        stuck = asyncio.create_task(fetch(session, f"http://hangs.example:{hanging.port}/1"))
        await hanging.seen(1)
        with pytest.raises(EgressError) as caught:
            await fetch(session, f"http://quick.example:{server.port}/")
        assert (caught.value.code, caught.value.retryable) == ("host_busy", True)
        assert hanging.connections == 1
        stuck.cancel()
        await asyncio.wait([stuck])
    assert not session._slots._gates
