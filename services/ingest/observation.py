"""Measures every request, and writes a log line for those that failed or took long."""

import time

import structlog
from aiohttp import web

from libs.runtime import metrics
from services.ingest.problems import Handler

_log = structlog.get_logger()


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts by route, not by path, so that clients cannot make up labels."""
    begun = time.monotonic()
    status = 499  # what nginx calls a client that has gone away
    try:
        answer = await handler(request)
        status = answer.status
    finally:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        method = request.method if resource is not None else "any"
        seconds = time.monotonic() - begun
        metrics.HTTP_SECONDS.labels(route, method, str(status)).observe(seconds)
        _log.debug("http.answered", route=route, method=method, status=status, seconds=round(seconds, 4))
    return answer
