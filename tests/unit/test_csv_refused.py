import codecs
from collections.abc import Iterator

import pytest

from libs.egress import EgressPolicy
from services.ingest.catalogue import Catalogue, CellProblem, InvalidCatalogueError, TooManyImagesError
from services.ingest.lines import LONGEST_RECORD, MOST_PARTS
from services.ingest.spool import Spool
from tests.unit.catalogues import HEADER, only_problem, read, refusal_of, rows_of

URL = "https://a.example/a.jpg"
GOOD = f"1,SKU1,{URL}\n"


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        (f"one,SKU,{URL}", 1, "not an integer"),
        (f"1.5,SKU,{URL}", 1, "not an integer"),
        (f",SKU,{URL}", 1, "not an integer"),
        (f"٣,SKU,{URL}", 1, "not an integer"),
        (f"9223372036854775808,SKU,{URL}", 1, "not an integer"),
        ("2,SKU", None, "the row has 2 of the 3 columns"),
        ("2", None, "the row has 1 of the 3 columns"),
        ("2,SKU,", 3, "the URL cell is empty"),
        ("2,SKU,,,", 3, "the URL cell is empty"),
        ('2,SKU," "', 3, "the URL cell is empty"),
        (f"2,SKU,,{URL}", 3, "the URL cell is empty"),
        (f"2,SKU,{URL},,{URL}", 4, "the URL cell is empty"),
        (f"2,SKU,{URL}/{'a' * 8000}", 3, "longer than 8,000 characters"),
        (f"2,SKU,{URL}/{'a' * 80000}", 3, "longer than 8,000 characters"),
        ("2,SKU,https://a.example/a b.jpg", 3, "a space stands inside"),
        ("2,SKU,https://a.example/a\u00a0b.jpg", 3, "a space stands inside"),
        ("2,SKU,https://a.example/a\tb.jpg", 3, "a space stands inside"),
        ("2,SKU,https://a.example/a\x7fb.jpg", 3, "no URL may have (U+007F)"),
        ("2,SKU,https://a.example/w_200, h_300/a.jpg", 3, "a space or a quote"),
        ("2,SKU,https://a.example/w_200 ,h_300/a.jpg", 3, "a space stands inside"),
        ('2,SKU,"https://a.example/w_200","h_300/a.jpg"', 3, "a space or a quote"),
        (f"2,SKU,{URL}, ftp://a.example/a.jpg", 3, "a space or a quote"),
        (f'2,SKU,"{URL}","ftp://a.example/a.jpg"', 3, "a space or a quote"),
        (f'2,SKU,{URL},"{URL},{URL} "x', 4, "a space stands inside"),
        (f"2,SKU,{URL} {URL}", 3, "a space stands inside"),
        ("2,SKU,ftp://a.example/a.jpg", 3, "ftp"),
        ("2,SKU,file:///etc/passwd", 3, "file"),
        ("2,SKU,data:image/png;base64,AAAA", 3, "data"),
        (f"2,SKU,ftp://a.example/a.jpg,{URL}", 3, "ftp"),
        (f'2,SKU,"{URL}, file:///etc/passwd"', 3, "file"),
        ("2,SKU,a.example/a.jpg", 3, "http://"),
        ("2,SKU,https://user:pass@a.example/a.jpg", 3, "password"),
        (f"2,SKU,{URL},http://127.0.0.1/a.jpg", 4, "DARKROOM_EGRESS_ALLOW"),
        ("2,SKU,http://[::ffff:169.254.169.254]/a.jpg", 3, "DARKROOM_EGRESS_ALLOW"),
        ("2,SKU,http://localhost./a.jpg", 3, "DARKROOM_EGRESS_ALLOW"),
        (f"2,{'n' * 1001},{URL}", 2, "longer than 1,000 characters"),
        (f'2,SKU,"{URL}', 3, "never closed"),
    ],
)
@pytest.mark.parametrize("chunk", [3, 1 << 18])
def test_a_bad_row_is_told_with_its_line_and_column(row: str, column: int | None, words: str, chunk: int) -> None:
    """The problem names the line where the row starts, the cell, and what is wrong."""
    problem = only_problem(f'{HEADER}1,"a\nb",{URL}\n{row}', chunk=chunk)

    assert (problem.line, problem.column) == (4, column)
    assert words in problem.detail


@pytest.mark.parametrize(
    "row",
    [
        "1,SKU,https://user:hush@a.example/a.jpg",
        "1,SKU,HTTPS:\\\\user:hush@a.example/a.jpg",
        "1,SKU,ftp://user:hush@a.example/a.jpg",
        "1,SKU,user:hush@a.example/a.jpg",
        "1,SKU,https://user:hush@a.example/a b.jpg",
        "1,SKU,https://us@er:hush@a.example/a.jpg",
        "1,SKU,https://user:hush/hush@a.example/a.jpg",
        "1,SKU,https://user:hush#hush@a.example/a.jpg",
        "1,SKU,https://user:hush%40a.example/***@a.example/a",
        "1,SKU,(https://user:hush@a.example/a.jpg",
        "1,SKU,https: //user:hush@a.example/a.jpg",
        f"1,SKU,https://user:{'hush' * 3000}@a.example/a.jpg",
        "https://user:hush@a.example/a.jpg,SKU,https://a.example/a.jpg",
    ],
)
def test_what_is_told_of_a_bad_url_has_no_password(row: str) -> None:
    """It goes to the log as well."""
    problem = only_problem(f"{HEADER}{row}\n")
    assert "hush" not in problem.detail
    assert "***@a.example/a" in problem.detail


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (f"{HEADER}{GOOD}2,caf\xe9,{URL}\n".encode("latin-1"), 3, "0xE9 is not valid UTF-8"),
        (f"{HEADER}{GOOD}2,caf\xe9".encode("latin-1"), 3, "0xE9 is not valid UTF-8"),
        (f"{HEADER}{GOOD}2,SK\0U,{URL}\n".encode(), 3, "NUL character"),
        (f"{HEADER}{GOOD}".encode("utf-16") + b"\x41", 3, "not valid UTF-16"),
        (f"{HEADER}{GOOD}".encode("utf-32"), 1, "UTF-32"),
        (f"{HEADER}{GOOD}".encode("utf-16-le"), 1, "NUL character"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), 1, "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(100), 1, "a JPEG image"),
        (b"PK\x03\x04" + bytes(100), 1, "a ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), 1, "an old .xls workbook"),
        (b"GIF89a" + bytes(100), 1, "a GIF image"),
        (b"RIFF\x00\x01\x00\x00WEBP" + bytes(100), 1, "a RIFF file, perhaps a WebP image"),
        (b"%PDF-1.7\n" + bytes(100), 1, "a PDF document"),
        (b"\x1f\x8b\x08\x00" + bytes(100), 1, "a gzip archive"),
        (codecs.BOM_UTF32_LE + f"{HEADER}{GOOD}".encode("utf-32-le"), 1, "UTF-32 text"),
        (codecs.BOM_UTF32_BE + f"{HEADER}{GOOD}".encode("utf-32-be"), 1, "UTF-32 text"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1 << 18])
def test_what_is_no_text_is_refused_with_what_was_found(data: bytes, line: int, words: str, chunk: int) -> None:
    """Another encoding, NUL bytes, images and archives are told by the line and what they are."""
    problem = only_problem(data, chunk=chunk)

    assert (problem.line, problem.column) == (line, None)
    assert words in problem.detail


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n  \n",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        HEADER.encode(),
        f"{HEADER}\n,,\n".encode(),
        f"{HEADER}1,SKU,\n".encode(),
    ],
)
def test_a_file_without_any_image_is_refused_as_such(data: bytes) -> None:
    """Empty, header alone or no URL in any row: the code is `no_images`."""
    refused = refusal_of(data)

    assert refused.code == "no_images"
    assert refused.problems


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("S. No.,Product Name", (1, None, "no column “Input Image Urls”")),
        ("S. No.,Input Image Urls,Product Name", (1, 2, "“Product Name” belongs")),
        ("S. No.,Product Name,Input Image Urls,Colour", (1, 4, "“Colour” in the header")),
        ("\n1,SKU,https://a.example/x", (2, 1, "“S. No.” belongs")),
    ],
)
def test_a_wrong_header_is_told_first(header: str, expected: tuple[int, int | None, str]) -> None:
    """Without the right columns the rows mean nothing, so only the header is complained about."""
    refused = refusal_of(f"{header}\nx,y\n")

    problem = refused.problems[0]
    assert (problem.line, problem.column) == expected[:2]
    assert expected[2] in problem.detail
    assert {problem.line for problem in refused.problems} == {expected[0]}


def test_only_the_first_hundred_problems_are_told() -> None:
    """The first hundred in the order of the file; reading stops there."""
    refused = refusal_of(HEADER + GOOD + "x,SKU,ftp://a.example\n" * 70)

    assert len(refused.problems) == 100
    assert refused.problems[:3] == [
        CellProblem(3, 1, "“x” is not an integer"),
        CellProblem(3, 3, "only http and https are fetched, not ftp: ftp://a.example"),
        CellProblem(4, 1, "“x” is not an integer"),
    ]


def test_a_quote_that_is_never_closed_is_told_though_no_image_was_read() -> None:
    """The code is not `no_images`: they stand in the cell that does not end."""
    refused = refusal_of(f'{HEADER}1,"SKU,{URL}\n2,SKU,{URL}\n')

    assert (refused.code, refused.problems) == (
        "invalid_csv",
        [CellProblem(2, 2, "the quote that opens this cell is never closed")],
    )


def endless(*rows: str) -> Iterator[bytes]:
    """A chunk for the header and for each of `rows`, and after them nothing that may be asked for."""
    yield HEADER.encode()
    for row in rows:
        yield row.encode()
    raise AssertionError("the reading should have ended before")


def test_reading_stops_at_the_hundredth_problem() -> None:
    """The rest of a hopeless file is not waited for."""
    with Spool() as spool, pytest.raises(InvalidCatalogueError):
        Catalogue(EgressPolicy(), spool, max_images=1_000).read(endless("x,SKU,https://a.example\n" * 101))


def test_more_images_than_allowed_are_refused_as_soon_as_they_are_seen() -> None:
    """The limit counts URLs, not rows, and does not wait for the end of the file."""
    chunks = endless(f"1,A,{URL},{URL}\n2,B,{URL}\n", f"3,C,{URL}\n")
    with Spool() as spool, pytest.raises(TooManyImagesError):
        Catalogue(EgressPolicy(), spool, max_images=3).read(chunks)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param('2,"' + "a" * LONGEST_RECORD, "16,777,216 characters", id="a quote that is never closed"),
        pytest.param(
            '2,"' + f"{'a' * 99}\n" * (LONGEST_RECORD // 100 + 1), "16,777,216 characters", id="over many lines"
        ),
        pytest.param('2,"' + "\n" * MOST_PARTS, "1,000,000 delimiters", id="lines of nothing"),
        pytest.param("2,SKU," + " " * LONGEST_RECORD, "16,777,216 characters", id="a line of spaces"),
        pytest.param("2,SKU," + "," * MOST_PARTS + "\n", "1,000,000 delimiters", id="a line of commas"),
        pytest.param(f'2,"{"," * 600_000}\n{"," * 600_000}"\n', "1,000,000 delimiters", id="lines of commas"),
    ],
)
def test_a_row_beyond_the_bounds_is_refused_before_it_is_held(line: str, words: str) -> None:
    """The reading ends at the bound, with the line where the row starts; what follows is not asked for."""
    pieces = [line[start : start + 2**20] for start in range(0, len(line), 2**20)]
    with Spool() as spool, pytest.raises(InvalidCatalogueError) as refused:
        Catalogue(EgressPolicy(), spool, max_images=1_000).read(endless(GOOD, *pieces))

    [problem] = refused.value.problems
    assert (problem.line, problem.column) == (3, None)
    assert words in problem.detail


def test_a_bound_counts_within_one_record() -> None:
    """Many rows pass that are together longer than one may be."""
    long_url = f"{URL}?{'a' * 7_000}"
    rows = f"1,SKU,{long_url}\n" * (LONGEST_RECORD // 7_000 + 1)

    assert len(rows_of(HEADER + rows)) == LONGEST_RECORD // 7_000 + 1


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(f"{HEADER}1,x,{URL}" + ",a" * 400_000, id="a URL torn into cells"),
        pytest.param(f'{HEADER}1,x,"{URL}{", " * 400_000}"', id="a URL of commas and spaces"),
        pytest.param(f"{HEADER}1,x,{URL}".replace(",", "\t") + "\t" * 900_000 + "a", id="a URL of tabs"),
        pytest.param(f"{HEADER}1,x," + f"ftp:{' ' * 8}," * 100_000 + URL, id="cells of spaces"),
        pytest.param(f'{HEADER}1,x,"{URL}' + '""' * 400_000 + '"', id="a URL of quotes"),
    ],
)
def test_hostile_rows_are_read_once(data: str) -> None:
    """A megabyte that used to be scanned again for each of its commas is refused within the time limit of a test."""
    assert refusal_of(data).problems[0].line == 2


def test_an_abandoned_reading_ends_within_a_row() -> None:
    """What the checkpoint raises comes out, also in a row with a hundred thousand URLs."""
    urls = 0

    def checkpoint() -> None:
        nonlocal urls
        urls += 1
        if urls == 1_000:
            raise InterruptedError

    with Spool() as spool:
        catalogue = Catalogue(EgressPolicy(), spool, max_images=10**6, checkpoint=checkpoint)
        with pytest.raises(InterruptedError):
            read(catalogue, f"{HEADER}1,x,{','.join([URL] * 100_000)}\n")

    assert urls == 1_000


def test_a_spool_closed_twice_is_closed() -> None:
    """Closing is idempotent, so that every way out of an upload may do it."""
    spool = Spool()
    spool.close()
    spool.close()

    with pytest.raises(Exception, match="closed"):
        list(spool.batches())
