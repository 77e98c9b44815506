import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.documents import NewImage
from libs.egress import EgressPolicy
from services.ingest.catalogue import Catalogue, CellProblem, InvalidCatalogueError
from services.ingest.plain import PlainRun
from services.ingest.spool import Spool
from tests.unit.catalogues import HEADER, read

ROW = "7,Red disk,https://a.example/a.jpg\n"
# Rows of one URL, plain and nearly so; a lone character may stand for any of their parts.
_ODD = st.sampled_from([*"\"',;\t\r\n ?#%@:/\\^0é\x0b\u2028\x7f", "", '""', "\r\n"])
_SERIALS = st.sampled_from(["1", "007", " 1", "+1", "-3", "1 ", "x", "9" * 18, "9" * 19]) | _ODD
_NAMES = st.sampled_from(["", "SKU", " red disk ", 'a "b"', '"a, b"', "n" * 1_000, "n" * 1_001, "=1+1"]) | _ODD
_ORIGINS = st.sampled_from(
    [
        *(
            "https://a.example",
            "http://A.example:80",
            "https://a.example:443",
            "https://a.example.",
            "https://b.example:1",
        ),
        *(
            "HTTPS://a.example",
            "http://127.0.0.1",
            "http://10.1",
            "http://localhost",
            "https://a..example",
            "http://1:0",
        ),
        *("https://user@a.example", "https://bücher.example", "http://[::1]", "https://a_b.example", "ftp://a.example"),
    ]
)
_PATHS = st.sampled_from(
    [
        "/a.jpg",
        "/",
        "",
        "?",
        "/?",
        "/a?b=c&d",
        "/a?b?",
        "/a#b",
        "/a%20b",
        "/w_2,h_3/a",
        "/a;b",
        "/a b",
        "/ä",
        "/a,https://b.example/",
    ]
) | st.builds("/{}".format, _ODD)
_LINES = st.builds(
    "{},{},{}{}{}".format, _SERIALS, _NAMES, _ORIGINS, _PATHS, st.sampled_from(["\n", "\r\n", "\r", ",\n", " \n"])
)
_FILES = st.lists(st.just(ROW) | _LINES, min_size=1, max_size=12).map("".join)


def outcome(data: str, chunk: int) -> list[NewImage] | tuple[str, list[CellProblem]]:
    """The images of a file, or why it is refused."""
    with Spool() as spool:
        try:
            read(Catalogue(EgressPolicy(), spool, max_images=1_000), data, chunk)
        except InvalidCatalogueError as error:
            return error.code, error.problems
        return [image for batch in spool.batches() for image in batch]


@settings(max_examples=400, deadline=None)
@given(rows=_FILES, delimiter=st.sampled_from(",;\t"))
def test_rows_read_together_are_read_as_one_by_one(rows: str, delimiter: str) -> None:
    """Images, aliases and problems are the same when no chunk holds a whole row, so that all go by the csv module."""
    data = (HEADER + rows).replace(",", delimiter)

    assert outcome(data, 1 << 18) == outcome(data, 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_run_of_plain_rows_ends_before_any_other(delimiter: str, newline: str) -> None:
    """Whatever the delimiter and line ends, a thousand rows are found at once, and no part of one that has not come."""
    rows = (ROW * 1_000).replace(",", delimiter).replace("\n", newline)
    run = PlainRun(delimiter)

    assert run.end(rows, 0) == len(rows)
    assert run.end(f"{rows}{ROW[:-1]}", 0) == len(rows)
    assert run.end(f"{rows}1{delimiter}a{delimiter}ftp://a.example/{newline}{rows}", 0) == len(rows)
    assert run.rows(rows[: len(rows) // 1_000]) == (
        [7],
        ["Red disk"],
        ["https://a.example/a.jpg"],
        ["https://a.example"],
    )


def test_plain_rows_between_others_keep_their_lines() -> None:
    """A problem behind them is told with its line, also where a name in between has several."""
    problems = outcome(f'{HEADER}{ROW * 5}8,"a\nb",https://a.example/\n{ROW * 3}x,SKU,https://a.example/\n', 1 << 18)

    assert problems == ("invalid_csv", [CellProblem(12, 1, "“x” is not an integer")])


def test_a_refused_host_among_plain_rows_is_told_with_its_line() -> None:
    """As are those behind it."""
    bad = ROW.replace("a.example", "10.0.0.1")
    problems = outcome(f"{HEADER}{ROW * 3}{bad}{ROW}{bad}", 1 << 18)

    assert isinstance(problems, tuple)
    assert [(problem.line, problem.column) for problem in problems[1]] == [(5, 3), (7, 3)]
