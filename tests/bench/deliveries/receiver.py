"""A receiver in a process of its own, as light as can be: `python -m tests.bench.deliveries.receiver PORTS`.

It answers every POST with 204 on a connection that it keeps, and notes the id and the moment of each. Of its ports some
may be told to hang, which accept and read and never answer, or to answer 200 with a body without end.
"""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.bench.children import Child, child, say, told

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_ID = re.compile(rb"\r\nwebhook-id: *([^\r]+)\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)
_ACCEPTED = b"HTTP/1.1 204 No Content\r\n\r\n"
_ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
_PIECE = bytes(64 * 1024)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A POST: its `webhook-id`, which port it came to, and when, by the monotonic clock that processes share."""

    webhook_id: str
    port: int
    at: float


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running receiver; `urls` has one for each port."""

    urls: list[str]
    process: Child

    async def behave(self, *, hanging: int = 0, endless: int = 0) -> None:
        """From now on the first `hanging` ports hang and the next `endless` have no end."""
        await self.process.tell(f"behave {hanging} {endless}")

    async def count(self) -> int:
        """How many POSTs have come since they were last taken."""
        await self.process.tell("count")
        return int((await self.process.answer())["count"])

    async def take(self) -> list[Arrived]:
        """What has come since the last call, in order."""
        await self.process.tell("take")
        return [Arrived(*arrived) for arrived in (await self.process.answer())["arrived"]]


@asynccontextmanager
async def receiving(ports: int) -> AsyncIterator[Receiver]:
    """Runs the receiver until the end of the context."""
    async with child(__name__, str(ports)) as process:
        urls = [f"http://127.0.0.1:{port}/hook" for port in (await process.answer())["ports"]]
        yield Receiver(urls, process)


@dataclass(slots=True)
class _Desk:
    hanging: int = 0
    endless: int = 0
    arrived: list[tuple[str, int, float]] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    def __init__(self, desk: _Desk, port: int) -> None:
        self._desk = desk
        self._port = port
        self._data = b""
        self._writes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, ended, body = self._data.partition(b"\r\n\r\n")
        head += b"\r\n"
        length, webhook_id = _LENGTH.search(head), _ID.search(head)
        if not ended or length is None or webhook_id is None or len(body) < int(length[1]):
            return
        self._data = b""
        self._desk.arrived.append((webhook_id[1].decode(), self._port, time.monotonic()))
        self._answer(closes=_CLOSE.search(head) is not None)

    def _answer(self, *, closes: bool) -> None:
        if self._port < self._desk.hanging:
            return
        if self._port < self._desk.hanging + self._desk.endless:
            self._transport.write(_ENDLESS)
            self.resume_writing()
            return
        self._transport.write(_ACCEPTED)
        if closes:
            self._transport.close()

    def pause_writing(self) -> None:
        self._writes = False

    def resume_writing(self) -> None:
        self._writes = True
        while self._writes and not self._transport.is_closing():
            self._transport.write(_PIECE)


async def _serve(ports: int) -> None:
    desk = _Desk()
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda port=port: _Connection(desk, port), "127.0.0.1", 0, backlog=256)  # type: ignore[misc]
        for port in range(ports)
    ]
    say(ports=[server.sockets[0].getsockname()[1] for server in servers])
    while command := (await told()).split():
        if command[0] == "behave":
            desk.hanging, desk.endless = int(command[1]), int(command[2])
        elif command[0] == "count":
            say(count=len(desk.arrived))
        else:
            arrived, desk.arrived = desk.arrived, []
            say(arrived=arrived)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
