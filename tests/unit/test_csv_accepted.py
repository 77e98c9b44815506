import pytest

from libs.egress import EgressPolicy
from services.ingest.catalogue import Catalogue
from services.ingest.spool import MOST_CHARACTERS, Spool
from tests.unit.catalogues import HEADER, ReadRow, read, rows_of

U1, U2, U3 = "https://picsum.photos/200/300", "https://picsum.photos/200/301", "https://picsum.photos/200/302"
ONE = [ReadRow(1, "SKU1", [U1])]


def test_the_sample_is_accepted_as_it_stands() -> None:
    """A row that spills a URL into a fourth column is one row with two images."""
    sample = f"S. No.,Product Name,Input Image Urls\n1,SKU1,{U1}, {U2}\n2,SKU2,{U3}\n"

    assert rows_of(sample) == [ReadRow(1, "SKU1", [U1, U2]), ReadRow(2, "SKU2", [U3])]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(f"\ufeff{HEADER}1,SKU1,{U1}\n".encode(), id="byte order mark"),
        pytest.param(f"{HEADER}1,SKU1,{U1}\n".replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(f"{HEADER}1,SKU1,{U1}\n".replace("\n", "\r").encode(), id="CR"),
        pytest.param(f"{HEADER}1,SKU1,{U1}".encode(), id="no newline at the end"),
        pytest.param(f"S. No.;Product Name;Input Image Urls\n1;SKU1;{U1}\n".encode(), id="semicolons"),
        pytest.param(f"S. No.\tProduct Name\tInput Image Urls\n1\tSKU1\t{U1}\n".encode(), id="tabs"),
        pytest.param(f"{HEADER}1,SKU1,{U1}\n".encode("utf-16"), id="UTF-16 little-endian"),
        pytest.param(f"\ufeff{HEADER}1,SKU1,{U1}\n".encode("utf-16-be"), id="UTF-16 big-endian"),
        pytest.param(f"{HEADER}1,SKU1,{U1},,,\n".encode(), id="trailing commas"),
        pytest.param(
            f"S. No.,Product Name,Input Image Urls,,\n1,SKU1,{U1},,\n".encode(), id="trailing commas above too"
        ),
        pytest.param(f"\n\r\n{HEADER}\n1,SKU1,{U1}\n\n  \n,,,\n".encode(), id="blank lines"),
        pytest.param(f"s. no., PRODUCT NAME ,input  image urls\n1,SKU1,{U1}\n".encode(), id="header in another case"),
        pytest.param(f'"S. No.","Product Name","Input Image Urls"\n"1","SKU1","{U1}"\n'.encode(), id="all quoted"),
        pytest.param(f'S. No. , "Product Name" , "Input Image Urls"\n 1 ,"SKU1" , "{U1}" \n'.encode(), id="spaces"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 18])
def test_spellings_of_the_same_file_are_read_alike(data: bytes, chunk: int) -> None:
    """Encoding, line ends, delimiter, blanks and quotes change nothing, however the bytes arrive."""
    assert rows_of(data, chunk=chunk) == ONE


@pytest.mark.parametrize(
    ("cells", "urls"),
    [
        (f'"{U1}, {U2}"', [U1, U2]),
        (f'"{U1},{U2}"', [U1, U2]),
        (f'"{U1},\n  {U2}"', [U1, U2]),
        (f"{U1},{U2}", [U1, U2]),
        (f"{U1}, {U2},{U3}", [U1, U2, U3]),
        (f'"{U1}","{U2}, {U3}"', [U1, U2, U3]),
        ("https://a.example/w_200,h_300/a.jpg", ["https://a.example/w_200,h_300/a.jpg"]),
        ('"https://a.example/w_200,h_300/a.jpg"', ["https://a.example/w_200,h_300/a.jpg"]),
        (f"https://a.example/w_200,h_300/a.jpg, {U1}", ["https://a.example/w_200,h_300/a.jpg", U1]),
        ("https://a.example/w,,h.jpg", ["https://a.example/w,,h.jpg"]),
        ("https://a.example/fetch/w_300,s3://b/a.jpg", ["https://a.example/fetch/w_300,s3://b/a.jpg"]),
        ("https://a.example/a,data:1/b.jpg", ["https://a.example/a,data:1/b.jpg"]),
        (f"{U1},ftp://a.example/a.jpg,{U2}", [f"{U1},ftp://a.example/a.jpg", U2]),
        ('"https://a.example/""a"",b.jpg"', ['https://a.example/"a",b.jpg']),
        (f'"{U1}" ,"{U2}"', [U1, U2]),
        (f'"https://a.example/x,","{U1}"', ["https://a.example/x,", U1]),
        ("HTTP://A.example/a.jpg", ["HTTP://A.example/a.jpg"]),
        ("https://bücher.example/ä.jpg", ["https://bücher.example/ä.jpg"]),
        (f"{U1},{U1},{U1}", [U1, U1, U1]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 5, 1 << 18])
def test_a_comma_parts_urls_only_where_one_follows(cells: str, urls: list[str], chunk: int) -> None:
    """Quoted or spilled, the URLs of a row come out in order and with the commas that belong to them."""
    assert rows_of(f"{HEADER}1,SKU1,{cells}\n", chunk=chunk) == [ReadRow(1, "SKU1", urls)]


def test_a_semicolon_in_a_url_survives_a_semicolon_file() -> None:
    """The delimiter of the file is joined back into a URL that it tore apart."""
    data = f"S. No.;Product Name;Input Image Urls\n1;SKU1;https://a.example/x;v=2,3.jpg;{U1}\n"

    assert rows_of(data) == [ReadRow(1, "SKU1", ["https://a.example/x;v=2,3.jpg", U1])]


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ('"two\nlines"', "two\nlines"),
        ('"two\r\nlines"', "two\r\nlines"),
        ('"5"" disk, red"', '5" disk, red'),
        ('5" disk', '5" disk'),
        ('"SKU" 1', "SKU 1"),
        ('"SKU"x', "SKUx"),
        ("  red disk ", "red disk"),
        ('" red disk "', "red disk"),
        ('"=HYPERLINK(""http://10.0.0.1/?""&A1,""x"")"', '=HYPERLINK("http://10.0.0.1/?"&A1,"x")'),
        ("@SUM(1+1)", "@SUM(1+1)"),
        ("-2+3", "-2+3"),
        ('"=HYPERLINK(""http://x"",""y"")"', '=HYPERLINK("http://x","y")'),
        ("=1+1", "=1+1"),
        ("", ""),
        ("日本語 🎞", "日本語 🎞"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1 << 18])
def test_a_product_name_comes_out_as_it_was_written(cell: str, name: str, chunk: int) -> None:
    """Newlines, quotes, commas and formulas in a name are text; only spaces around it are dropped."""
    assert rows_of(f"{HEADER}1,{cell},{U1}\n", chunk=chunk) == [ReadRow(1, name, [U1])]


def test_the_same_serial_number_may_stand_twice() -> None:
    """Rows keep the order of the file, not that of their numbers."""
    data = f"{HEADER}2,B,{U1}\n1,A,{U2}\n2,C,{U3}\n"

    assert rows_of(data) == [ReadRow(2, "B", [U1]), ReadRow(1, "A", [U2]), ReadRow(2, "C", [U3])]


def test_a_repeated_url_is_an_alias_of_its_first_occurrence() -> None:
    """Other spellings of the same address count as the same; the spelling is kept."""
    with Spool() as spool:
        read(
            Catalogue(EgressPolicy(), spool, max_images=10),
            f"{HEADER}1,A,{U1}\n2,B,{U2}, HTTPS://Picsum.Photos:443/200/300#top\n3,C,{U1}\n",
        )
        [images] = list(spool.batches())

    assert [image.alias_of for image in images] == [None, None, 0, 0]
    assert [image.copies for image in images] == [2, 0, 0, 0]
    assert images[2].url == "HTTPS://Picsum.Photos:443/200/300#top"
    assert {image.host for image in images} == {"picsum.photos"}


def test_an_alias_may_stand_in_another_batch_than_its_first_occurrence() -> None:
    """Repeats are found over the whole file, and told from the rows around them."""
    rows = "".join(f"{n},P{n},https://a.example/{n % 1_500}\n" for n in range(3_100))
    with Spool() as spool:
        read(Catalogue(EgressPolicy(), spool, max_images=3_100), HEADER + rows)
        images = [image for batch in spool.batches() for image in batch]

    assert [image.position for image in images] == list(range(3_100))
    assert [image.alias_of for image in images] == [None if n < 1_500 else n % 1_500 for n in range(3_100)]
    assert [image.copies for image in images] == [2 if n < 100 else 1 if n < 1_500 else 0 for n in range(3_100)]
    assert [image.product_name for image in images] == [f"P{n}" for n in range(3_100)]


def test_a_host_is_the_same_with_and_without_the_dot_behind_it() -> None:
    """So that its share of a watcher's slots is one; the URLs are two, since a server may tell them apart."""
    with Spool() as spool:
        read(
            Catalogue(EgressPolicy(), spool, max_images=10),
            f"{HEADER}1,A,http://example.com/a.jpg\n2,B,http://example.com./a.jpg\n",
        )
        [images] = list(spool.batches())

    assert [(image.host, image.alias_of) for image in images] == [("example.com", None)] * 2


@pytest.mark.parametrize("quote", ["", '"'])
def test_one_row_may_hold_a_hundred_thousand_urls(quote: str) -> None:
    """Whether its URLs stand in one cell or in as many columns."""
    urls = [f"https://a.example/{number}.jpg" for number in range(100_000)]

    [row] = rows_of(f"{HEADER}1,SKU1,{quote}{', '.join(urls)}{quote}\n")

    assert row.urls == urls


def test_batches_hold_two_thousand_images_at_most() -> None:
    """Images leave the spool in batches, in order."""
    with Spool() as spool:
        data = HEADER + "".join(f"{n},P,https://a.example/{n}\n" for n in range(4_001))
        read(Catalogue(EgressPolicy(), spool, max_images=5_000), data)

        assert [len(batch) for batch in spool.batches()] == [2_000, 2_000, 1]


@pytest.mark.parametrize("quote", ["", '"'])
def test_batches_of_long_urls_hold_fewer_images(quote: str) -> None:
    """What goes to MongoDB at once is bounded in characters too, however the rows are written."""
    path = "a" * 6_900
    with Spool() as spool:
        data = HEADER + "".join(f"{n},P,{quote}https://a.example/{path}/{n}{quote}\n" for n in range(2_000))
        read(Catalogue(EgressPolicy(), spool, max_images=2_000), data)
        batches = list(spool.batches())

    assert [image.position for batch in batches for image in batch] == list(range(2_000))
    assert max(sum(len(image.url) for image in batch) for batch in batches) < MOST_CHARACTERS + 2**18
