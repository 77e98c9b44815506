from hypothesis import given
from hypothesis import strategies as st

from services.ingest.repeats import Repeat, Repeats


def found(*batches: list[str]) -> list[Repeat]:
    """What repeats in these, in the order of their positions; each text's own occurrences come in it."""
    repeats = Repeats()
    for batch in batches:
        repeats.add(batch)
    given, last = list(repeats.found()), dict[int, int]()
    for one in given:
        assert last.get(one.first, -1) < one.position
        last[one.first] = one.position
    return sorted(given)


@given(st.lists(st.lists(st.sampled_from("abcdefgh")), max_size=5))
def test_all_occurrences_of_what_repeats_are_found(batches: list[list[str]]) -> None:
    """Each with its first one, which alone says how many copies it has; what stands once is not told."""
    texts = [text for batch in batches for text in batch]
    expected = []
    for position, text in enumerate(texts):
        first, copies = texts.index(text), texts.count(text) - 1
        if copies:
            expected.append(Repeat(position, first, copies if first == position else 0))

    assert found(*batches) == expected


def test_repeats_are_found_among_more_than_are_compared_at_a_time() -> None:
    """However far they stand from each other."""
    texts = [str(number) for number in range(600_000)]

    assert found(texts, ["0", "599999"]) == [(0, 0, 1), (599_999, 599_999, 1), (600_000, 0, 0), (600_001, 599_999, 0)]
