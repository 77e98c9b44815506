"""What the guard costs: `python -m tests.bench.egress [downloads]`.

Client CPU per download of the guarded session and of a plain aiohttp session with its defaults, eight at a time from a
server in another process, the two sides alternating: small bodies over kept connections, small bodies over a new
connection each, and large bodies. Prints the medians and their ratios.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network

import aiohttp

from libs.egress import EgressPolicy, GuardedSession
from tests.bench.children import child, say, told

AT_ONCE = 8
ROUNDS = 9
SMALL, LARGE = 8 * 1024, 4 * 1024 * 1024

Get = Callable[[str], Awaitable[bytes]]


class _Answering(asyncio.Protocol):
    """Answers every request head with as many bytes as the first part of its path says; closes after `/…/close`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        _, size, rest = self._head.split(b"/", 2)
        closes = rest.startswith(b"close")
        self._head = b""
        ending = b"Connection: close\r\n" if closes else b""
        body = bytes(int(size))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n%b\r\n" % (len(body), ending)
        self._transport.write(head + body)
        if closes:
            self._transport.close()


async def serve() -> None:
    """The child: serves until its parent goes."""
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    async with server:
        say(port=server.sockets[0].getsockname()[1])
        await told()


async def cpu_seconds(get: Get, url: str, size: int, count: int) -> float:
    """Client CPU of one download, over `count` of them under URLs that all differ."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            assert len(await get(f"{url}/{number}.jpg")) == size

    began = time.process_time()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return (time.process_time() - began) / count


async def compare(name: str, *, guarded: Get, plain: Get, url: str, size: int, count: int) -> None:
    """Prints the medians of both sides and their ratio."""
    taken: dict[str, list[float]] = {"guarded": [], "plain": []}
    for _ in range(ROUNDS):
        taken["guarded"].append(await cpu_seconds(guarded, url, size, count))
        taken["plain"].append(await cpu_seconds(plain, url, size, count))
    ours, theirs = (statistics.median(values) * 1e6 for values in taken.values())
    print(f"{name}: guarded {ours:,.0f} µs, plain {theirs:,.0f} µs of CPU per download, ratio {ours / theirs:.2f}")


async def main(count: int) -> None:
    """Runs the three comparisons."""
    async with (
        child("tests.bench.egress", "serve") as server,
        GuardedSession(EgressPolicy([IPv4Network("127.0.0.0/8")]), host_in_flight=AT_ONCE) as session,
        aiohttp.ClientSession() as client,
    ):

        async def guarded(url: str) -> bytes:
            return (await session.download(url, max_bytes=2 * LARGE, total_seconds=60)).body

        async def plain(url: str) -> bytes:
            async with client.get(url) as answer:
                return await answer.read()

        root = f"http://127.0.0.1:{(await server.answer())['port']}"
        for name, size, path, times in (
            ("8 KiB, kept connections", SMALL, "kept", count),
            ("8 KiB, new connections", SMALL, "close", count // 2),
            ("4 MiB, kept connections", LARGE, "kept", count // 20),
        ):
            await compare(name, guarded=guarded, plain=plain, url=f"{root}/{size}/{path}", size=size, count=times)


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1:] == ["serve"] else main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
