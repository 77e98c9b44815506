"""Servers on loopback that answer the egress tests, byte by byte where they have to misbehave."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Network, IPv6Network

import pytest

from libs.egress import Download, EgressError, EgressPolicy, GuardedSession

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Reply = Callable[[str, asyncio.StreamWriter], Awaitable[None] | None]

LOOPBACK = EgressPolicy([IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")])
IMAGE = bytes(range(256)) * 40
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class RawServer:
    """What a server saw: its connections, and each request's head and body."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.port = 0
        self.connections = 0
        self._came = asyncio.Condition()
        self.heads: list[str] = []
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads one request, gives the answer, closes."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            # Cancelled by stop() alone; asyncio's own callback would log it as an error.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(_content_length(head)))
                async with self._came:
                    self._came.notify_all()
                await self._answer(reader, writer)
                await writer.drain()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def seen(self, requests: int) -> None:
        """Returns when that many requests have been read."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.bodies) >= requests)

    async def stop(self) -> None:
        """Ends the answers that are still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _content_length(head: str) -> int:
    return next((int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0)


class KeepingServer:
    """A server that keeps its connections and answers every request on them by its path."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.paths: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers until the client goes."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    path = head.split()[1]
                    await reader.readexactly(_content_length(head))
                    self.paths.append(path)
                    await (self._reply(path, writer) or asyncio.sleep(0))
                    await writer.drain()
        finally:
            writer.close()
            self.open.discard(writer)
            self._tasks.discard(task)

    async def stop(self) -> None:
        """Ends the connections that are still open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def keeping_server(reply: Reply, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[KeepingServer]:
    """A server that keeps its connections."""
    keeping = KeepingServer(reply)
    server = await asyncio.start_server(keeping.serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        keeping.port = server.sockets[0].getsockname()[1]
        try:
            yield keeping
        finally:
            await keeping.stop()


def by_path(path: str, writer: asyncio.StreamWriter) -> None:
    """The path as body."""
    writer.write(ok(path.encode()))


def says(*parts: bytes) -> Answer:
    """An answer of exactly these bytes, after which the connection is closed."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))

    return answer


def stalls_after(*parts: bytes) -> Answer:
    """An answer of exactly these bytes, after which nothing comes and the connection stays open."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))
        await asyncio.Event().wait()

    return answer


def apart(*parts: bytes, seconds: float = 0.02) -> Answer:
    """An answer in parts with a pause after each, so that they arrive one by one; the connection stays open."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(seconds)  # what this server is for: nobody waits here for anything to happen
        await asyncio.Event().wait()

    return answer


def goes_on_after(head: bytes, piece: bytes, *, seconds: float = 0) -> Answer:
    """An answer that begins with `head` and repeats `piece`, with pauses, for as long as anybody reads it."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(seconds)

    return answer


def resets_after(*parts: bytes) -> Answer:
    """An answer of exactly these bytes, after which the connection is reset."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))
        await writer.drain()
        reset(writer)

    return answer


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with a RST, which closing alone does only where something is unread."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def ok(body: bytes, *headers: str) -> bytes:
    """A whole 200 answer."""
    return response("200 OK", body, *headers)


def response(status: str, body: bytes, *headers: str) -> bytes:
    """A whole answer with a right Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def raw_server(
    answer: Answer, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """A server on a free port of `host` that gives every request the same answer."""
    raw = RawServer(answer)
    server = await asyncio.start_server(raw.serve, host, port, ssl=tls)
    async with server:
        raw.port = server.sockets[0].getsockname()[1]
        raw.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{raw.port}"
        try:
            yield raw
        finally:
            await raw.stop()


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
