"""`.env.example` says the same as the settings models."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from libs.runtime.settings import GROUPS, environment_name, known_names

EXAMPLE = (Path(__file__).parents[2] / ".env.example").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^# (.+)\n#([A-Za-z_]+)=(.*)$", EXAMPLE, re.MULTILINE)
DESCRIPTIONS = {name: description for description, name, _ in ENTRIES}
VALUES = {name: value for _, name, value in ENTRIES}
FIELDS = {environment_name(group, name): field for group in GROUPS for name, field in group.model_fields.items()}


def test_every_setting_stands_in_the_example_once_and_nothing_else_does() -> None:
    """A setting that is missing from the example, doubled or misspelt in it is found."""
    assert sorted(re.findall(r"^#? *([A-Za-z_]+)=", EXAMPLE, re.MULTILINE)) == sorted(known_names())


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_the_line_above_a_setting_is_its_description(name: str) -> None:
    """The example explains a setting with the sentence of its model."""
    assert FIELDS[name].description
    assert DESCRIPTIONS[name] == FIELDS[name].description


def test_the_example_uncommented_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as a `.env`, the example sets every setting to its own default."""
    for name in known_names():
        monkeypatch.delenv(name, raising=False)
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in VALUES.items()), encoding="utf-8")
    for group in GROUPS:
        from_example: dict[str, Any] = {"_env_file": env_file}
        from_model: dict[str, Any] = {"_env_file": None}
        assert group(**from_example) == group(**from_model)


def test_a_value_is_empty_only_where_the_default_is_empty_or_computed() -> None:
    """An empty value means the default whatever it is, so it must not hide one that could be written down."""
    unwritable = {
        name for name, field in FIELDS.items() if field.default_factory or field.default in ("", (), SecretStr(""))
    }
    assert {name for name, value in VALUES.items() if not value} == unwritable
