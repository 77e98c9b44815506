"""Requests whose last image is about to be written, and their completion at an even pace."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from libs.documents import Documents, HeldImage, NewImage, NewRequest
from tests.notifiers import OUTPUT, TRACE


class Completions:
    """Requests of one image each, with a webhook to one of `urls` after the other."""

    def __init__(self, documents: Documents, urls: Sequence[str]) -> None:
        self._documents = documents
        self._urls = itertools.cycle(urls)
        self._held: list[HeldImage] = []

    async def prepare(self, count: int) -> None:
        """Makes so many more whose image is held by us; one by the book, and the others after its pattern."""
        requests, images = self._documents.requests.collection, self._documents.mongo.collection("images")
        first = uuid4()
        new = NewRequest(next(self._urls), "bench.csv", 1, "0" * 64, 1, TRACE)
        await self._documents.requests.accept(new, [[NewImage(0, 0, 1, "SKU", "http://h/0", "h")]], first)
        _, [held] = await self._documents.images.claim(1)
        request, image = await requests.find_one({"_id": str(first)}), await images.find_one({"_id": held.document_id})
        assert request is not None
        assert image is not None
        ids = [str(uuid4()) for _ in range(count - 1)]
        await requests.insert_many([{**request, "_id": one, "webhook_url": next(self._urls)} for one in ids])
        await images.insert_many([{**image, "_id": {**image["_id"], "r": one}} for one in ids])
        self._held += [held, *(replace(held, request_id=one) for one in ids)]

    async def complete(self, per_second: float, count: int) -> dict[str, float]:
        """Completes so many, each in a transaction of its own, as a watcher does; gives when each was, by request.

        That is the moment at which the writer knows of its commit.
        """
        completed: dict[str, float] = {}
        now, self._held = self._held[:count], self._held[count:]

        async def one(image: HeldImage) -> None:
            finished = await self._documents.outcomes.write([(image, OUTPUT)], {image.request_id: 1})
            completed[image.request_id] = time.monotonic()
            assert finished.closed == {image.request_id: "completed"}

        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, image in enumerate(now):
                await asyncio.sleep(began + number / per_second - time.monotonic())
                tasks.create_task(one(image))
        return completed
