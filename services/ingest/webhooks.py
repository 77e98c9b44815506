"""/api/webhooks: standing endpoints that are told of events, their secrets, and a test event."""

import json
import time
from datetime import UTC, datetime
from uuid import uuid4

import structlog
from aiohttp import web

from libs.documents import Endpoint, NewDelivery, TooManyEndpointsError, TooManySecretsError
from libs.runtime import trace
from services.ingest.context import Context
from services.ingest.event_models import TEST_EVENT
from services.ingest.json_answer import json_answer
from services.ingest.json_body import json_of, json_or_nothing_of
from services.ingest.parameters import path_of, query_of
from services.ingest.problems import ProblemError
from services.ingest.webhook_models import (
    EndpointPath,
    NewWebhook,
    RotateBody,
    SentTest,
    WebhookPatch,
    Webhooks,
    WebhooksQuery,
    webhook_of,
    webhook_with_secret_of,
)

_log = structlog.get_logger()


class Subscriptions:
    """Makes, shows, changes and removes standing endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Answers 201 with the endpoint and its secret; 409 when there are too many."""
        new = await json_of(request, NewWebhook)
        self._context.check_webhook_url(new.url, field="url")
        try:
            endpoint = await self._context.documents.endpoints.create(new.endpoint())
        except TooManyEndpointsError as error:
            raise ProblemError(409, "too_many_webhooks", f"{error}; delete one that is not needed") from error
        _log.info("endpoint.created", endpoint_id=endpoint.id, host=endpoint.host)
        answer = json_answer(webhook_with_secret_of(endpoint), status=201)
        answer.headers["Location"] = f"/api/webhooks/{endpoint.id}"
        return answer

    async def page(self, request: web.Request) -> web.StreamResponse:
        """A page of endpoints, the newest first."""
        query = query_of(request, WebhooksQuery)
        found = await self._context.documents.endpoints.page(query.limit + 1, behind=query.cursor)
        shown = found[: query.limit]
        behind = shown[-1].id if len(found) > query.limit else None
        return json_answer(Webhooks(webhooks=[webhook_of(endpoint) for endpoint in shown], next=behind))

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The endpoint, without its secrets."""
        return json_answer(webhook_of(await self._endpoint(request)))

    async def change(self, request: web.Request) -> web.StreamResponse:
        """Changes what is given, and answers with the endpoint."""
        endpoint_id = path_of(request, EndpointPath).endpoint_id
        patch = await json_of(request, WebhookPatch)
        if "url" in patch.model_fields_set:
            self._context.check_webhook_url(patch.url, field="url")
        changes = patch.model_dump(exclude_unset=True)
        if not changes:
            return await self.show(request)
        endpoint = await self._context.documents.endpoints.update(endpoint_id, **changes)
        if endpoint is None:
            raise _unknown_webhook()
        _log.info("endpoint.changed", endpoint_id=endpoint_id, fields=sorted(changes), enabled=endpoint.enabled)
        return json_answer(webhook_of(endpoint))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Removes the endpoint with its secrets; what is queued for it is not sent."""
        endpoint_id = path_of(request, EndpointPath).endpoint_id
        if not await self._context.documents.endpoints.delete(endpoint_id):
            raise _unknown_webhook()
        _log.info("endpoint.deleted", endpoint_id=endpoint_id)
        return web.Response(status=204)

    async def rotate(self, request: web.Request) -> web.StreamResponse:
        """Answers with the endpoint and its new secret; 409 when it has been rotated too often of late."""
        endpoint_id = path_of(request, EndpointPath).endpoint_id
        overlap_seconds = (await json_or_nothing_of(request, RotateBody)).overlap_seconds
        if overlap_seconds is None:
            overlap_seconds = self._context.settings.webhook_overlap_seconds
        try:
            endpoint = await self._context.documents.endpoints.rotate(endpoint_id, overlap_seconds=overlap_seconds)
        except TooManySecretsError as error:
            detail = f"{error}; rotate again when one has expired, or with an overlap_seconds of 0"
            raise ProblemError(409, "too_many_secrets", detail) from error
        if endpoint is None:
            raise _unknown_webhook()
        _log.info("endpoint.rotated", endpoint_id=endpoint_id, overlap_seconds=overlap_seconds)
        return json_answer(webhook_with_secret_of(endpoint))

    async def test(self, request: web.Request) -> web.StreamResponse:
        """Queues a test event for the endpoint alone; 409 when it is disabled."""
        endpoint = await self._endpoint(request)
        if endpoint.disabled is not None:
            detail = f"nothing is sent to it ({endpoint.disabled.reason}); enable it first"
            raise ProblemError(409, "webhook_disabled", detail)
        new = _test_event(endpoint, trace.accept(request.headers.get("traceparent")))
        await self._context.documents.deliveries.queue([new])
        _log.info("endpoint.tested", endpoint_id=endpoint.id, webhook_id=new.webhook_id)
        return json_answer(SentTest(delivery_id=new.webhook_id), status=202)

    async def _endpoint(self, request: web.Request) -> Endpoint:
        endpoint = await self._context.documents.endpoints.get(path_of(request, EndpointPath).endpoint_id)
        if endpoint is None:
            raise _unknown_webhook()
        return endpoint


def _test_event(endpoint: Endpoint, traceparent: str) -> NewDelivery:
    """Of no request, and one more each time it is asked for."""
    now = time.time()
    timestamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = {"type": TEST_EVENT, "timestamp": timestamp, "data": {"endpoint_id": endpoint.id}}
    return NewDelivery(
        request_id=None,
        event=TEST_EVENT,
        url=endpoint.url,
        body=json.dumps(body, separators=(",", ":")),
        trace=traceparent,
        rank=now,
        endpoint_id=endpoint.id,
        about=uuid4().hex,
    )


def _unknown_webhook() -> ProblemError:
    return ProblemError(404, "unknown_webhook", "there is no webhook endpoint of this id")
