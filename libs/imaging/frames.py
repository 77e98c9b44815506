"""Frames on the socket between a pool and a codec process: a head that says what it is, and a body of plain bytes."""

import asyncio
import struct
from io import BufferedIOBase
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


def read(stream: BufferedIOBase) -> Frame | None:
    """The next frame from a file that blocks; None at its end."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head, body = _LENGTHS.unpack(lengths)
    return Frame(stream.read(head), stream.read(body))


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
