"""How claimers keep out of each other's way."""

from libs.leases import Spread


def test_documents_are_claimed_in_order_while_nobody_else_claims() -> None:
    """The front is the claim itself."""
    spread = Spread()
    front = [{"_id": number} for number in range(8)]
    assert spread.front(8) == 8
    assert spread.pick(front, 8) == front


def test_the_front_grows_while_most_is_lost_to_others_and_shrinks_again() -> None:
    """Twice as wide after each such claim up to its bound, and one claim narrower after each that got all."""
    spread = Spread(most=4)
    widths = []
    for got in (0, 4, 3, 8, 8, 5, 8, 8, 8):
        spread.learn(8, got)
        widths.append(spread.front(8))
    assert widths == [16, 32, 32, 24, 16, 16, 8, 8, 8]


def test_claims_of_one_document_are_judged_by_the_eight() -> None:
    """Half of them lost widens the front once; fewer leave it as it is, and none narrows it."""
    spread = Spread()
    widths = []
    for got in (4, 5, 8):
        for number in range(8):
            spread.learn(1, int(number < got))
        widths.append(spread.front(1))
    assert widths == [2, 2, 1]


def test_a_claim_takes_different_documents_of_a_wide_front_in_their_order() -> None:
    """As many as were asked for; not always the same."""
    spread = Spread()
    front = [{"_id": number} for number in range(64)]
    picks = [[document["_id"] for document in spread.pick(front, 8)] for _ in range(20)]
    assert all(pick == sorted(set(pick)) and len(pick) == 8 for pick in picks)
    assert len({tuple(pick) for pick in picks}) > 1


def test_what_was_found_beside_a_claim_is_claimed_next_for_a_while() -> None:
    """The documents behind those that were claimed come back in their order, each once, until they are too old."""
    now = 0.0
    spread = Spread(ahead=3, clock=lambda: now)
    front = [{"_id": number} for number in range(4)]
    assert spread.front(1) == 4
    assert spread.recall() == []
    assert spread.pick(front, 1) == front[:1]
    assert spread.recall() == front[1:]
    assert spread.pick(spread.recall(), 2) == front[1:3]
    now = 0.2
    assert spread.recall() == front[3:]
    now = 0.3
    assert spread.recall() == []


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
