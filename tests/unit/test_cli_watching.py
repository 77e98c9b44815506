"""Watching a request over the HTTP interface, here of a stand-in."""

import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from rich.console import Console

from libs.runtime.health import serve_app
from services.cli.client import ClientError, connect
from services.cli.watching import watch

STATUS = {"request_id": "r", "total": 20, "failed": 0, "cancelled": 0, "bytes_in": 1000, "bytes_out": 400}
Answer = Callable[[web.Request], web.Response]


def standing(status: str, completed: int) -> Answer:
    """The request is in this state."""
    return lambda _: web.json_response({**STATUS, "status": status, "completed": completed})


def unavailable(_: web.Request) -> web.Response:
    """The database is away."""
    return web.json_response({"title": "Service Unavailable", "status": 503, "detail": "try again"}, status=503)


def cut_off(request: web.Request) -> web.Response:
    """The connection breaks, as when ingest is killed."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def answering(*answers: Answer) -> AsyncIterator[str]:
    """Gives one answer after the other, and fails beyond the last."""
    left: Iterator[Answer] = iter(answers)

    async def answer(request: web.Request) -> web.Response:
        return next(left)(request)

    app = web.Application()
    app.router.add_get("/api/status", answer)
    async with serve_app(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"


async def watched(*answers: Answer) -> list[str]:
    """The lines that are shown of a request that stands like this, one time after the other."""
    shown = io.StringIO()
    async with answering(*answers) as base, connect(base) as client:
        await watch(client, "r", Console(file=shown), every_seconds=0)
    return shown.getvalue().splitlines()


async def test_a_line_is_shown_for_a_new_status_or_a_tenth_of_the_images() -> None:
    """A long request does not fill the log it runs in."""
    lines = await watched(
        standing("pending", 0),
        standing("processing", 1),
        standing("processing", 2),
        standing("processing", 3),
        standing("completed", 20),
    )
    assert [line.partition(",")[0] for line in lines] == [
        "pending: 0 of 20 images",
        "processing: 1 of 20 images",
        "processing: 3 of 20 images",
        "completed: 20 of 20 images",
    ]
    assert lines[-1].endswith("600 B saved (60 %)")


async def test_a_short_absence_is_waited_out() -> None:
    """A restart of ingest, or of the database, does not end the watching."""
    lines = await watched(standing("processing", 0), cut_off, unavailable, standing("completed", 20))
    assert len(lines) == 2


async def test_an_answer_that_is_no_problem_of_ours_is_one_sentence() -> None:
    """Another server at that address is told as what it is."""
    with pytest.raises(ClientError, match=r"answered 404 Not Found; it does not seem to be a Darkroom"):
        await watched(lambda _: web.Response(status=404, text="<html>"))
