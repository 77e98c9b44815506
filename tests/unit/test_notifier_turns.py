import asyncio

import pytest

from services.notifier.turns import NoTurnError, Turns, endpoint_of


async def take(turns: Turns, endpoint: str, end: asyncio.Event, started: asyncio.Queue[str]) -> None:
    """Holds a turn until the event, saying when it has begun."""
    async with turns.taken(endpoint):
        started.put_nowait(endpoint)
        await end.wait()


async def test_an_endpoint_that_hangs_is_not_waited_for() -> None:
    """With its share taken it is refused at once, while others get their turns."""
    turns = Turns(2, patience_seconds=0)
    end, started = asyncio.Event(), asyncio.Queue[str]()
    async with asyncio.TaskGroup() as tasks:
        for endpoint in ("hangs", "hangs", "answers"):
            tasks.create_task(take(turns, endpoint, end, started))
        for _ in range(3):
            await started.get()
        with pytest.raises(NoTurnError) as refused:
            async with turns.taken("hangs"):
                pytest.fail("there was a third turn")
        async with turns.taken("answers"):
            end.set()
    assert refused.value.full_seconds > 0


async def test_an_endpoint_that_answers_is_waited_for() -> None:
    """The next attempt starts when one ends, in their order."""
    turns = Turns(1, patience_seconds=60)
    ends, started = [asyncio.Event() for _ in range(3)], asyncio.Queue[str]()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(take(turns, "answers", end, started)) for end in ends]
        for task, end in zip(running, ends, strict=True):
            await started.get()
            assert started.empty()
            end.set()
            await task


async def test_waiting_ends_when_no_turn_comes() -> None:
    """Patience has an end, after which the endpoint counts as one that hangs."""
    turns = Turns(1, patience_seconds=0.02)
    async with turns.taken("a"):
        for _ in range(2):
            with pytest.raises(NoTurnError):
                async with turns.taken("a"):
                    pytest.fail("there was a second turn")
    async with turns.taken("a"):
        pass


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://Shop.example/hook?a=1", "shop.example"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("http://[", "http://["),
        ("nonsense", "nonsense"),
    ],
)
def test_an_endpoint_is_what_a_url_connects_to(url: str, endpoint: str) -> None:
    """Host and port, whatever the path; a URL without them stands for itself."""
    assert endpoint_of(url) == endpoint
