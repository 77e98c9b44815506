"""What the models of the interface have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """Refuses fields that it does not know."""

    model_config = ConfigDict(extra="forbid")


def without_default(schema: dict[str, Any]) -> None:
    """For the schema of a field that may be left out: absent is absent, and null would not be accepted."""
    schema.pop("default", None)


def optional(description: str, **options: Any) -> Any:
    """A field that may be left out and may not be null; its type is to have `SkipJsonSchema[None]` in it."""
    return Field(default=None, description=description, json_schema_extra=without_default, **options)
