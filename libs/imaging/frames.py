"""Frames on the socket between a pool and a codec process: a head that says what it is, and a body of plain bytes."""

import asyncio
import socket
import struct
from typing import NamedTuple

_LENGTHS = struct.Struct("!IQ")
_HEAD_BYTES = 1 << 20


class Frame(NamedTuple):
    """What one side says at once."""

    head: bytes
    body: bytes = b""

    @property
    def parts(self) -> list[bytes]:
        """What is to be sent, one behind the other; nothing empty, which Python 3.12 tries to send for ever."""
        start = _LENGTHS.pack(len(self.head), len(self.body)) + self.head
        return [start, self.body] if self.body else [start]


def read(connection: socket.socket) -> Frame | None:
    """The next frame from a socket that blocks; None at its end."""
    lengths = _received(connection, _LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head, body = _LENGTHS.unpack(lengths)
    return Frame(_received(connection, head), _received(connection, body))


def write(connection: socket.socket, frame: Frame) -> None:
    """Sends a frame over a socket that blocks."""
    parts = frame.parts
    sent = connection.sendmsg(parts)
    for part in parts:
        if sent < len(part):  # a signal came between
            connection.sendall(memoryview(part)[sent:])
        sent = max(0, sent - len(part))


async def receive(reader: asyncio.StreamReader, most_bytes: int) -> Frame:
    """The next frame from a process that may be in a stranger's hand.

    Raises:
        asyncio.IncompleteReadError: the other side is gone.
        ValueError: it says that more than `most_bytes` come.
    """
    head, body = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    if head > _HEAD_BYTES or body > most_bytes:
        raise ValueError(f"a frame of {head} and {body} bytes")
    return Frame(await reader.readexactly(head), await reader.readexactly(body))


def _received(connection: socket.socket, count: int) -> bytes:
    """So many bytes, fewer only at the end: as a rule by one call, and without a buffer that they are copied from."""
    received = b""
    while len(received) < count:
        part = connection.recv(count - len(received), socket.MSG_WAITALL)
        if not part:
            break
        received += part
    return received
