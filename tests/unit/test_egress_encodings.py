import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from libs.egress import GuardedSession

from .egress_servers import CHUNKED, IMAGE, LOOPBACK, failure, fetch, ok, raw_server, says


@pytest.fixture
async def session() -> AsyncIterator[GuardedSession]:
    """A session that may reach loopback."""
    async with GuardedSession(LOOPBACK, host_in_flight=2) as opened:
        yield opened


@pytest.mark.parametrize(
    "codings",
    [
        ["gzip"], ["GZIP"], ["x-gzip"], ["deflate"], ["br"], ["zstd"], ["gzip, gzip"], ["identity, gzip"],
        ["identity", "gzip"], ["nonsense"],
    ],
)  # fmt: skip
async def test_a_compressed_body_is_refused(session: GuardedSession, codings: list[str]) -> None:
    """Nothing is decompressed, so no body can be a bomb, in however many headers it says so."""
    packed = ok(gzip.compress(IMAGE), *(f"Content-Encoding: {coding}" for coding in codings))
    error = await failure(session, says(packed))
    assert (error.code, error.retryable) == ("bad_encoding", False)


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate,chunked", "gzip", "chunked, gzip"])
async def test_a_body_that_is_compressed_for_the_transfer_is_refused_too(session: GuardedSession, coding: str) -> None:
    """RFC 9112 lets a server compress by Transfer-Encoding as well; the gzip stream is not taken for the image."""
    packed = b"3\r\nabc\r\n0\r\n\r\n"
    error = await failure(session, says(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n".encode(), packed))
    assert error.code in {"bad_encoding", "bad_response"}


def _bomb() -> bytes:
    """A thousand gzip members of a megabyte of zeros each, in a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return (packer.compress(bytes(1_000_000)) + packer.flush()) * 1_000


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_gzip_bomb_is_refused_by_its_header(session: GuardedSession, framing: str) -> None:
    """Many gzip members, each a bomb: whatever delimits them, they are refused before any of it is read."""
    bomb = _bomb()
    head = {
        "length": ok(b"", "Content-Encoding: gzip").replace(b"Content-Length: 0", b"Content-Length: %d" % len(bomb)),
        "chunked": CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n%x\r\n" % len(bomb),
        "close": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
    }[framing]
    error = await failure(session, says(head, bomb), max_bytes=10**9)
    assert (error.code, error.retryable) == ("bad_encoding", False)


async def test_a_gzip_bomb_that_does_not_say_so_comes_back_as_it_is(session: GuardedSession) -> None:
    """Without the header it is a file like any other, of the size that arrived, for the decoder to refuse."""
    bomb = _bomb()
    async with raw_server(says(ok(bomb))) as server:
        assert (await fetch(session, server.url, max_bytes=len(bomb))).body == bomb
