import codecs
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.catalogues import ReadRow, rows_of

Delimiter = Literal[",", ";", "\t"]
_ENCODINGS = (
    ("utf-8", b""),
    ("utf-8", codecs.BOM_UTF8),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
)
# What may stand in a URL between its first and its last character; ends without a comma, since the comma at the end of
# an unquoted row is a trailing delimiter.
_PATHS = st.from_regex(r"[A-Za-z0-9äß日/_.~%()&=;,-]{0,40}[A-Za-z0-9]", fullmatch=True)
_URLS = st.builds(
    "{}://{}/{}".format,
    st.sampled_from(["http", "https", "HTTPS"]),
    st.sampled_from(["a.example", "bücher.example", "img.example.com:8443", "93.184.215.14"]),
    _PATHS,
)
_NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from('",;\t\r\n '),
    max_size=30,
)
_ROWS = st.lists(
    st.builds(
        ReadRow,
        st.integers(-(2**63) + 1, 2**63 - 1),
        _NAMES,
        st.lists(_URLS, min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=8,
)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _must_be_quoted(text: str, delimiter: str) -> bool:
    return text.lstrip(" ").startswith('"') or any(character in text for character in (delimiter, "\r", "\n"))


@st.composite
def _catalogues(draw: st.DrawFn) -> tuple[bytes, list[ReadRow]]:
    delimiter: Delimiter = draw(st.sampled_from([",", ";", "\t"]))
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    encoding, mark = draw(st.sampled_from(_ENCODINGS))
    blank = st.sampled_from(["", " ", "  "])
    rows = draw(_ROWS)
    lines = [delimiter.join(["S. No.", "Product Name", "Input Image Urls"])]
    for row in rows:
        name = row.product_name
        quotes = _must_be_quoted(name, delimiter) or draw(st.booleans())
        cells = [str(row.serial_number), _quoted(name) if quotes else name]
        shape = draw(st.sampled_from(["one cell", "spilled", "a cell each"]))
        if shape == "one cell":
            separator = "," + draw(blank)
            cells.append(_quoted(separator.join(row.urls)))
        elif shape == "spilled":
            cells += [draw(blank) + url for url in row.urls]
        else:
            cells += [_quoted(url) for url in row.urls]
        lines.append(delimiter.join(cells) + delimiter * draw(st.integers(0, 2)))
        lines += [""] * draw(st.integers(0, 1))
    text = newline.join(lines) + draw(st.sampled_from(["", newline]))
    expected = [ReadRow(row.serial_number, row.product_name.strip(" "), row.urls) for row in rows]
    return mark + text.encode(encoding), expected


@settings(max_examples=150, deadline=None)
@given(catalogue=_catalogues(), chunk=st.integers(1, 200))
def test_every_valid_catalogue_comes_out_as_it_went_in(catalogue: tuple[bytes, list[ReadRow]], chunk: int) -> None:
    """Whatever the quoting, delimiter, encoding, line ends and chunks: all is unchanged but spaces around a name."""
    data, rows = catalogue

    assert rows_of(data, chunk=chunk) == rows
