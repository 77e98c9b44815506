"""Who gets the next slot."""

import asyncio
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libs.imaging.rota import Rota


async def test_a_small_flow_waits_for_one_slot_and_not_behind_a_queue() -> None:
    """The only piece of another flow is next, though many came before it."""
    rota, order = Rota(1), []
    gates = {name: asyncio.Event() for name in ("first", "second", "small")}

    async def work(flow: str, name: str) -> None:
        async with rota.slot(flow):
            order.append(name)
            await gates[name].wait()

    async with asyncio.TaskGroup() as tasks:
        for flow, name in (("large", "first"), ("large", "second"), ("another", "small")):
            tasks.create_task(work(flow, name))
            await asyncio.sleep(0)
        for gate in gates.values():
            gate.set()
    assert order == ["first", "small", "second"]


async def test_flows_that_come_later_do_not_keep_an_old_one_from_its_turn() -> None:
    """Where three new flows are always waiting, each gets in before the old one twice at the most."""
    rota, order = Rota(1), []

    async def work(flow: str) -> None:
        async with rota.slot(flow):
            order.append(flow)
            await asyncio.sleep(0)

    async def new_flows(chain: int) -> None:
        for number in range(30):
            await work(f"{chain}/{number}")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(work("old"))
        for chain in range(3):
            tasks.create_task(new_flows(chain))
    turns = [index for index, flow in enumerate(order) if flow == "old"]
    assert len(turns) == 10
    assert all(after - before <= 7 for before, after in pairwise(turns))


async def test_work_that_takes_several_slots_waits_for_one_and_makes_up_for_the_others() -> None:
    """Nobody is served before so many were given back."""
    rota, served = Rota(2), []
    gates = {name: asyncio.Event() for name in ("one", "another", "large", "last")}

    async def work(name: str, slots: int) -> None:
        async with rota.slot(name, slots):
            served.append(name)
            await gates[name].wait()

    async with asyncio.TaskGroup() as tasks:
        for name, slots in (("one", 1), ("another", 1), ("large", 2), ("last", 1)):
            tasks.create_task(work(name, slots))
            await asyncio.sleep(0)
        assert served == ["one", "another"]
        for name, expected in (("one", ["large"]), ("another", []), ("large", ["last"])):
            served.clear()
            gates[name].set()
            for _ in range(4):
                await asyncio.sleep(0)
            assert served == expected, name
        gates["last"].set()


@given(
    slots=st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "give", "cancel"])), max_size=60),
)
def test_slots_are_never_overdrawn_lost_or_withheld(slots: int, steps: list[tuple[str, str]]) -> None:
    """Whatever is taken, given back and cancelled: no more are in use than there are, and none is free while one waits.

    A slot that comes free goes to one of the flows that had fewest.
    """

    async def run() -> None:
        rota = Rota(slots)
        held: list[tuple[str, asyncio.Event, asyncio.Task[None]]] = []
        waiting: list[tuple[str, asyncio.Event, asyncio.Task[None]]] = []

        async def work(flow: str, gate: asyncio.Event, entered: asyncio.Event) -> None:
            async with rota.slot(flow):
                entered.set()
                await gate.wait()

        entered_of: dict[asyncio.Task[None], asyncio.Event] = {}
        async with asyncio.TaskGroup() as tasks:
            for flow, step in steps:
                mine = [one for one in held if one[0] == flow]
                queued = [one for one in waiting if one[0] == flow]
                before = Counter(one[0] for one in held)
                if step == "take":
                    gate, entered = asyncio.Event(), asyncio.Event()
                    task = tasks.create_task(work(flow, gate, entered))
                    entered_of[task] = entered
                    waiting.append((flow, gate, task))
                elif step == "give" and mine:
                    mine[0][1].set()
                    held.remove(mine[0])
                    before[flow] -= 1
                elif step == "cancel" and queued:
                    queued[0][2].cancel()
                    waiting.remove(queued[0])
                for _ in range(4):
                    await asyncio.sleep(0)
                came = [one for one in waiting if entered_of[one[2]].is_set()]
                if step == "give" and came:
                    assert before[came[0][0]] == min(before[one[0]] for one in waiting)
                held += came
                waiting = [one for one in waiting if one not in came]
                assert len(held) <= slots
                assert not waiting or len(held) == slots
            for _, gate, _ in held + waiting:
                gate.set()

    asyncio.run(run())
