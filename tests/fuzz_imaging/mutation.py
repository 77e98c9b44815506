"""Breaks files: blindly, and so that their own checks still pass."""

import random
import struct
import zlib
from collections.abc import Callable

_SIGNATURE_BYTES = 8
_INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x80\0\0\0",
)


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """`data` with one to eight things wrong, of which some may come from `other`."""
    broken = bytearray(data)
    for _ in range(1 << rng.randrange(4)):
        if not broken:
            break
        rng.choice(_WAYS)(broken, other, rng)
    if broken.startswith(b"\x89PNG") and rng.random() < 0.8:
        return _with_right_sums(bytes(broken))
    return bytes(broken)


def _flip(broken: bytearray, _other: bytes, rng: random.Random) -> None:
    broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)


def _set(broken: bytearray, _other: bytes, rng: random.Random) -> None:
    value = rng.choice(_INTERESTING)
    place = rng.randrange(len(broken))
    broken[place : place + len(value)] = value


def _set_in_head(broken: bytearray, _other: bytes, rng: random.Random) -> None:
    place = rng.randrange(min(len(broken), 256))
    broken[place] = rng.randrange(256)


def _cut(broken: bytearray, _other: bytes, rng: random.Random) -> None:
    del broken[rng.randrange(len(broken)) :]


def _leave_out(broken: bytearray, _other: bytes, rng: random.Random) -> None:
    place = rng.randrange(len(broken))
    del broken[place : place + (1 << rng.randrange(9))]


def _repeat(broken: bytearray, _other: bytes, rng: random.Random) -> None:
    place = rng.randrange(len(broken))
    part = broken[place : place + (1 << rng.randrange(12))]
    broken[place:place] = part * (1 << rng.randrange(6))


def _splice(broken: bytearray, other: bytes, rng: random.Random) -> None:
    start = rng.randrange(len(other)) if other else 0
    place = rng.randrange(len(broken))
    part = other[start : start + (1 << rng.randrange(12))]
    broken[place : place + (len(part) if rng.random() < 0.5 else 0)] = part


_WAYS: tuple[Callable[[bytearray, bytes, random.Random], None], ...] = (
    _flip,
    _flip,
    _set,
    _set,
    _set_in_head,
    _cut,
    _leave_out,
    _repeat,
    _splice,
)


def _with_right_sums(data: bytes) -> bytes:
    """A PNG whose chunks have the check sums of what stands in them, so that its decoder sees what is wrong in them."""
    parts = [data[:_SIGNATURE_BYTES]]
    position = _SIGNATURE_BYTES
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        parts += [data[position:end], struct.pack(">I", zlib.crc32(data[position + 4 : end]))]
        position = end + 4
    return b"".join([*parts, data[position:]])
