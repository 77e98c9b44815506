import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import libs.imaging
from libs.imaging import OptionError, Options
from libs.imaging.requested import RequestOptions

ROOT = Path(__file__).resolve().parents[2]

VALUES: list[dict[str, Any]] = [
    {},
    {"quality": 1},
    {"quality": 95},
    {"quality": "auto"},
    {"target_ratio": 0.5},
    {"max_bytes": 100_000},
    *({"format": form} for form in ("jpeg", "keep", "webp", "avif", "png")),
    {"max_width": 800, "max_height": 1},
    {"background": "#0a0B0c"},
    *({"metadata": metadata} for metadata in ("strip", "copyright", "keep")),
]


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_options_go_through_a_document_and_through_a_pickle(values: dict[str, Any]) -> None:
    """Flat JSON and back, as the request stores them, and to a worker process."""
    options = Options(**values)
    document = json.loads(json.dumps(options.to_document()))
    assert all(isinstance(value, str | int | float) for value in document.values())
    again = Options.from_document(document)
    assert again.to_document() == document
    assert dataclasses.replace(again, background=options.background) == options
    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301 - our own


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_a_form_gives_the_same_options(values: dict[str, Any]) -> None:
    """A form has strings only, and empty ones where nothing was chosen."""
    form = {"target_ratio": "", "max_bytes": None} | {name: str(value) for name, value in values.items()}
    assert Options.from_document(form).to_document() == Options(**values).to_document()


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_what_a_request_may_ask_for_is_what_options_take(values: dict[str, Any]) -> None:
    """The document of a request makes the same options, and its defaults are theirs."""
    document = RequestOptions.model_validate(values).document()
    assert Options.from_document(document).to_document() == Options(**values).to_document()
    assert set(RequestOptions.model_fields) == set(Options.names())


WRONG: list[tuple[str, dict[str, Any], str]] = [
    *(("quality", {"quality": value}, "a whole number from 1 to 95, or auto") for value in (0, 96, 50.5, True, "best")),
    *(("target_ratio", {"target_ratio": value}, "more than 0 and less than 1") for value in (0, 1, -1, "half", True)),
    *(("max_bytes", {"max_bytes": value}, "a whole number of at least 1") for value in (0, -5, "many", 1.5)),
    *(("max_width", {"max_width": value}, "from 1 to 65500") for value in (0, 65_501, "wide", "10px")),
    ("max_height", {"max_height": 0}, "from 1 to 65500"),
    *(("format", {"format": value}, "one of jpeg, keep, webp, avif, png") for value in ("gif", "jpg", 1)),
    *(("background", {"background": value}, "a colour like #ffffff") for value in ("white", "#fff", "ffffff", 0)),
    ("metadata", {"metadata": "all"}, "one of strip, copyright, keep"),
    ("target_ratio", {"target_ratio": 0.5, "max_bytes": 1}, "cannot be combined with max_bytes"),
    ("target_ratio", {"target_ratio": 0.5, "quality": 40}, "cannot be combined with quality"),
    ("max_bytes", {"max_bytes": 5000, "format": "png"}, "cannot be reached by PNG"),
]


@pytest.mark.parametrize(("field", "values", "accepted"), WRONG, ids=str)
def test_a_value_that_is_not_accepted_is_named(field: str, values: dict[str, Any], accepted: str) -> None:
    """The error names the field and says what is accepted; over a process boundary, too."""
    with pytest.raises(OptionError) as caught:
        Options.from_document(values)
    with pytest.raises(OptionError):
        Options(**values)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} ")
    assert accepted in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert (again.field, str(again)) == (field, str(caught.value))


def test_an_option_that_does_not_exist_is_refused() -> None:
    """A name misspelt is no default taken silently, and the limit of the service is no one's to choose."""
    with pytest.raises(OptionError, match=r"qualty is not an option; there are quality, target_ratio"):
        Options.from_document({"qualty": 5})
    with pytest.raises(OptionError, match="max_pixels is not an option"):
        Options.from_document({"max_pixels": 10**12})
    assert Options.from_document({}, max_pixels=7).max_pixels == 7


def test_a_quality_beside_a_size_is_refused_even_where_it_is_the_default() -> None:
    """A document says what was asked for; options made by their defaults do not."""
    with pytest.raises(OptionError, match="target_ratio cannot be combined with quality"):
        Options.from_document({"quality": 50, "target_ratio": 0.5})


def test_options_are_there_where_no_codec_is_installed() -> None:
    """Ingest and the command line validate them without numpy, Pillow, pebble or simplejpeg."""
    script = (
        "import sys\n"
        "for name in ('numpy', 'PIL', 'pebble', 'simplejpeg'): sys.modules[name] = None\n"
        "import libs.imaging\n"
        "from libs.imaging import Options, ImageError, Compressed, cost_bytes\n"
        "print(Options.from_document({'format': 'webp'}).format, cost_bytes(b'', Options()) > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "webp True\n"


def test_what_the_package_does_not_have_is_an_attribute_error() -> None:
    """Names are looked up late, but not made up."""
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(libs.imaging, "nothing")  # noqa: B009 - mypy knows that it is not there
