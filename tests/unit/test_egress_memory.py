"""What the bodies of downloads take of memory together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from libs.egress import Download, EgressError, GuardedSession
from libs.egress.allowance import Allowance
from tests.waiting import until

from .egress_servers import LOOPBACK, RawServer, fetch, raw_server

MEMORY = 3_000_000
UNTOLD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


class Host:
    """Sends the head of an answer and half of its body at once, and the rest when `gate` is open.

    A path says how long the body is, and with `?untold` the answer does not.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.server: RawServer | None = None

    async def answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the newest request."""
        assert self.server is not None
        path, _sep, untold = self.server.heads[-1].split()[1].removeprefix("/").partition("?")
        size = int(path)
        told = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
        writer.write((UNTOLD if untold else told) + bytes(size // 2))
        await writer.drain()
        await self.gate.wait()
        writer.write(bytes(size - size // 2))


@asynccontextmanager
async def hosted() -> AsyncIterator[tuple[GuardedSession, Host, str]]:
    """A session with little memory, and a host."""
    host = Host()
    async with (
        raw_server(host.answer) as host.server,
        GuardedSession(LOOPBACK, host_in_flight=32, memory_bytes=MEMORY) as session,
    ):
        yield session, host, host.server.url


async def one_waits(allowance: Allowance) -> bool:
    """Whether a body waits for its turn."""
    return len(allowance._waiting) == 1


async def released(download: "asyncio.Task[Download]") -> int:
    """The length of a body, which is not needed any more."""
    got = await download
    got.release()
    return len(got.body)


@pytest.mark.parametrize("query", ["", "?untold"])
async def test_bodies_that_do_not_fit_wait_for_their_turn(query: str) -> None:
    """Many that are each half there, told or not, larger than all or small: every one of them ends."""
    sizes = [2_000_000, 10_000, 2_000_000, 5_000_000, 1_500_000, 4_000_000, 10_000, 2_000_000]
    async with hosted() as (session, host, url), asyncio.timeout(60):
        tasks = [asyncio.create_task(fetch(session, f"{url}/{size}{query}", max_bytes=10**7)) for size in sizes]
        assert host.server is not None
        await host.server.seen(len(sizes))
        host.gate.set()
        assert await asyncio.gather(*map(released, tasks)) == sizes
        assert session._allowance.is_idle


async def test_a_body_is_charged_until_it_is_released() -> None:
    """Another one of its size comes only after that."""
    async with hosted() as (session, host, url), asyncio.timeout(60):
        host.gate.set()
        first = await fetch(session, f"{url}/2000000", max_bytes=10**7)
        second = asyncio.create_task(fetch(session, f"{url}/2000000", max_bytes=10**7))
        small = await fetch(session, f"{url}/3")
        small.release()
        assert not second.done()
        first.release()
        assert await released(second) == 2_000_000
        first.release()
        assert session._allowance.is_idle


async def test_a_download_that_fails_or_is_cancelled_takes_nothing() -> None:
    """Neither one that was being read nor one that waited."""
    async with hosted() as (session, host, url), asyncio.timeout(60):
        reading, waiting = (asyncio.create_task(fetch(session, f"{url}/2000000", max_bytes=10**7)) for _ in range(2))
        await until(partial(one_waits, session._allowance), "the second one waits")
        for task in (waiting, reading):
            task.cancel()
            await asyncio.wait([task])
        host.gate.set()
        with pytest.raises(EgressError):
            await fetch(session, f"{url}/2000000?untold", max_bytes=1_500_000)
        assert session._allowance.is_idle


async def test_one_that_gives_up_at_its_turn_passes_it_on() -> None:
    """What was given to it in the moment of its end goes to the next."""
    allowance = Allowance(10)
    await allowance.take(10)
    gives_up, then = (asyncio.create_task(allowance.take(count)) for count in (8, 10))
    await asyncio.sleep(0)
    allowance.give(10)
    gives_up.cancel()
    await asyncio.wait([gives_up])
    await then
    assert gives_up.cancelled()
    allowance.give(10)
    assert allowance.is_idle
