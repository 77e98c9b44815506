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
    assert frontier.start is None
    frontier.claimed(7)
    frontier.reset()
    assert frontier.start is None


def test_claims_begin_where_they_were_a_little_while_ago() -> None:
    """Ranks claimed longer ago than the look-back are left behind, younger ones are not."""
    clock = Clock()
    frontier = Frontier(look_back_seconds=2, clock=clock)
    for second in range(10):
        clock.now = float(second)
        frontier.claimed(second * 100)
    assert frontier.start == 700


def test_a_new_request_lowers_the_start_until_the_look_back_has_passed() -> None:
    """A rank below the frontier is searched from, as long as the look-back, and then no more."""
    clock = Clock()
    frontier = Frontier(look_back_seconds=2, clock=clock)
    frontier.claimed(500)
    frontier.lower(40)
    assert frontier.start == 40
    clock.now = 3
    frontier.claimed(600)
    clock.now = 6
    frontier.claimed(700)
    assert frontier.start is not None
    assert frontier.start >= 500


def test_a_rank_above_the_frontier_does_not_move_it() -> None:
    """Only a lower rank is news."""
    frontier = Frontier()
    frontier.claimed(500)
    frontier.lower(900)
    assert frontier.start == 500
