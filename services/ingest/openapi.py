"""The OpenAPI 3.1 document, generated from the operations and the models that validate them."""

import inspect
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from openapi_pydantic import OpenAPI
from openapi_pydantic.util import PydanticSchema, construct_open_api_with_schema_class
from pydantic import BaseModel

from services.ingest.event_models import MESSAGES, Message
from services.ingest.models import InvalidRequest, Problem
from services.ingest.operations import Answer, Body, Operation
from services.ingest.problems import CONTENT_TYPE

_MESSAGE_HEADERS = {
    "webhook-id": "The same at every attempt: use it to ignore repeats.",
    "webhook-timestamp": "When this attempt was made, in seconds since 1970.",
    "webhook-signature": "By Standard Webhooks 1.0; several, with a space between, while a secret is being replaced.",
    "traceparent": "W3C Trace Context: a child of the upload's, or of that of the call for a test; else of a new one.",
}
_MESSAGE_ANSWERS = {
    "2XX": "Delivered, whatever the body.",
    "410": "Not sent again, and a standing endpoint is disabled; as with `webhook-delivery: disable` and any status.",
    "default": (
        "Sent again later, after `Retry-After` where that says more, until its tries are used up. Redirects are not "
        "followed."
    ),
}
_TAGS = {
    "requests": "Catalogues of images to compress, from upload to the end.",
    "images": "What came out.",
    "webhooks": "What Darkroom calls when a request is done, by Standard Webhooks.",
    "deliveries": "What became of each webhook, and sending again.",
}


def document(operations: Sequence[Operation]) -> str:
    """The document as JSON; it holds `operations`, the messages that receivers get, and nothing else."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    api = OpenAPI.model_validate(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Darkroom",
                "version": _version(),
                "description": "Bulk compression of product images: CSV in, smaller images and a signed webhook out.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
            "paths": paths,
            "webhooks": {name: {"post": _message(name, message)} for name, message in MESSAGES.items()},
        }
    )
    return construct_open_api_with_schema_class(api).model_dump_json(
        by_alias=True, exclude_unset=True, exclude_none=True
    )


def _version() -> str:
    try:
        return version("darkroom")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"


def _operation(operation: Operation) -> dict[str, Any]:
    responses = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    responses |= {str(status): _problem(status, text) for status, text in operation.problems.items()}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [*_parameters("path", operation.variables), *_parameters("query", operation.query)],
        "responses": {**responses, "default": _problem(None, "Any other error.")},
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body.required,
            "content": {operation.body.media_type: _body(operation.body)},
        }
    return described


def _message(name: str, message: Message) -> dict[str, Any]:
    return {
        "operationId": "on_" + name.replace(".", "_"),
        "tags": ["webhooks"],
        "summary": inspect.getdoc(message.model),
        "description": message.description,
        "parameters": [
            {"name": header, "in": "header", "required": True, "description": said, "schema": {"type": "string"}}
            for header, said in _MESSAGE_HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": PydanticSchema(schema_class=message.model)}},
        },
        "responses": {status: {"description": said} for status, said in _MESSAGE_ANSWERS.items()},
    }


def _parameters(place: str, model: type[BaseModel] | None) -> Iterable[dict[str, Any]]:
    if model is None:
        return
    schema = model.model_json_schema()
    for name, described in schema["properties"].items():
        parameter: dict[str, Any] = {"name": name, "in": place, "required": name in schema.get("required", ())}
        if description := described.pop("description", None):
            parameter["description"] = description
        yield {**parameter, "schema": described}


def _body(body: Body) -> dict[str, Any]:
    described: dict[str, Any] = {"schema": PydanticSchema(schema_class=body.model) if body.model else {}}
    if body.example is not None:
        described["example"] = body.example
    return described


def _answer(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for media_type in answer.media_types:
        content[media_type] = {"schema": PydanticSchema(schema_class=answer.model)} if answer.model else {}
        if answer.example is not None:
            content[media_type]["example"] = answer.example
    return {"description": answer.description, **({"content": content} if content else {})}


def _problem(status: int | None, description: str) -> dict[str, Any]:
    model = InvalidRequest if status == 422 else Problem
    return {"description": description, "content": {CONTENT_TYPE: {"schema": PydanticSchema(schema_class=model)}}}
