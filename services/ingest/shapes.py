"""What the models of the interface have in common."""

import re
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """Refuses fields that it does not know."""

    model_config = ConfigDict(extra="forbid")


def matching(pattern: str, words: str) -> AfterValidator:
    """Text that matches `pattern`; the refusal says `words`, since nobody reads patterns."""
    compiled = re.compile(pattern.replace("$", r"\Z"))  # where JSON Schema says $, Python lets a line end follow

    def check(value: str) -> str:
        if not compiled.search(value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


def without_default(schema: dict[str, Any]) -> None:
    """For the schema of a field that may be left out: absent is absent, and null would not be accepted."""
    schema.pop("default", None)


def optional(description: str, **options: Any) -> Any:
    """A field that may be left out and may not be null; its type is to have `SkipJsonSchema[None]` in it."""
    return Field(default=None, description=description, json_schema_extra=without_default, **options)
