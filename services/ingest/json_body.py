"""Reads a body of JSON, and checks it against its model."""

import json
from typing import NoReturn, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from services.ingest.problems import ProblemError

MOST_BYTES = 1024 * 1024
ModelT = TypeVar("ModelT", bound=BaseModel)


async def json_text(request: web.Request) -> str:
    """The body as it was spelt, once it is known to be JSON. Raises `ProblemError` 400, 413, 415 or 422."""
    media_type = request.content_type
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise ProblemError(415, "unsupported_media_type", "the body must be sent as application/json", closes=True)
    try:
        body = (await _read(request)).decode()
        json.loads(body, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except UnicodeDecodeError as error:
        raise ProblemError(422, "invalid_json", "the body is no JSON: it is not UTF-8") from error
    except RecursionError as error:
        raise ProblemError(
            422, "invalid_json", "the body is no JSON that can be read: it is nested too deeply"
        ) from error
    except ValueError as error:
        raise ProblemError(422, "invalid_json", f"the body is no JSON: {str(error)[:200]}") from error
    return body


async def json_of(request: web.Request, model: type[ModelT]) -> ModelT:
    """The body as `model`. Raises `ProblemError` as `json_text` does, and 422 for what the model refuses."""
    text = await json_text(request)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise ProblemError.of_validation(error) from error


async def json_or_nothing_of(request: web.Request, model: type[ModelT]) -> ModelT:
    """As `json_of`; where there is no body, the `model` with all of its defaults."""
    return await json_of(request, model) if request.can_read_body else model()


async def _read(request: web.Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > MOST_BYTES:
                raise ProblemError(413, "body_too_large", f"the body is larger than {MOST_BYTES:,} bytes", closes=True)
    except web.RequestPayloadError as error:
        raise ProblemError(400, "body_cut", "the body ended in the middle", closes=True) from error
    return bytes(body)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
