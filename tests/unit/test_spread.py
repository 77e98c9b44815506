"""How claimers keep out of each other's way."""

from collections import Counter

from libs.leases import Spread
from libs.leases.spread import Window


def test_documents_are_claimed_in_order_while_nobody_else_claims() -> None:
    """The window is the front, which is the claim itself."""
    assert {Spread().window(8) for _ in range(20)} == {Window(8, skip=0, size=8)}


def test_the_front_grows_while_some_is_lost_to_others_and_shrinks_again() -> None:
    """Twice as wide after each such claim up to its bound, and one claim narrower after each that got all."""
    spread = Spread(most=4)
    widths = []
    for got in (0, 7, 3, 8, 8, 7, 8, 8, 8, 8):
        spread.learn(8, got)
        widths.append(_width(spread, 8))
    assert widths == [16, 32, 32, 24, 16, 32, 24, 16, 8, 8]


def test_less_than_an_eighth_lost_leaves_the_front_as_it_is() -> None:
    """As a wider one would cost more than that."""
    spread = Spread()
    spread.learn(8, 7)
    spread.learn(16, 15)
    assert _width(spread, 8) == 16


def test_claims_of_one_document_are_judged_by_the_eight() -> None:
    """One of them lost widens the front once, and none narrows it."""
    spread = Spread()
    widths = []
    for got in (7, 8):
        for number in range(8):
            spread.learn(1, int(number < got))
        widths.append(_width(spread, 1))
    assert widths == [2, 1]


def test_windows_are_all_over_a_wide_front_and_leave_its_first_document_to_nobody_less() -> None:
    """Of a front of four claims the first document is in a quarter of the windows, as is one in its middle."""
    spread = Spread()
    for _ in range(2):
        spread.learn(8, 0)
    windows = [spread.window(8) for _ in range(4000)]
    seen = Counter(number for window in windows for number in range(window.skip, window.skip + window.size))
    assert set(seen) == set(range(32))
    assert min(seen[number] for number in range(24)) > 0.8 * 1000


def test_what_was_found_beside_a_claim_is_claimed_next_for_a_while() -> None:
    """The documents behind those that were claimed come back in their order, each once, until they are too old."""
    now = 0.0
    spread = Spread(ahead=3, clock=lambda: now)
    front = [{"_id": number} for number in range(4)]
    assert spread.window(1) == Window(1, skip=0, size=4)
    assert spread.recall(1) == []
    assert spread.pick(front, 1) == front[:1]
    assert spread.recall(3) == front[1:]
    assert spread.recall(4) == []  # a claim of more looks for more
    assert spread.pick(spread.recall(2), 2) == front[1:3]
    now = 0.2
    assert spread.recall(1) == front[3:]
    now = 0.3
    assert spread.recall(1) == []


def test_a_claim_of_which_shares_let_in_a_part_is_followed_by_one_for_little_more() -> None:
    """Or most of a wide front would be read in vain; once all are let in, as many are claimed as are asked for."""
    spread = Spread()
    spread.let_in(32, 8)
    assert spread.limit(32) == 32  # nobody else claims
    spread.learn(8, 0)
    assert (spread.limit(32), spread.limit(4)) == (11, 4)
    spread.let_in(11, 0)
    assert spread.limit(32) == 1
    spread.let_in(1, 1)
    assert spread.limit(32) == 32


def _width(spread: Spread, limit: int) -> int:
    """How much of the queue claims of `limit` look at, taken together."""
    return max(window.skip + window.size for window in (spread.window(limit) for _ in range(500)))
