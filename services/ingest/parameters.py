"""Checks the parameters of a request against their model."""

from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from services.ingest.problems import ProblemError

ModelT = TypeVar("ModelT", bound=BaseModel)


def query_of(request: web.Request, model: type[ModelT]) -> ModelT:
    """The query string as `model`. Raises `ProblemError` 422, also for unknown and repeated parameters."""
    repeated = sorted({name for name in request.query if len(request.query.getall(name)) > 1})
    if repeated:
        raise ProblemError(422, "invalid_parameters", f"given more than once: {', '.join(repeated)[:200]}")
    return _valid(model, dict(request.query))


def path_of(request: web.Request, model: type[ModelT]) -> ModelT:
    """The variable parts of the path as `model`. Raises `ProblemError` 422."""
    return _valid(model, dict(request.match_info))


def _valid(model: type[ModelT], values: dict[str, Any]) -> ModelT:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ProblemError.of_validation(error) from error
