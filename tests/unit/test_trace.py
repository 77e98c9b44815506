"""W3C trace context."""

import pytest

from libs.runtime.trace import accept, child_of, trace_id

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_valid_traceparent_is_continued() -> None:
    """The child keeps trace id and flags and has a parent id of its own."""
    version, trace, parent, flags = accept(PARENT).split("-")
    assert (version, trace, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert parent != "b7ad6b7169203331"
    assert trace_id(child_of(PARENT)) == trace


@pytest.mark.parametrize(
    "header",
    [None, "", "junk", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-" + PARENT[3:], PARENT.upper()],
)
def test_what_is_not_valid_starts_a_new_trace(header: str | None) -> None:
    """Nothing invalid is passed on, and two new traces differ."""
    first, second = accept(header), accept(header)
    assert trace_id(first) != trace_id(second)
    assert len(first) == 55
    assert int(trace_id(first), 16) > 0
