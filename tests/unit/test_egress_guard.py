import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Network
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from libs.egress import EgressError, EgressPolicy, GuardedSession
from libs.egress.connector import GuardedConnector, GuardedResolver, SystemResolver
from libs.egress.errors import from_transport

from .egress_names import ScriptedResolver, answer
from .egress_servers import LOOPBACK, RawServer, ok, raw_server, response, says

PUBLIC_ONLY = EgressPolicy()
ONLY_127_0_0_2 = EgressPolicy([IPv4Network("127.0.0.2/32")])
NAME = "images.example"


class TwoFacedAnswer(dict[str, Any]):
    """An answer that names a harmless address when it is checked and another when it is dialled."""

    def __init__(self, port: int, hosts: Iterator[str]) -> None:
        super().__init__(answer(NAME, "93.184.216.34", port))
        self._hosts = hosts

    def __getitem__(self, key: str) -> Any:
        return next(self._hosts) if key == "host" else super().__getitem__(key)


class TwoFacedResolver(ScriptedResolver):
    """Gives two-faced answers."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """A single answer, public at first sight."""
        await super().resolve(host, port, family)
        return [TwoFacedAnswer(port, iter(["93.184.216.34", "127.0.0.1"]))]  # type: ignore[list-item]


@pytest.fixture
async def listener() -> AsyncIterator[RawServer]:
    """A server on 127.0.0.1 that would answer whoever reaches it."""
    async with raw_server(says(ok(b"secret"))) as server:
        yield server


async def refused(session: GuardedSession, url: str) -> EgressError:
    """The error that both a download and a POST fail with."""
    with pytest.raises(EgressError) as download:
        await session.download(url, max_bytes=100, total_seconds=20)
    with pytest.raises(EgressError) as post:
        await session.post(url, body=b"{}", headers={}, total_seconds=20)
    assert download.value.code == post.value.code
    return post.value


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
        ["2606:4700:4700::1111", "::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["fe80::1%lo"],
        ["127.1"],
    ],
)
async def test_a_name_with_one_forbidden_address_is_refused(listener: RawServer, answers: list[str]) -> None:
    """Whichever of its addresses is forbidden, the name is not connected to at all, and not retried."""
    async with GuardedSession(PUBLIC_ONLY, host_in_flight=1, resolver=ScriptedResolver(answers)) as session:
        error = await refused(session, f"http://{NAME}:{listener.port}/")
    assert (error.code, error.retryable) == ("blocked_address", False)
    assert NAME in error.detail
    assert "DARKROOM_EGRESS_ALLOW" in error.detail
    assert listener.connections == 0


async def test_a_name_that_changes_its_address_after_the_check_gains_nothing(listener: RawServer) -> None:
    """DNS rebinding: public when looked at, loopback when dialled."""
    rebinding = ScriptedResolver(["93.184.216.34"], ["127.0.0.1"])
    guarded = GuardedResolver(PUBLIC_ONLY, rebinding)
    assert [found["host"] for found in await guarded.resolve(NAME, listener.port)] == ["93.184.216.34"]
    async with GuardedSession(PUBLIC_ONLY, host_in_flight=1, resolver=rebinding) as session:
        error = await refused(session, f"http://{NAME}:{listener.port}/")
    assert error.code == "blocked_address"
    assert listener.connections == 0


async def test_an_address_that_changes_between_resolver_and_socket_is_refused(listener: RawServer) -> None:
    """The check that counts is on the address that the socket is opened to."""
    resolver = TwoFacedResolver([])
    async with GuardedSession(PUBLIC_ONLY, host_in_flight=1, resolver=resolver) as session:
        with pytest.raises(EgressError) as caught:
            await session.download(f"http://{NAME}:{listener.port}/", max_bytes=100, total_seconds=20)
    assert (caught.value.code, caught.value.retryable) == ("blocked_address", False)
    assert "127.0.0.1 is loopback" in caught.value.detail
    assert listener.connections == 0


async def test_a_name_is_dialled_at_the_address_that_was_checked() -> None:
    """With its only address allowed, the name is reached there, and the answer says where."""
    async with (
        raw_server(says(ok(b"hello")), host="127.0.0.2") as server,
        GuardedSession(ONLY_127_0_0_2, host_in_flight=1, resolver=ScriptedResolver(["127.0.0.2"])) as session,
    ):
        url = f"http://{NAME}:{server.port}/"
        assert (await session.download(url, max_bytes=100, total_seconds=20)).body == b"hello"
        reply = await session.post(url, body=b"", headers={}, total_seconds=20)
    assert (reply.status, reply.body, reply.remote_address) == (200, b"hello", "127.0.0.2")
    assert f"Host: {NAME}:{server.port}" in server.heads[0]


async def test_a_literal_address_is_caught_at_the_socket_though_no_name_is_resolved(listener: RawServer) -> None:
    """No resolver is asked about literals by aiohttp: the connector alone must refuse them."""
    connector = GuardedConnector(PUBLIC_ONLY, ScriptedResolver([]), tls=None, idle_seconds=1)
    async with aiohttp.ClientSession(connector=connector) as plain:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await plain.get(listener.url)
    assert from_transport(caught.value, "127.0.0.1").code == "blocked_address"
    assert listener.connections == 0


REACHING = [
    "http://127.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://0x7f000001:{port}/",
    "http://2130706433:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::FFFF:7f00:1]:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://name.example:{port}/",
    "http://mapped.example:{port}/",
]
ANSWERS = {"name.example": "127.0.0.1", "mapped.example": "::ffff:127.0.0.1", "localhost": "127.0.0.1"}


class NamesOfLoopback(ScriptedResolver):
    """Knows the names that stand in `REACHING`."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The one address of the name."""
        await super().resolve(host, port, family)
        return [answer(host, ANSWERS[host.removesuffix(".")], port)]


@pytest.mark.parametrize("redirected", [False, True])
@pytest.mark.parametrize("url", REACHING)
async def test_a_listener_on_a_forbidden_address_sees_no_connection(
    listener: RawServer, url: str, *, redirected: bool
) -> None:
    """Literals, names and redirects that reach it when its address is allowed do not when it is not."""
    target = url.format(port=listener.port)
    async with raw_server(says(response("302 Found", b"", f"Location: {target}")), host="127.0.0.2") as detour:
        start = detour.url if redirected else target
        resolver = NamesOfLoopback([])
        async with GuardedSession(LOOPBACK, host_in_flight=2, resolver=resolver) as session:
            assert (await session.download(start, max_bytes=100, total_seconds=20)).body == b"secret"
        assert listener.connections == 1
        async with GuardedSession(ONLY_127_0_0_2, host_in_flight=2, resolver=resolver) as session:
            with pytest.raises(EgressError) as caught:
                await session.download(start, max_bytes=100, total_seconds=20)
    assert (caught.value.code, caught.value.retryable) == ("blocked_address", False)
    assert "DARKROOM_EGRESS_ALLOW" in caught.value.detail
    assert listener.connections == 1


async def test_a_listener_on_the_loopback_of_ipv6_sees_no_connection() -> None:
    """The literal and a name that has it are refused."""
    try:
        probe = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    probe.close()
    resolver = ScriptedResolver(["::1"])
    async with raw_server(says(ok(b"secret")), host="::1") as listener:
        urls = [listener.url, f"http://{NAME}:{listener.port}/"]
        async with GuardedSession(LOOPBACK, host_in_flight=1, resolver=resolver) as session:
            for url in urls:
                assert (await session.download(url, max_bytes=100, total_seconds=20)).body == b"secret"
        reached = listener.connections
        async with GuardedSession(PUBLIC_ONLY, host_in_flight=1, resolver=resolver) as session:
            for url in urls:
                assert (await refused(session, url)).code == "blocked_address"
        assert listener.connections == reached


async def test_a_literal_is_refused_before_anything_is_resolved(listener: RawServer) -> None:
    """Nobody is asked about an address, nor about the names of this machine."""
    resolver = ScriptedResolver(["127.0.0.1"])
    async with GuardedSession(PUBLIC_ONLY, host_in_flight=1, resolver=resolver) as session:
        for host in ("127.0.0.1", "127.1", "localhost", "a.localhost", "[::ffff:127.0.0.1]"):
            assert (await refused(session, f"http://{host}:{listener.port}/")).code == "blocked_address"
    assert (resolver.asked, listener.connections) == ([], 0)


async def test_proxies_of_the_environment_are_ignored(
    listener: RawServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Neither proxy variables nor a .netrc change where a request goes or what it carries."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with raw_server(says(ok(b"proxied"))) as proxy, GuardedSession(LOOPBACK, host_in_flight=1) as session:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        got = await session.download(listener.url, max_bytes=100, total_seconds=20)
    assert got.body == b"secret"
    assert proxy.connections == 0
    assert "authorization" not in listener.heads[0].lower()


@pytest.mark.parametrize("resolver", [ScriptedResolver([]), SystemResolver()])
async def test_a_name_without_an_address_is_a_dns_error(resolver: AbstractResolver) -> None:
    """An empty answer and an unknown name (RFC 6761 keeps .invalid unknown) may be tried again."""
    async with GuardedSession(PUBLIC_ONLY, host_in_flight=1, resolver=resolver) as session:
        error = await refused(session, "http://no-such-name.invalid/")
    await resolver.close()
    assert (error.code, error.retryable) == ("dns_error", True)


class SilentResolver(ScriptedResolver):
    """Never answers."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Waits for ever."""
        await asyncio.Event().wait()
        return await super().resolve(host, port, family)


@pytest.mark.timeout(60)
async def test_a_lookup_that_hangs_has_the_time_of_a_connection() -> None:
    """A name server that says nothing costs no more than a host that says nothing, and may be tried again."""
    session = GuardedSession(PUBLIC_ONLY, host_in_flight=1, connect_seconds=0.3, resolver=SilentResolver())
    async with session:
        with pytest.raises(EgressError) as caught:
            await session.download(f"http://{NAME}/", max_bytes=100, total_seconds=10_000)
    assert (caught.value.code, caught.value.retryable) == ("timeout", True)


async def test_the_system_resolver_answers_what_the_system_knows() -> None:
    """The name of this machine resolves to loopback addresses, which are reached when they are allowed."""
    async with (
        raw_server(says(ok(b"hello"))) as server,
        GuardedSession(LOOPBACK, host_in_flight=1) as session,
    ):
        got = await session.download(f"http://localhost:{server.port}/", max_bytes=100, total_seconds=20)
    assert got.body == b"hello"
