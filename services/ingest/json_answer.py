"""Answers of JSON that are true for the moment."""

from aiohttp import web
from pydantic import BaseModel


def json_answer(model: BaseModel, *, status: int = 200) -> web.Response:
    """`model`, which no cache is to keep: some have a secret in them, and all go out of date."""
    answer = web.Response(text=model.model_dump_json(), status=status, content_type="application/json")
    answer.headers["Cache-Control"] = "no-store"
    return answer
