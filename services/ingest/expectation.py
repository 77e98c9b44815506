"""Answers to `Expect: 100-continue` (RFC 9110, section 10.1.1), as problems where they are refusals."""

from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web

from services.ingest.problems import ProblemError

Check = Callable[[web.Request], None]
ExpectHandler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


def no_check(_: web.Request) -> None:
    """Lets every request go on."""


def expectation(check: Check) -> ExpectHandler:
    """Asks the client to go on, unless `check` raises the problem it gets instead."""

    async def expect(request: web.Request) -> web.StreamResponse | None:
        if request.version < HttpVersion11:
            return None
        if request.headers.get("Expect", "").lower() != "100-continue":
            detail = "only 100-continue can be expected"
            return ProblemError(417, "expectation_failed", detail, closes=True).response()
        try:
            check(request)
        except ProblemError as error:
            return error.response()
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what counts is the answer, which has not begun
        return None

    return expect
