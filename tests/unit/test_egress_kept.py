import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from libs.egress import EgressError, GuardedSession
from libs.egress.connector import MAX_KEPT
from tests.waiting import until

from .egress_names import ScriptedResolver
from .egress_servers import LOOPBACK, by_path, fetch, keeping_server, ok, reset, response, stalls_after


@pytest.fixture
async def session() -> AsyncIterator[GuardedSession]:
    """A session that may reach loopback, by any name."""
    async with GuardedSession(LOOPBACK, host_in_flight=4, resolver=ScriptedResolver(["127.0.0.1"])) as opened:
        yield opened


def kept(session: GuardedSession) -> int:
    """How many idle connections the session has."""
    connector = session._downloads.connector
    assert connector is not None
    return sum(len(connections) for connections in connector._conns.values())


async def test_downloads_of_one_host_share_a_connection(session: GuardedSession) -> None:
    """Ten images one after another, a missing one among them, cost one connection."""

    def reply(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(response("404 Not Found", b"gone") if path == "/3" else ok(path.encode()))

    async with keeping_server(reply) as server:
        for number in range(10):
            with suppress(EgressError):
                got = await fetch(session, f"http://127.0.0.1:{server.port}/{number}")
                assert got.body == f"/{number}".encode()
    assert (server.connections, len(server.paths)) == (1, 10)


async def test_hosts_do_not_share_a_connection(session: GuardedSession) -> None:
    """Two names of one address have a connection each: what one host may answer is not the other's to say."""
    async with keeping_server(by_path) as server:
        for name in ("a.example", "b.example", "a.example"):
            await fetch(session, f"http://{name}:{server.port}/")
    assert server.connections == 2


@pytest.mark.parametrize("unasked", [ok(b"poison"), b"garbage\r\n\r\n", ok(b"poison")[:-3]])
async def test_what_comes_unasked_is_no_answer_to_the_next_request(session: GuardedSession, unasked: bytes) -> None:
    """A connection on which something came after its last answer is not used again."""

    async def noticed() -> bool:
        connector = session._downloads.connector
        assert connector is not None
        idle = [connection for connections in connector._conns.values() for connection, _ in connections]
        return not any(connection.is_connected() and not connection.should_close for connection in idle)

    async with keeping_server(by_path) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert (await fetch(session, f"{url}/first")).body == b"/first"
        [writer] = server.open
        writer.write(unasked)
        await until(noticed, "the unasked bytes are read")
        for path in ("/second", "/third"):
            assert (await fetch(session, url + path)).body == path.encode()
    assert server.connections == 2


async def test_two_answers_at_once_count_as_one(session: GuardedSession) -> None:
    """The second of two answers to one request is dropped together with its connection."""

    def reply(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(path.encode()) + (ok(b"poison") if path == "/first" else b""))

    async with keeping_server(reply) as server:
        for path in ("/first", "/second"):
            assert (await fetch(session, f"http://127.0.0.1:{server.port}{path}")).body == path.encode()
    assert server.connections == 2


async def test_a_connection_that_its_server_has_closed_is_replaced(session: GuardedSession) -> None:
    """An image is downloaded although the kept connection ends, before the request or because of it."""

    def reply(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/second" and server.paths.count(path) == 1:
            reset(writer)
        else:
            writer.write(ok(path.encode()))

    async with keeping_server(reply) as server:
        url = f"http://127.0.0.1:{server.port}"
        for path in ("/first", "/second", "/third"):
            assert (await fetch(session, url + path)).body == path.encode()
        assert server.connections == 2
        for writer in server.open:
            writer.close()
        assert (await fetch(session, f"{url}/fourth")).body == b"/fourth"


async def test_the_reset_of_an_idle_connection_is_nobodys_error(session: GuardedSession) -> None:
    """A server that ends kept connections roughly, after a body that came in pieces, leaves nothing to report."""
    reports: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))

    async def reply(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        await until(head_is_read, "the head is read")  # so that the body comes by itself
        writer.write(path.encode())

    async def head_is_read() -> bool:
        connector = session._downloads.connector
        assert connector is not None
        return any(connection._payload is not None for connection in connector._acquired)

    async def noticed() -> bool:
        connector = session._downloads.connector
        assert connector is not None
        return not any(idle.is_connected() for pool in connector._conns.values() for idle, _ in pool)

    try:
        async with keeping_server(reply) as server:
            for path in ("/picture", "/another"):
                assert (await fetch(session, f"http://127.0.0.1:{server.port}{path}")).body == path.encode()
                for writer in server.open:
                    reset(writer)
                await until(noticed, "the connection is lost")
            session._downloads.connector._conns.clear()  # type: ignore[union-attr]
            gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert not reports


@pytest.mark.parametrize("limits", [{"total_seconds": 0.3}, {"max_bytes": 5}])
async def test_a_connection_with_an_unread_body_is_not_kept(session: GuardedSession, limits: dict[str, float]) -> None:
    """After a download that was given up, the next one does not find the rest of its body."""

    async def reply(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/first":
            await stalls_after(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome")(asyncio.StreamReader(), writer)
        writer.write(ok(path.encode()))

    async with keeping_server(reply) as server:
        url = f"http://127.0.0.1:{server.port}"
        with pytest.raises(EgressError):
            await session.download(f"{url}/first", **{"max_bytes": 100, "total_seconds": 20} | limits)  # type: ignore[arg-type]
        assert kept(session) == 0
        assert (await fetch(session, f"{url}/second")).body == b"/second"


async def test_only_so_many_connections_are_kept(session: GuardedSession) -> None:
    """A catalogue with many hosts does not use up the descriptors of the process with connections that idle."""
    async with keeping_server(by_path) as server:
        for number in range(MAX_KEPT + 50):
            await fetch(session, f"http://host{number}.example:{server.port}/")
        assert kept(session) == MAX_KEPT
        assert server.connections == MAX_KEPT + 50


async def test_connections_that_ended_leave_room_for_others(session: GuardedSession) -> None:
    """What counts is what is open: after many closed connections, new ones are kept."""

    def reply(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"", "Connection: close") if path == "/" else ok(path.encode()))

    async with keeping_server(reply) as server:
        for number in range(MAX_KEPT + 50):
            await fetch(session, f"http://host{number}.example:{server.port}/")
        begun = server.connections
        for path in ("/first", "/second"):
            await fetch(session, f"http://127.0.0.1:{server.port}{path}")
    assert server.connections == begun + 1
