"""How work gathers into batches."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from libs.runtime.batches import Batches


async def test_while_one_batch_is_under_way_the_next_one_gathers() -> None:
    """The first goes alone, those that come meanwhile go together; each gets its own result, in order."""
    done: list[list[int]] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    async def work(items: Sequence[int]) -> list[int]:
        done.append(list(items))
        begun.set()
        await gate.wait()
        return [-item for item in items]

    batches: Batches[int, int] = Batches(work, most=3)
    async with batches.running("test"), asyncio.TaskGroup() as tasks:
        results = [tasks.create_task(batches.result(0))]
        await begun.wait()
        results += [tasks.create_task(batches.result(number)) for number in range(1, 6)]
        await asyncio.sleep(0)
        gate.set()
    assert done == [[0], [1, 2, 3], [4, 5]]
    assert [task.result() for task in results] == [0, -1, -2, -3, -4, -5]


async def test_a_paced_batch_begins_early_when_half_of_the_most_have_gathered() -> None:
    """Within an hour's pace they do not wait."""
    done, batches = paced(3600)
    async with asyncio.timeout(60), batches.running("test"):
        await batches.result(0)  # the first has none before it
        await asyncio.gather(*(batches.result(number) for number in range(4)))
    assert done == [[0], [0, 1, 2, 3]]


async def test_what_has_gathered_begins_at_once_when_the_pace_is_shortened() -> None:
    """And what comes then waits for no longer than the new pace."""
    done, batches = paced(3600)
    async with asyncio.timeout(60), batches.running("test"), asyncio.TaskGroup() as tasks:
        await batches.result(0)
        waiting = tasks.create_task(batches.result(1))
        await asyncio.sleep(0)
        batches.pace(0.05)
        await waiting
        await batches.result(2)
    assert done == [[0], [1], [2]]


async def test_a_paced_batch_begins_when_its_time_has_come() -> None:
    """Nothing has to come for that."""
    done, batches = paced(0.05)
    async with batches.running("test"):
        await batches.result(0)
        await asyncio.gather(batches.result(1), batches.result(2))
    assert done == [[0], [1, 2]]


async def test_what_is_lent_gets_its_results_from_the_borrower() -> None:
    """While it lingers; it is not worked on then."""
    done, batches = lingering(3600)
    async with asyncio.timeout(60), batches.running("test"), asyncio.TaskGroup() as tasks:
        results = [tasks.create_task(batches.result(number)) for number in range(3)]
        await asyncio.sleep(0.05)
        with batches.lent(3) as lent:
            assert lent.items == [0, 1, 2]
            lent.results = [-number for number in lent.items]
    assert [task.result() for task in results] == [0, -1, -2]
    assert done == []


async def test_more_than_are_asked_for_are_not_lent() -> None:
    """They are worth a batch of their own."""
    _, batches = lingering(3600)
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(batches.result(number)) for number in range(3)]
        await asyncio.sleep(0)
        with batches.lent(2) as lent:
            assert lent.items == []
        for task in waiting:
            task.cancel()


@pytest.mark.parametrize("raises", [False, True])
async def test_what_comes_back_without_results_is_worked_on_before_what_came_since(raises: bool) -> None:
    """Whether the borrower raised or not."""
    done, batches = lingering(0.2)
    async with asyncio.timeout(60), batches.running("test"), asyncio.TaskGroup() as tasks:
        results = [tasks.create_task(batches.result(number)) for number in range(2)]
        await asyncio.sleep(0)
        with suppress(ValueError), batches.lent(8) as lent:
            results.append(tasks.create_task(batches.result(2)))
            await asyncio.sleep(0.01)
            assert lent.items == [0, 1]
            if raises:
                raise ValueError
    assert done == [[0, 1, 2]]
    assert [task.result() for task in results] == [0, 1, 2]


async def test_what_comes_back_has_not_begun_to_wait_anew() -> None:
    """Whatever came while it was lent, and however often it is: a quarter of a second is all it waits."""
    done, batches = lingering(0.25)
    async with asyncio.timeout(60), batches.running("test"), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(batches.result(0))
        for number in range(1, 60):
            await asyncio.sleep(0.05)
            if first.done():
                break
            with batches.lent(8):
                tasks.create_task(batches.result(number))
                await asyncio.sleep(0)
    assert done[0][0] == 0
    assert len(done[0]) < 8


async def test_what_nobody_borrows_is_worked_on_when_its_time_has_come() -> None:
    """Half of the most are not left to wait."""
    done, batches = lingering(0.05)
    async with asyncio.timeout(60), batches.running("test"):
        await asyncio.gather(batches.result(0), batches.result(1))
    assert done == [[0, 1]]
    done, batches = lingering(3600)
    async with asyncio.timeout(60), batches.running("test"):
        await asyncio.gather(*(batches.result(number) for number in range(4)))
    assert done == [[0, 1, 2, 3]]


async def test_what_comes_behind_what_was_lent_lingers_for_as_long() -> None:
    """The first began to wait long before; the second is to be lent too."""
    done, batches = lingering(1.0)
    async with asyncio.timeout(60), batches.running("test"), asyncio.TaskGroup() as tasks:
        for number in range(3):
            waiting = tasks.create_task(batches.result(number))
            await asyncio.sleep(0.4)
            with batches.lent(8) as lent:
                lent.results = lent.items
            assert await waiting == number
    assert done == []


def paced(seconds: float) -> tuple[list[list[int]], Batches[int, int]]:
    """Batches of at most eight that give back what they get, and what they were."""
    return _noted(pace_seconds=seconds)


def lingering(seconds: float) -> tuple[list[list[int]], Batches[int, int]]:
    """Likewise, with time for being lent."""
    return _noted(linger_seconds=seconds)


def _noted(**given: float) -> tuple[list[list[int]], Batches[int, int]]:
    done: list[list[int]] = []

    async def work(items: Sequence[int]) -> Sequence[int]:
        done.append(list(items))
        return items

    return done, Batches(work, most=8, **given)
