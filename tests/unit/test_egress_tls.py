import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from libs.egress import EgressError, GuardedSession

from .egress_servers import IMAGE, LOOPBACK, by_path, fetch, keeping_server, ok, raw_server, response, says

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The one authority that the session trusts."""
    return trustme.CA()


@pytest.fixture
async def session(authority: trustme.CA) -> AsyncIterator[GuardedSession]:
    """A session that may reach loopback and trusts the authority."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with GuardedSession(LOOPBACK, host_in_flight=1, tls=trusting) as opened:
        yield opened


def presenting(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_downloads_over_tls_share_a_connection(session: GuardedSession, authority: trustme.CA) -> None:
    """One handshake serves the images of a host that come one after another."""
    async with keeping_server(by_path, tls=presenting(authority.issue_cert("127.0.0.1"))) as server:
        for path in ("/first", "/second", "/third"):
            assert (await fetch(session, f"https://127.0.0.1:{server.port}{path}")).body == path.encode()
    assert server.connections == 1


async def test_an_image_is_downloaded_over_tls(session: GuardedSession, authority: trustme.CA) -> None:
    """A certificate of a trusted authority for this host is accepted."""
    tls = presenting(authority.issue_cert("127.0.0.1"))
    async with raw_server(says(ok(IMAGE)), tls=tls) as server:
        assert (await fetch(session, f"{server.url}/a.jpg")).body == IMAGE


@pytest.mark.parametrize("case", ["self-signed", "expired", "not yet valid", "for another host", "for its name only"])
async def test_a_certificate_that_does_not_verify_is_a_tls_error(
    session: GuardedSession, authority: trustme.CA, case: str
) -> None:
    """The server sees no request; a download is not tried again, a webhook is, since its owner may renew."""
    certificate = {
        "self-signed": lambda: trustme.CA().issue_cert("127.0.0.1"),
        "expired": lambda: authority.issue_cert("127.0.0.1", not_before=NOW - 2 * DAY, not_after=NOW - DAY),
        "not yet valid": lambda: authority.issue_cert("127.0.0.1", not_before=NOW + DAY, not_after=NOW + 2 * DAY),
        "for another host": lambda: authority.issue_cert("127.0.0.2"),
        "for its name only": lambda: authority.issue_cert("images.example", common_name="127.0.0.1"),
    }[case]()
    async with raw_server(says(ok(IMAGE)), tls=presenting(certificate)) as server:
        with pytest.raises(EgressError) as download:
            await fetch(session, server.url)
        with pytest.raises(EgressError) as post:
            await session.post(server.url, body=b"{}", headers={}, total_seconds=20)
    assert (download.value.code, download.value.retryable) == ("tls_error", False)
    assert (post.value.code, post.value.retryable) == ("tls_error", True)
    assert server.heads == []


async def test_the_system_decides_whom_to_trust_by_default(authority: trustme.CA) -> None:
    """Without a context of its own, a session does not trust an authority that the system does not know."""
    tls = presenting(authority.issue_cert("127.0.0.1"))
    async with raw_server(says(ok(IMAGE)), tls=tls) as server, GuardedSession(LOOPBACK, host_in_flight=1) as session:
        with pytest.raises(EgressError) as caught:
            await fetch(session, server.url)
    assert caught.value.code == "tls_error"


async def test_a_redirect_never_leaves_tls(session: GuardedSession, authority: trustme.CA) -> None:
    """From https a redirect leads to https only, in however many hops; the plain server sees no connection."""
    tls = presenting(authority.issue_cert("127.0.0.1"))
    async with raw_server(says(ok(IMAGE))) as plain:
        down = response("302 Found", b"", f"Location: {plain.url}/", "Connection: close")
        async with raw_server(says(down), tls=tls) as secure:
            up = response("302 Found", b"", f"Location: {secure.url}/", "Connection: close")
            async with raw_server(says(up)) as first, raw_server(says(up), tls=tls) as second:
                for server in (secure, first, second):
                    with pytest.raises(EgressError) as caught:
                        await fetch(session, server.url)
                    assert (caught.value.code, caught.value.retryable) == ("bad_scheme", False)
    assert plain.connections == 0


async def test_a_redirect_may_lead_to_tls(session: GuardedSession, authority: trustme.CA) -> None:
    """From http to https is the way that most sites redirect."""
    tls = presenting(authority.issue_cert("127.0.0.1"))
    async with raw_server(says(ok(IMAGE)), tls=tls) as secure:
        up = response("301 Moved", b"", f"Location: {secure.url}/", "Connection: close")
        async with raw_server(says(up)) as plain:
            assert (await fetch(session, plain.url)).url == f"{secure.url}/"


@pytest.mark.parametrize(
    ("greeting", "connect_seconds", "code"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", 20, "tls_error"), (b"", 0.3, "timeout")],
)
@pytest.mark.timeout(60)
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
            await fetch(session, url, total_seconds=10_000)
        done.set()
    assert caught.value.code == code
