import asyncio
from collections import deque

from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.imaging.budget import Budget

SIZE = 10

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "leave", "cancel"]),
        st.integers(1, SIZE + 3),  # how much is wanted, or who leaves
        st.integers(0, 2),  # how far the loop gets before the next step
    ),
    max_size=30,
)


class Crowd:
    """Tasks that share a budget, and beside it who ought to be at work by the rule: first come, first served."""

    def __init__(self) -> None:
        self.budget = Budget(SIZE)
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.leaving: dict[int, asyncio.Event] = {}
        self.at_work: dict[int, int] = {}
        self.expected: dict[int, int] = {}
        self.queue: deque[tuple[int, int]] = deque()

    def come(self, amount: int) -> None:
        """One more that wants `amount`."""
        number = len(self.tasks)
        self.leaving[number] = asyncio.Event()
        self.tasks[number] = asyncio.create_task(self._work(number, amount), name=f"task {number}")
        self.queue.append((number, min(amount, SIZE)))
        self._admit()

    def leave(self, which: int) -> None:
        """One of those at work is done."""
        if self.expected:
            number = list(self.expected)[which % len(self.expected)]
            self.leaving[number].set()
            del self.expected[number]
            self._admit()

    def cancel(self, which: int) -> None:
        """One of those that work or wait is cancelled."""
        numbers = [*self.expected, *(number for number, _ in self.queue)]
        if numbers:
            number = numbers[which % len(numbers)]
            self.tasks[number].cancel()
            self.expected.pop(number, None)
            self.queue = deque(entry for entry in self.queue if entry[0] != number)
            self._admit()

    async def _work(self, number: int, amount: int) -> None:
        async with self.budget.share(amount):
            self.at_work[number] = min(amount, SIZE)
            assert sum(self.at_work.values()) <= self.budget.taken <= SIZE
            try:
                await self.leaving[number].wait()
            finally:
                del self.at_work[number]

    def _admit(self) -> None:
        while self.queue and sum(self.expected.values()) + self.queue[0][1] <= SIZE:
            number, amount = self.queue.popleft()
            self.expected[number] = amount


async def settled() -> None:
    """Lets the loop turn until all that could go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


@given(STEPS)
@example([("come", 10, 2), ("come", 10, 2), ("leave", 0, 1), ("cancel", 0, 0)])  # as its turn comes
@example([("come", 6, 2), ("come", 6, 2), ("come", 4, 2), ("cancel", 1, 2)])  # the first, for which another waits
@settings(max_examples=400, deadline=None)
async def test_whoever_comes_first_is_served_first_and_never_more_than_there_is(
    steps: list[tuple[str, int, int]],
) -> None:
    """Whatever comes, leaves and is cancelled in whichever moment, those at work are those that the rule says."""
    crowd = Crowd()
    for what, number, turns in steps:
        getattr(crowd, what)(number)
        for _ in range(turns):
            await asyncio.sleep(0)
    await settled()
    assert crowd.at_work == crowd.expected
    assert crowd.budget.taken == sum(crowd.expected.values())
    while crowd.expected:
        crowd.leave(0)
        await settled()
        assert crowd.at_work == crowd.expected
    outcomes = await asyncio.gather(*crowd.tasks.values(), return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert crowd.budget.taken == 0


async def test_a_large_one_is_not_passed_by_small_ones_that_would_fit() -> None:
    """Nor does it have to be small itself: what is more than the whole is alone."""
    crowd = Crowd()
    for amount in (3, SIZE + 5, 1, 1):
        crowd.come(amount)
    await settled()
    assert list(crowd.at_work) == [0]
    crowd.leave(0)
    await settled()
    assert list(crowd.at_work) == [1]
    crowd.leave(0)
    await settled()
    assert list(crowd.at_work) == [2, 3]
    crowd.leave(0)
    crowd.leave(0)
    await asyncio.gather(*crowd.tasks.values())
