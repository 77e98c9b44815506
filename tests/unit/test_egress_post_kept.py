import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.egress import EgressError, GuardedSession, Response
from libs.egress.connector import OLDEST_SECONDS
from libs.egress.session import MAX_LOGGED_BYTES
from tests.waiting import until

from .egress_servers import LOOPBACK, KeepingServer, by_path, fetch, keeping_server, ok, reset


@pytest.fixture
async def session() -> AsyncIterator[GuardedSession]:
    """A session that may reach loopback, and keeps connections of POSTs for as long as any test takes."""
    async with GuardedSession(LOOPBACK, host_in_flight=4, post_idle_seconds=60) as opened:
        yield opened


async def deliver(session: GuardedSession, server: KeepingServer, path: str = "/") -> Response:
    """A POST of a webhook's body."""
    url = f"http://127.0.0.1:{server.port}{path}"
    return await session.post(url, body=b"{}", headers={"webhook-id": "msg_1"}, total_seconds=20)


async def no_idle_connection_is_good(session: GuardedSession) -> bool:
    """Whether none of the kept connections would be used again."""
    idle = [connection for connections in session._dialling._conns.values() for connection, _ in connections]
    return not any(connection.is_connected() and not connection.should_close for connection in idle)


async def test_posts_to_one_server_share_a_connection(session: GuardedSession) -> None:
    """Ten deliveries one after another cost one connection, and each gets its own answer."""
    async with keeping_server(by_path) as server:
        for number in range(10):
            assert (await deliver(session, server, f"/{number}")).body == f"/{number}".encode()
    assert (server.connections, len(server.paths)) == (1, 10)


async def test_posts_and_downloads_share_no_connection(session: GuardedSession) -> None:
    """What an image host may answer is not a receiver's to say."""
    async with keeping_server(by_path) as server:
        await fetch(session, f"http://127.0.0.1:{server.port}/image")
        await deliver(session, server)
    assert server.connections == 2


@pytest.mark.parametrize("unasked", [ok(b"poison"), b"garbage\r\n\r\n", ok(b"poison")[:-3]])
async def test_what_comes_unasked_is_no_answer_to_the_next_post(session: GuardedSession, unasked: bytes) -> None:
    """A connection on which something came after its last answer is not used again."""
    async with keeping_server(by_path) as server:
        assert (await deliver(session, server, "/first")).body == b"/first"
        [writer] = server.open
        writer.write(unasked)
        await until(lambda: no_idle_connection_is_good(session), "the unasked bytes are read")
        for path in ("/second", "/third"):
            assert (await deliver(session, server, path)).body == path.encode()
    assert server.connections == 2


async def test_a_kept_connection_that_has_ended_is_not_used(session: GuardedSession) -> None:
    """A receiver that closes what is idle gets the next POST on a new connection, and none fails."""
    async with keeping_server(by_path) as server:
        await deliver(session, server)
        for writer in server.open:
            writer.close()
        await until(lambda: no_idle_connection_is_good(session), "the end is seen")
        assert (await deliver(session, server, "/next")).body == b"/next"
    assert (server.connections, server.paths) == (2, ["/", "/next"])


async def test_a_kept_connection_that_ends_under_a_post_fails_it_and_nothing_is_sent_twice(
    session: GuardedSession,
) -> None:
    """The receiver sees the delivery once; as it ended a connection so, each later POST to it has one of its own."""

    def reply(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/lost":
            reset(writer)
        else:
            writer.write(ok(path.encode()))

    async with keeping_server(reply) as server:
        await deliver(session, server, "/first")
        with pytest.raises(EgressError) as caught:
            await deliver(session, server, "/lost")
        assert (caught.value.code, caught.value.retryable) == ("connect_error", True)
        for path in ("/third", "/fourth"):
            assert (await deliver(session, server, path)).body == path.encode()
    assert (server.connections, server.paths) == (3, ["/first", "/lost", "/third", "/fourth"])


async def test_a_connection_that_idled_is_not_used_for_a_post() -> None:
    """The server may be about to close it: beyond the limit a new one is made."""
    async with (
        GuardedSession(LOOPBACK, host_in_flight=1, post_idle_seconds=0) as session,
        keeping_server(by_path) as server,
    ):
        for _ in range(3):
            await deliver(session, server)
    assert server.connections == 3


async def test_a_connection_is_used_for_a_minute_only(session: GuardedSession) -> None:
    """However busy it is, so that a receiver which has moved to another address is followed there."""
    async with keeping_server(by_path) as server:
        await deliver(session, server)
        for protocol in session._dialling._dialled:
            session._dialling._dialled[protocol] -= OLDEST_SECONDS
        for _ in range(2):
            await deliver(session, server)
    assert server.connections == 2


async def test_a_connection_with_an_unread_answer_is_not_kept(session: GuardedSession) -> None:
    """After a body that is longer than what is kept of it, the next POST does not find the rest."""

    def reply(path: str, writer: asyncio.StreamWriter) -> None:
        endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * MAX_LOGGED_BYTES
        writer.write(endless if path == "/long" else ok(path.encode()))

    async with keeping_server(reply) as server:
        assert len((await deliver(session, server, "/long")).body) == MAX_LOGGED_BYTES
        assert (await deliver(session, server, "/next")).body == b"/next"
    assert server.connections == 2
