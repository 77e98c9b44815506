"""The operations on standing webhook endpoints."""

from typing import Any

from services.ingest.context import Context
from services.ingest.operations import Answer, Body, Operation
from services.ingest.refusals import JSON_BODY, UNAVAILABLE, of_one
from services.ingest.webhook_models import (
    EXAMPLE_ENDPOINT,
    EXAMPLE_MESSAGE,
    EndpointPath,
    NewWebhook,
    RotateBody,
    SentTest,
    Webhook,
    WebhookPatch,
    Webhooks,
    WebhooksQuery,
    WebhookWithSecret,
)
from services.ingest.webhooks import Subscriptions

_SAID: dict[str, Any] = {
    "url": "https://shop.example/hooks/darkroom",
    "events": ["request.completed", "request.failed"],
    "description": "Orders, production",
    "rate_limit": 10,
    "enabled": True,
}
_EXAMPLE: dict[str, Any] = {
    "id": EXAMPLE_ENDPOINT,
    **_SAID,
    "header_names": ["Authorization"],
    "disabled": None,
    "secrets": [{"prefix": "whsec_MfKQ", "created_at": "2026-01-31T12:00:00.000Z", "expires_at": None}],
    "failing_since": None,
    "created_at": "2026-01-31T12:00:00.000Z",
    "updated_at": "2026-01-31T12:00:00.000Z",
}
_WITH_SECRET = {**_EXAMPLE, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_OF_ONE = of_one("endpoint")


def webhook_operations(context: Context) -> list[Operation]:
    """Every operation on standing endpoints, bound to what it works with."""
    webhooks = Subscriptions(context)
    return [
        Operation(
            method="POST",
            path="/api/webhooks",
            handler=webhooks.create,
            name="create_webhook",
            tag="webhooks",
            summary="Subscribe an endpoint",
            description=(
                "From now on it is told of the events it wants, signed with a secret of its own, which only this "
                "answer shows."
            ),
            body=Body("application/json", NewWebhook, {**_SAID, "headers": {"Authorization": "Bearer 5f1c8a3e"}}),
            answers={201: Answer("Subscribed.", WebhookWithSecret, _WITH_SECRET)},
            problems={**JSON_BODY, 409: "There are 1,000 endpoints already.", **UNAVAILABLE},
        ),
        Operation(
            method="GET",
            path="/api/webhooks",
            handler=webhooks.page,
            name="webhooks",
            tag="webhooks",
            summary="List the endpoints",
            description="The newest first, page by page.",
            query=WebhooksQuery,
            answers={200: Answer("A page.", Webhooks, {"webhooks": [_EXAMPLE], "next": None})},
            problems={422: "A parameter is not valid.", **UNAVAILABLE},
        ),
        Operation(
            method="GET",
            path="/api/webhooks/{endpoint_id}",
            handler=webhooks.show,
            name="webhook",
            tag="webhooks",
            summary="An endpoint",
            description="Without its secrets and the values of its headers.",
            variables=EndpointPath,
            answers={200: Answer("The endpoint.", Webhook, _EXAMPLE)},
            problems=_OF_ONE,
        ),
        Operation(
            method="PATCH",
            path="/api/webhooks/{endpoint_id}",
            handler=webhooks.change,
            name="change_webhook",
            tag="webhooks",
            summary="Change an endpoint",
            description=(
                "What is given replaces what was, `headers` as a whole. `enabled` turns one on again that was "
                "disabled, for whatever reason."
            ),
            variables=EndpointPath,
            body=Body("application/json", WebhookPatch, {"enabled": True}),
            answers={200: Answer("The endpoint as it is now.", Webhook, _EXAMPLE)},
            problems={**_OF_ONE, **JSON_BODY},
        ),
        Operation(
            method="DELETE",
            path="/api/webhooks/{endpoint_id}",
            handler=webhooks.delete,
            name="delete_webhook",
            tag="webhooks",
            summary="Remove an endpoint",
            description="With its secrets. What is queued for it is not sent any more.",
            variables=EndpointPath,
            answers={204: Answer("Removed.", media_types=())},
            problems=_OF_ONE,
        ),
        Operation(
            method="POST",
            path="/api/webhooks/{endpoint_id}/rotate",
            handler=webhooks.rotate,
            name="rotate_webhook",
            tag="webhooks",
            summary="Give an endpoint a new secret",
            description=(
                "Only this answer shows it. The one before goes on signing beside it until its `expires_at`, so that "
                "receivers can change over meanwhile; with an `overlap_seconds` of 0, the new one alone signs from "
                "now on."
            ),
            variables=EndpointPath,
            body=Body("application/json", RotateBody, {"overlap_seconds": 3600}, required=False),
            answers={200: Answer("The endpoint with its new secret.", WebhookWithSecret, _WITH_SECRET)},
            problems={**_OF_ONE, **JSON_BODY, 409: "Five of its secrets sign already."},
        ),
        Operation(
            method="POST",
            path="/api/webhooks/{endpoint_id}/test",
            handler=webhooks.test,
            name="test_webhook",
            tag="webhooks",
            summary="Send a test event",
            description="Queues one delivery of type `webhook.test` for this endpoint alone, whatever events it wants.",
            variables=EndpointPath,
            answers={202: Answer("Queued.", SentTest, {"delivery_id": EXAMPLE_MESSAGE})},
            problems={**_OF_ONE, 409: "The endpoint is disabled."},
        ),
    ]
