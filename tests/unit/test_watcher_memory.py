"""What a watcher remembers of what it has made, and whose turn it is to make it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from libs.documents import Output
from libs.imaging import Options
from services.watcher import memory as memory_module
from services.watcher.memory import Memory, key_of


def output(key: bytes) -> Output:
    """An output that was made under `key`."""
    return Output(name="a" * 64 + ".jpg", bytes=40, source_bytes=100, width=4, height=3, format="jpeg", key=key)


class Images:
    """Documents that hold the outputs of `keys`, and keep what they were asked for, each query until `gate` is open."""

    def __init__(self, *keys: bytes) -> None:
        self.outputs = {key: output(key) for key in keys}
        self.asked: list[set[bytes]] = []
        self.gate = asyncio.Event()
        self.reached = asyncio.Event()

    async def made_from(self, keys: Sequence[bytes]) -> Mapping[bytes, Output]:
        """Those of `keys` that there are."""
        self.asked.append(set(keys))
        self.reached.set()
        await self.gate.wait()
        return {key: self.outputs[key] for key in keys if key in self.outputs}


@asynccontextmanager
async def remembering(images: Images, *, slots: int = 32) -> AsyncIterator[Memory]:
    """A memory of these documents."""
    memory = Memory(images.made_from, slots=slots)
    async with asyncio.timeout(30), memory.running():
        yield memory


async def test_keys_that_come_together_are_asked_for_together() -> None:
    """One query for those of one turn of the loop, and one for all that came while it ran."""
    images = Images(b"0", b"5")
    async with remembering(images) as memory, asyncio.TaskGroup() as tasks:
        first = [tasks.create_task(memory.recall(b"%d" % n, is_awaited=True)) for n in range(3)]
        await images.reached.wait()
        then = [tasks.create_task(memory.recall(b"%d" % n, is_awaited=True)) for n in range(3, 9)]
        await asyncio.sleep(0)
        images.gate.set()
        found = [await task for task in first + then]
    assert images.asked == [{b"0", b"1", b"2"}, {b"%d" % n for n in range(3, 9)}]
    assert [answer and answer.key for answer in found] == [b"0", *[None] * 4, b"5", *[None] * 3]


async def test_keys_of_images_that_nobody_waits_for_gather_for_a_while() -> None:
    """Those that come one after the other while nothing runs are asked for together, and what is awaited is before."""
    images = Images()
    images.gate.set()
    async with remembering(images) as memory, asyncio.TaskGroup() as tasks:
        await memory.recall(b"first", is_awaited=False)
        many = []
        for n in range(4):
            many.append(tasks.create_task(memory.recall(b"%d" % n, is_awaited=False)))
            await asyncio.sleep(0)
        await memory.recall(b"awaited", is_awaited=True)
        assert images.asked == [{b"first"}, {b"awaited"}]
        for task in many:
            assert await task is None
    assert images.asked == [{b"first"}, {b"awaited"}, {b"%d" % n for n in range(4)}]


async def test_where_half_of_the_slots_wait_nothing_more_is_waited_for() -> None:
    """Or the rest would be all that is worked on meanwhile: with 32 slots, three gather with what comes later."""
    images = Images()
    images.gate.set()
    async with remembering(images, slots=6) as memory, asyncio.TaskGroup() as tasks:
        await memory.recall(b"first", is_awaited=False)
        for n in range(3):
            tasks.create_task(memory.recall(b"%d" % n, is_awaited=False))
        await memory.recall(b"awaited", is_awaited=True)
        assert {b"0", b"1", b"2"} in images.asked


async def test_with_fewer_slots_keys_gather_for_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the slots, a quarter of the time: of two keys that wait since the same moment one comes first."""
    monkeypatch.setattr(memory_module, "_PACE_OF_MANY_SECONDS", 4.0)
    images = Images()
    images.gate.set()
    async with remembering(images, slots=32) as many, remembering(images, slots=8) as few, asyncio.TaskGroup() as tasks:
        for memory in (many, few):
            await memory.recall(b"first", is_awaited=False)
        later = tasks.create_task(many.recall(b"many", is_awaited=False))
        sooner = tasks.create_task(few.recall(b"few", is_awaited=False))
        done, _ = await asyncio.wait({later, sooner}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {sooner}
        many.hurry(is_dry=True)


async def test_what_is_remembered_is_not_asked_for_again() -> None:
    """Neither what was found nor what was made here; what nobody has made is looked for each time."""
    images = Images(b"found")
    images.gate.set()
    async with remembering(images) as memory:
        memory.remember(output(b"made"))
        for key in (b"made", b"found", b"found", b"unknown", b"unknown"):
            answer = await memory.recall(key, is_awaited=True)
            assert (answer is None) == (key == b"unknown")
    assert images.asked == [{b"found"}, {b"unknown"}, {b"unknown"}]


async def test_one_that_no_longer_waits_for_its_answer_disturbs_nobody() -> None:
    """Cancelled while the query runs: who asked with it gets the answer."""
    images = Images(b"other")
    async with remembering(images) as memory, asyncio.TaskGroup() as tasks:
        leaves = tasks.create_task(memory.recall(b"leaves", is_awaited=True))
        other = tasks.create_task(memory.recall(b"other", is_awaited=True))
        await images.reached.wait()
        leaves.cancel()
        await asyncio.wait([leaves])
        images.gate.set()
        assert await other == output(b"other")


@pytest.mark.parametrize("end", ["made", "failed", "cancelled"])
async def test_the_same_bytes_wait_for_their_turn(end: str) -> None:
    """Whatever becomes of the first, the next goes on; one that gives up waiting takes nobody's turn."""
    images, entered, release = Images(), asyncio.Event(), asyncio.Event()
    images.gate.set()
    log: list[str] = []

    async def work(memory: Memory, name: str) -> None:
        async with memory.turn(b"same"):
            log.append(name)
            if await memory.recall(b"same", is_awaited=True) is None and name == "first":
                entered.set()
                await release.wait()
                if end == "failed":
                    raise ValueError(name)
                memory.remember(output(b"same"))
                return
        log.append(f"{name} out")

    async with remembering(images) as memory:
        first = asyncio.create_task(work(memory, "first"))
        await entered.wait()
        gives_up, second = (asyncio.create_task(work(memory, name)) for name in ("gives up", "second"))
        await work_of_another(memory)
        gives_up.cancel()
        await asyncio.wait([gives_up])
        assert log == ["first"]
        if end == "cancelled":
            first.cancel()
        release.set()
        await asyncio.gather(first, second, return_exceptions=True)
        assert log == ["first", "second", "second out"]
        assert (await memory.recall(b"same", is_awaited=True) is None) == (end != "made")


async def work_of_another(memory: Memory) -> None:
    """Other bytes have a turn of their own."""
    async with memory.turn(b"other"):
        assert await memory.recall(b"other", is_awaited=True) is None


async def test_a_key_says_all_that_an_output_depends_on() -> None:
    """Bytes and options, in whatever way these were given; not what the service lets in."""
    plain = await key_of(b"bytes", Options())
    assert await key_of(b"bytes", Options(quality=50, max_pixels=10)) == plain
    others = [
        await key_of(b"byteS", Options()),
        await key_of(b"bytes", Options(quality=51)),
        await key_of(b"bytes", Options(target_ratio=0.5)),
        await key_of(b"bytes", Options(format="webp")),
        await key_of(b"bytes" * 10**6, Options()),
    ]
    assert len({plain, *others}) == 6
    assert await key_of(b"bytes" * 10**6, Options()) == others[-1]
