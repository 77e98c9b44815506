"""POST /api/webhook-test: a receiver to try webhooks with."""

import json
from typing import NoReturn

import structlog
from aiohttp import web

from services.ingest.problems import ProblemError

MOST_BYTES = 1024 * 1024

_log = structlog.get_logger()


async def receive(request: web.Request) -> web.StreamResponse:
    """Answers with the body it got, as it was spelt: numbers keep their digits and objects their order."""
    media_type = request.content_type
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise ProblemError(415, "unsupported_media_type", "the body is sent as application/json", closes=True)
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
    _log.info("webhook_test.received", webhook_id=request.headers.get("webhook-id"), bytes=len(body))
    return web.Response(
        text=f'{{"message":"Webhook received","receivedPayload":{body}}}', content_type="application/json"
    )


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
