import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Network

import pytest

from libs.egress import EgressError, EgressPolicy, GuardedSession
from libs.egress.session import MAX_REDIRECTS

from .egress_servers import IMAGE, LOOPBACK, failure, fetch, goes_on_after, ok, raw_server, response, says, stalls_after


@pytest.fixture
async def session() -> AsyncIterator[GuardedSession]:
    """A session that may reach loopback."""
    async with GuardedSession(LOOPBACK, host_in_flight=2) as opened:
        yield opened


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
        ("http://[::1%25lo]/", "bad_url"),
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


async def test_ten_redirects_are_followed_and_twenty_are_not(session: GuardedSession) -> None:
    """A chain in which no URL stands twice is followed for ten hops."""

    async def next_hop(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = int(server.heads[-1].split()[1].removeprefix("/"))
        hop = response("302 Found", b"", f"Location: /{left - 1}", "Connection: close")
        writer.write(hop if left else ok(IMAGE, "Connection: close"))

    async with raw_server(next_hop) as server:
        assert (await fetch(session, f"{server.url}/{MAX_REDIRECTS}")).url == f"{server.url}/0"
        for hops in (MAX_REDIRECTS + 1, 20):
            with pytest.raises(EgressError) as caught:
                await fetch(session, f"{server.url}/{hops}")
            assert (caught.value.code, caught.value.retryable) == ("redirect_limit", False)


async def test_a_redirect_loop_ends_at_the_limit(session: GuardedSession) -> None:
    """Ten redirects are followed, the eleventh is not."""

    async def around(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response("302 Found", b"", f"Location: {server.url}/", "Connection: close"))

    async with raw_server(around) as server:
        with pytest.raises(EgressError) as caught:
            await fetch(session, server.url)
    assert (caught.value.code, caught.value.retryable) == ("redirect_limit", False)
    assert len(server.heads) == 1 + MAX_REDIRECTS


async def test_the_body_of_a_redirect_is_not_read(session: GuardedSession) -> None:
    """A redirect that never ends its body is followed all the same."""
    async with raw_server(says(ok(IMAGE))) as target:
        head = f"HTTP/1.1 302 Found\r\nLocation: {target.url}/\r\n\r\n".encode()
        async with raw_server(goes_on_after(head, b"x" * 10_000)) as server:
            assert (await fetch(session, server.url)).body == IMAGE


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
