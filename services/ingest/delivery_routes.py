"""The operations on the log of deliveries."""

from services.ingest.context import Context
from services.ingest.deliveries import DeliveryLog
from services.ingest.delivery_models import (
    EXAMPLE,
    EXAMPLE_ATTEMPT,
    EXAMPLE_DELIVERY,
    EXAMPLE_TIME,
    Deliveries,
    DeliveriesQuery,
    DeliveryPath,
    FullDelivery,
    RedeliverBody,
    Redelivered,
    RedeliveredSome,
)
from services.ingest.operations import Answer, Body, Operation
from services.ingest.refusals import JSON_BODY, UNAVAILABLE, of_one

_OF_ONE = of_one("delivery")
_FULL = {
    **EXAMPLE,
    "body": '{"type":"request.completed"}',
    "attempts": [
        {
            **EXAMPLE_ATTEMPT,
            "response": {"headers": [{"name": "Content-Type", "value": "text/plain"}], "body": "try again"},
        }
    ],
}


def delivery_operations(context: Context) -> list[Operation]:
    """Every operation on deliveries, bound to what it works with."""
    log = DeliveryLog(context)
    return [
        Operation(
            method="GET",
            path="/api/deliveries",
            handler=log.page,
            name="deliveries",
            tag="deliveries",
            summary="List deliveries",
            description=(
                "What became of webhooks, the newest first, page by page: what comes meanwhile moves nothing between "
                "the pages. Filters given together all hold."
            ),
            query=DeliveriesQuery,
            answers={
                200: Answer(
                    "A page.", Deliveries, {"deliveries": [{**EXAMPLE, "last_attempt": EXAMPLE_ATTEMPT}], "next": None}
                )
            },
            problems={422: "A parameter is not valid.", **UNAVAILABLE},
        ),
        Operation(
            method="GET",
            path="/api/deliveries/{delivery_id}",
            pattern="/api/deliveries/{delivery_id:(?!redeliver$)[^/]+}",
            handler=log.one,
            name="delivery",
            tag="deliveries",
            summary="A delivery",
            description="With what is sent, and every attempt with what the receiver answered.",
            variables=DeliveryPath,
            answers={200: Answer("The delivery.", FullDelivery, _FULL)},
            problems=_OF_ONE,
        ),
        Operation(
            method="POST",
            path="/api/deliveries/{delivery_id}/redeliver",
            handler=log.redeliver,
            name="redeliver",
            tag="deliveries",
            summary="Send a delivery again",
            description=(
                "Queues a delivery again that was delivered or has failed, or waits for its next try: under the same "
                "`webhook-id`, with a new timestamp, and its schedule begins anew. One that is queued already, or "
                "waits untried behind a rate limit or a silent host, stays as it is, and `queued` is false."
            ),
            variables=DeliveryPath,
            answers={
                200: Answer("As asked.", Redelivered, {"id": EXAMPLE_DELIVERY, "queued": True, "state": "delayed"})
            },
            problems={**_OF_ONE, 409: "Its endpoint is disabled or deleted."},
        ),
        Operation(
            method="POST",
            path="/api/deliveries/redeliver",
            handler=log.redeliver_some,
            name="redeliver_some",
            tag="deliveries",
            summary="Send deliveries again",
            description=(
                "Queues again all that were delivered or have failed, or with the `state` `delayed` all that wait for "
                "their next try, of those that the filters leave; filters given together all hold. Of very many a part "
                "is queued at once: while `next` is not null, call again with it as `cursor`. Nothing is queued twice "
                "by repeating a call. What would go to an endpoint that is disabled or deleted is passed over."
            ),
            body=Body("application/json", RedeliverBody, {"failed_since": EXAMPLE_TIME}),
            answers={200: Answer("As asked.", RedeliveredSome, {"queued": 12, "next": None})},
            problems={**JSON_BODY, **UNAVAILABLE},
        ),
    ]
