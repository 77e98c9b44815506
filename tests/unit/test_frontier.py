"""Where claims begin."""

from services.watcher.frontier import Frontier


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


def test_claims_begin_at_the_lowest_rank_at_first_and_after_a_reset() -> None:
    """Without a claim there is nothing to start from."""
    frontier = Frontier()
    assert frontier.start() is None
    frontier.claimed(7)
    frontier.reset()
    assert frontier.start() is frontier.start(far=True) is None


def claiming(clock: Clock, ticks: int = 80) -> Frontier:
    """One to which sixteen claims a second were made, each ten ranks behind the one before."""
    frontier = Frontier(clock=clock)
    for tick in range(ticks):
        clock.now = tick / 16
        frontier.claimed(tick * 10)
    return frontier


def test_claims_begin_where_they_were_a_little_while_ago() -> None:
    """Ranks claimed longer ago than a quarter of a second are left behind, younger ones are not."""
    clock = Clock()
    frontier = claiming(clock)
    assert frontier.start(far=True) == (79 - 32) * 10
    assert frontier.start() == (79 - 4) * 10


def test_once_a_second_a_claim_begins_two_seconds_back() -> None:
    """And the others begin near."""
    clock = Clock()
    frontier = claiming(clock)
    starts = []
    for tick in range(80, 112):
        clock.now = tick / 16
        frontier.claimed(tick * 10)
        starts.append(tick - (frontier.start() or 0) / 10)
    assert sorted(starts) == [4] * 30 + [32] * 2
    assert starts.index(32) + 16 == 31 - starts[::-1].index(32)


def test_a_new_request_lowers_the_start_for_a_while() -> None:
    """A rank below the frontier is searched from by all claims at first, then by those that begin farther back."""
    clock = Clock()
    frontier = claiming(clock)
    frontier.lower(40)
    assert frontier.start() == 40
    for tick in range(80, 120):
        clock.now = tick / 16
        frontier.claimed(tick * 10)
        assert (frontier.start(far=True) == 40) is (tick - 79 < 33)
        assert (frontier.start() == 40) is (tick - 79 < 5)


def test_a_rank_above_the_frontier_does_not_move_it() -> None:
    """Only a lower rank is news."""
    clock = Clock()
    frontier = Frontier(clock=clock)
    frontier.claimed(500)
    frontier.lower(900)
    assert frontier.start() == frontier.start(far=True) == 500
