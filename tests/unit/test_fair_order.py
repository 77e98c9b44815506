"""The order in which requests share the slots, simulated: ranks as the product gives them, anything else at random."""

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from libs.documents.images import next_rank


class Image(NamedTuple):
    """An image in the order of claims: by rank, and of equal ranks the one that was inserted first."""

    rank: float
    inserted: int
    request: int


@dataclass(frozen=True, slots=True)
class Arrive:
    """A request of so many images is uploaded."""

    size: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A watcher claims so many images at most."""

    limit: int


@dataclass(frozen=True, slots=True)
class Finish:
    """An image ends, whichever: the one at this number, counted round."""

    number: int


Step: TypeAlias = Arrive | Claim | Finish


@dataclass(slots=True)
class Simulation:
    """Requests by the order of their arrival, slots, and the images in the order in which they were started."""

    slots: int
    pending: list[Image] = field(default_factory=list)
    processing: list[Image] = field(default_factory=list)
    started: list[Image] = field(default_factory=list)
    arrived_after: list[int] = field(default_factory=list)
    """How many images had been started when a request arrived."""
    sizes: list[int] = field(default_factory=list)
    inserted: int = 0

    def take(self, step: Step) -> None:
        """One step."""
        match step:
            case Arrive(size):
                self.arrive(size)
            case Claim(limit):
                self.claim(min(limit, self.slots - len(self.processing)))
            case Finish(number) if self.processing:
                self.processing.pop(number % len(self.processing))
            case _:
                """Nothing is running that could end."""

    def arrive(self, size: int) -> None:
        """Gives ranks as `Images.first_rank` and `Images.insert` do."""
        running = max((image.rank for image in self.processing), default=None)
        waiting = next((image.rank for image in self.pending if running is None or image.rank >= running), None)
        if waiting is None and self.pending:
            waiting = self.pending[0].rank
        first = next_rank(running, waiting)
        for position in range(size):
            insort(self.pending, Image(first + position, self.inserted, len(self.sizes)))
            self.inserted += 1
        self.arrived_after.append(len(self.started))
        self.sizes.append(size)

    def claim(self, count: int) -> None:
        """Starts the first."""
        taken, self.pending = self.pending[:count], self.pending[count:]
        self.processing += taken
        self.started += taken

    def run(self, steps: Sequence[Step]) -> None:
        """Takes the steps, and then works off what is left."""
        for step in steps:
            self.take(step)
        while self.pending:
            self.claim(self.slots - len(self.processing))
            self.processing.clear()

    def started_of(self, request: int) -> list[int]:
        """When the images of a request were started, as places in the order of all."""
        return [place for place, image in enumerate(self.started) if image.request == request]


STEPS = st.lists(
    st.builds(Arrive, st.one_of(st.integers(1, 3), st.integers(10, 60)))
    | st.builds(Claim, st.integers(1, 8))
    | st.builds(Finish, st.integers(0, 7)),
    min_size=5,
    max_size=120,
)


@given(slots=st.integers(1, 8), steps=STEPS)
def test_a_request_waits_for_no_more_of_another_than_it_has_itself(slots: int, steps: list[Step]) -> None:
    """From its arrival until its last image is started, at most its own number and one of each other are started."""
    simulation = Simulation(slots)
    simulation.run(steps)
    for request, size in enumerate(simulation.sizes):
        last = simulation.started_of(request)[-1]
        waited_for = simulation.started[simulation.arrived_after[request] : last]
        others = Counter(image.request for image in waited_for if image.request != request)
        assert all(count <= size + 1 for count in others.values()), (request, size, others)


@given(slots=st.integers(1, 8), steps=STEPS)
def test_an_older_request_keeps_its_share_of_a_stream_of_others(slots: int, steps: list[Step]) -> None:
    """Between two of its images, at most two of each other are started, and none of what arrived meanwhile."""
    simulation = Simulation(slots)
    simulation.run(steps)
    for request in range(len(simulation.sizes)):
        places = simulation.started_of(request)
        for place, following in pairwise(places):
            between = Counter(image.request for image in simulation.started[place + 1 : following])
            assert all(count <= 2 for count in between.values()), (request, between)
            assert all(simulation.arrived_after[other] <= place for other in between), (request, between)


def test_a_stream_of_small_requests_does_not_starve_an_older_one() -> None:
    """Two new images arrive for each that is started, for ever; the older request's go on all the same."""
    simulation = Simulation(slots=1)
    simulation.arrive(1000)
    for _ in range(500):
        simulation.take(Claim(1))
        simulation.take(Arrive(1))
        simulation.take(Arrive(1))
        simulation.take(Finish(0))
    assert len(simulation.started_of(0)) >= 5


def test_a_straggler_does_not_let_a_large_request_pass_an_older_one() -> None:
    """When all but one that hangs have just ended, a new request is not set back to where that one began."""
    simulation = Simulation(slots=2)
    simulation.arrive(100)
    simulation.take(Claim(2))
    for _ in range(60):
        simulation.take(Finish(1))
        simulation.take(Claim(1))
    simulation.take(Finish(1))
    simulation.arrive(50)
    for _ in range(40):
        simulation.take(Claim(1))
        simulation.take(Finish(1))
    assert len(simulation.started_of(0)) - 62 >= 20
