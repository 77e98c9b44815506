"""What the bodies of downloads take of memory together."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from libs.egress import Download, EgressError, GuardedSession
from libs.egress.allowance import Allowance
from tests.waiting import until

from .egress_servers import LOOPBACK, RawServer, fetch, ok, raw_server, says, stalls_after

MEMORY = 3_000_000
STEP = 1024 * 1024
SOON = 0.3
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
async def hosted(**given: Any) -> AsyncIterator[tuple[GuardedSession, Host, str]]:
    """A session with little memory, and a host."""
    host = Host()
    async with (
        raw_server(host.answer) as host.server,
        GuardedSession(LOOPBACK, host_in_flight=32, memory_bytes=MEMORY, **given) as session,
    ):
        yield session, host, host.server.url


async def one_waits(allowance: Allowance) -> bool:
    """Whether a body waits for its turn, before its beginning or in its middle."""
    return len(allowance._waiting) + len(allowance._growing) == 1


async def takes(allowance: Allowance, count: int) -> bool:
    """Whether bodies take so many bytes."""
    return allowance._total - allowance._free == count


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
        tasks = [asyncio.create_task(fetch(session, f"{url}/2000000", max_bytes=10**7)) for _ in range(3)]
        await until(partial(one_waits, session._allowance), "the last one waits")
        for task in reversed(tasks):
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


@pytest.mark.parametrize("free", [0, STEP])
async def test_waiting_for_memory_costs_no_time_of_the_download(free: int) -> None:
    """Neither before the body nor in its middle: one that waited for longer than all its deadlines still ends."""
    async with hosted(head_seconds=SOON, stall_seconds=SOON) as (session, host, url), asyncio.timeout(60):
        host.gate.set()
        allowance, others = session._allowance, MEMORY - free
        await allowance.take(others)
        if free:
            assert not await allowance.grow(others)
        task = asyncio.create_task(fetch(session, f"{url}/1500000", max_bytes=10**7, total_seconds=SOON))
        await until(partial(one_waits, allowance), "it waits")
        done, _ = await asyncio.wait([task], timeout=3 * SOON)
        assert not done
        allowance.give(others)
        assert await released(task) == 1_500_000
        if free:
            allowance.shrink()
        assert allowance.is_idle


async def test_what_waits_too_long_for_memory_is_given_up() -> None:
    """By another code than what takes too long, since it is nobody's failure, and may be tried again."""
    async with hosted(room_seconds=SOON) as (session, _, url), asyncio.timeout(60):
        await session._allowance.take(MEMORY)
        with pytest.raises(EgressError) as caught:
            await fetch(session, f"{url}/1000")
        assert (caught.value.code, caught.value.retryable) == ("memory_busy", True)
        session._allowance.give(MEMORY)
        assert session._allowance.is_idle


async def test_what_is_only_announced_takes_nothing_from_the_others() -> None:
    """A host that promises large bodies and sends none of them does not keep others from theirs."""
    async with (
        raw_server(stalls_after(b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n")) as hanging,
        raw_server(says(ok(bytes(1_000_000))), host="127.0.0.2") as quick,
        GuardedSession(LOOPBACK, host_in_flight=8, memory_bytes=10 * STEP) as session,
        asyncio.timeout(60),
    ):
        stuck = [asyncio.create_task(fetch(session, hanging.url, max_bytes=10**9)) for _ in range(8)]
        await until(partial(takes, session._allowance, 8 * STEP), "all of them have begun")
        for _ in range(20):
            (await fetch(session, quick.url)).release()
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
        assert session._allowance.is_idle


async def test_whoever_gives_up_together_disturbs_nobody() -> None:
    """One that has something gives it back at the moment at which those that wait for it are cancelled too."""
    allowance = Allowance(10)
    share = allowance.share()
    await share.expect(10)
    began = asyncio.Event()

    async def has_it() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            share.release()

    tasks = [asyncio.create_task(has_it()), *(asyncio.create_task(allowance.take(count)) for count in (10, 4))]
    await began.wait()
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3
    assert allowance.is_idle


async def test_what_has_begun_goes_before_what_has_not() -> None:
    """One without room is the one beside the others; the next gets what is given back, before one that begins."""
    allowance = Allowance(10)
    order: list[str] = []

    async def note(name: str, wanted: Coroutine[None, None, object]) -> None:
        order.append(f"{name} {await wanted}")

    await allowance.take(10)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(note("begins", allowance.take(2)))
        tasks.create_task(note("first", allowance.grow(4)))
        tasks.create_task(note("second", allowance.grow(4)))
        tasks.create_task(note("third", allowance.grow(4)))
        await asyncio.sleep(0)
        assert order == ["first False"]
        allowance.give(6)
        await asyncio.sleep(0)
        assert order[1:] == ["second True"]
        allowance.shrink()
    assert order[2:] == ["third False", "begins None"]
