"""The reasons that the README lists for images that failed."""

import re
from pathlib import Path
from typing import get_args

from libs.imaging.reasons import Code
from libs.storage import StorageError
from services.watcher.attempts import UnexpectedError

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_every_reason_of_codec_and_store() -> None:
    """Programs act on codes, so that a new one is told of."""
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", README.read_text(), re.MULTILINE))))
    assert {*get_args(Code), StorageError.code, UnexpectedError.code} <= listed
