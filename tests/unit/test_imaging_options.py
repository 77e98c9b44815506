import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import libs.imaging
from libs.imaging import Options, RequestOptions

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
    assert Options.from_document(document) == options
    assert Options.from_document(document).to_document() == document
    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301 - our own


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_a_form_gives_the_same_options(values: dict[str, Any]) -> None:
    """A form has strings only."""
    form = {name: str(value) for name, value in values.items()}
    assert RequestOptions.model_validate(form).to_document() == Options(**values).to_document()


WRONG: list[tuple[dict[str, Any], str]] = [
    *(({"quality": value}, "a whole number from 1 to 95, or auto") for value in (0, 96, 50.5, "best")),
    *(({"target_ratio": value}, "target_ratio") for value in (0, 1, -1, "half", "nan")),
    *(({"max_bytes": value}, "max_bytes") for value in (0, -5, "many", 1.5)),
    *(({"max_width": value}, "max_width") for value in (0, 65_501, "wide", "10px")),
    ({"max_height": 0}, "max_height"),
    *(({"format": value}, "'jpeg', 'keep', 'webp', 'avif' or 'png'") for value in ("gif", "jpg", 1)),
    *(({"background": value}, "a colour such as #ffffff") for value in ("white", "#fff", "ffffff", 0)),
    ({"metadata": "all"}, "'strip', 'copyright' or 'keep'"),
    ({"target_ratio": 0.5, "max_bytes": 1}, "max_bytes: give only one"),
    ({"target_ratio": 0.5, "quality": 50}, "target_ratio: give only one"),
    ({"max_bytes": 5000, "format": "png"}, "max_bytes: PNG loses nothing"),
    ({"qualty": 5}, "qualty\n"),
    ({"max_pixels": 10**12}, "max_pixels\n"),
]


@pytest.mark.parametrize(("values", "said"), WRONG, ids=str)
def test_a_value_that_is_not_accepted_is_named(values: dict[str, Any], said: str) -> None:
    """No name misspelt is a default taken silently, and the limit of the service is no client's to choose."""
    with pytest.raises(ValueError, match=re.escape(said)):
        Options.from_document(values)


def test_the_limit_is_the_service_s() -> None:
    """It stands in no document."""
    options = Options.from_document({}, max_pixels=7)
    assert options.max_pixels == 7
    assert "max_pixels" not in options.to_document()


def test_options_are_there_where_no_codec_is_installed() -> None:
    """Ingest and the command line validate them without isal, numpy, Pillow or simplejpeg."""
    script = (
        "import sys\n"
        "for name in ('isal', 'numpy', 'PIL', 'simplejpeg'): sys.modules[name] = None\n"
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
