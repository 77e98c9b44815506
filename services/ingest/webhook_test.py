"""POST /api/webhook-test: a receiver to try webhooks with."""

import structlog
from aiohttp import web

from services.ingest.json_body import json_text

_log = structlog.get_logger()


async def receive(request: web.Request) -> web.StreamResponse:
    """Answers with the body it got, as it was spelt: numbers keep their digits and objects their order."""
    body = await json_text(request)
    _log.info("webhook_test.received", webhook_id=request.headers.get("webhook-id"), bytes=len(body))
    return web.Response(
        text=f'{{"message":"Webhook received","receivedPayload":{body}}}', content_type="application/json"
    )
