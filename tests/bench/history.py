"""Finished requests for a benchmark: many copies of one that really ran, with its images, counts and deliveries."""

import os
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from libs.mongo import Document, Mongo

_BATCH = 10_000
# What is found by its request, in each collection but that of requests.
_OF_REQUEST = {"images": "_id.r", "progress": "_id.r", "deliveries": "request_id"}


async def multiply(mongo: Mongo, requests: str, request_id: str, count: int) -> None:
    """Adds `count` requests like this finished one; `requests` is the collection that it is in."""
    patterns = {requests: await mongo.collection(requests).find({"_id": request_id}).to_list(None)}
    for name, field in _OF_REQUEST.items():
        patterns[name] = await mongo.collection(name).find({field: request_id}).to_list(None)
    for first in range(0, count, _BATCH):
        ids = [str(uuid4()) for _ in range(first, min(first + _BATCH, count))]
        for name, pattern in patterns.items():
            copies = list(_copies(pattern, request_id, ids))
            if copies:
                await mongo.collection(name).insert_many(copies, ordered=False)


def _copies(pattern: Iterable[Document], request_id: str, ids: Iterable[str]) -> Iterable[Document]:
    """Each document for each of `ids`, with keys of its own."""
    for new in ids:
        for document in pattern:
            copy: Document = _renamed(document, request_id, new)
            if isinstance(copy["_id"], str) and copy["_id"] != new:  # a delivery's, made from what makes it unique
                copy["_id"] = f"msg_{uuid4().hex}"
            if "output" in copy:
                copy["output"] = {**copy["output"], "key": os.urandom(len(copy["output"]["key"]))}
            yield copy


def _renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _renamed(part, old, new) for name, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, old, new) for part in value]
    return value.replace(old, new) if isinstance(value, str) else value
