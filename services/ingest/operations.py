"""What an operation of the API is: the router and the OpenAPI document are both made of these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from services.ingest.expectation import Check, expectation, no_check
from services.ingest.problems import Handler


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: JSON of `model`, or else bytes of the media types `media_types`."""

    description: str
    model: type[BaseModel] | None = None
    example: Any = None
    media_types: Sequence[str] = ("application/json",)


@dataclass(frozen=True, slots=True)
class Body:
    """A request body: `model` as `media_type`; None accepts any JSON."""

    media_type: str
    model: type[BaseModel] | None = None
    example: Any = None
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, with all that its documentation says.

    `pattern` is the path for the router, where `path` alone would also match another operation's.
    """

    method: str
    path: str
    handler: Handler
    name: str
    tag: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    problems: Mapping[int, str] = field(default_factory=dict)
    query: type[BaseModel] | None = None
    variables: type[BaseModel] | None = None
    body: Body | None = None
    check_headers: Check = no_check
    pattern: str | None = None

    def route(self) -> web.RouteDef:
        """The operation for aiohttp's router."""
        expect = expectation(self.check_headers)
        return web.route(self.method, self.pattern or self.path, self.handler, name=self.name, expect_handler=expect)
