"""The operations of the API."""

from services.ingest.cancellation import Cancellation
from services.ingest.context import Context
from services.ingest.delivery_routes import delivery_operations
from services.ingest.images import Images
from services.ingest.models import (
    EXAMPLE_ID,
    EXAMPLE_IMAGE,
    Accepted,
    Cancelled,
    ImagePath,
    RequestPath,
    RequestStatus,
    StatusQuery,
    UploadForm,
    WebhookTestAnswer,
)
from services.ingest.operations import Answer, Body, Operation
from services.ingest.refusals import UNAVAILABLE
from services.ingest.status import Status
from services.ingest.upload import Upload
from services.ingest.webhook_routes import webhook_operations
from services.ingest.webhook_test import receive

_EXAMPLE_STATUS = {
    "request_id": EXAMPLE_ID,
    "status": "completed_with_errors",
    "created_at": "2026-01-31T12:00:00.000Z",
    "completed_at": "2026-01-31T12:00:04.250Z",
    "total": 2,
    "completed": 1,
    "failed": 1,
    "cancelled": 0,
    "pending": 0,
    "bytes_in": 204800,
    "bytes_out": 61440,
    "details": [
        {
            "serial_number": 1,
            "product_name": "SKU1",
            "input_image_urls": ["https://picsum.photos/200/300", "https://picsum.photos/missing"],
            "output_image_urls": [f"http://127.0.0.1:8000/compressed_images/{EXAMPLE_IMAGE}", None],
            "errors": [{"position": 1, "code": "http_404", "detail": "picsum.photos answered 404"}],
        }
    ],
}


def operations(context: Context) -> list[Operation]:
    """Every operation, bound to what it works with."""
    upload = Upload(context)
    return [
        Operation(
            method="POST",
            path="/api/upload",
            handler=upload.handle,
            check_headers=upload.check_headers,
            name="upload",
            tag="requests",
            summary="Upload a catalogue",
            description=(
                "Takes a CSV of products and image URLs. The answer is sent once everything is stored durably. A CSV "
                "with anything wrong in it is refused whole. The header `traceparent` (W3C) travels to the webhook."
            ),
            body=Body("multipart/form-data", UploadForm),
            answers={200: Answer("Accepted.", Accepted, {"request_id": EXAMPLE_ID, "status": "pending"})},
            problems={
                400: "The body is cut or malformed.",
                408: "The body came too slowly.",
                413: "The file is too large, or lists too many images.",
                415: "The body is no multipart form.",
                422: "The form or the CSV in it is not valid.",
                503: "The database does not answer, or too many uploads are being read.",
                507: "There is no room to check the file.",
            },
        ),
        Operation(
            method="GET",
            path="/api/status",
            handler=Status(context).handle,
            name="status",
            tag="requests",
            summary="Status of a request",
            description="Progress counts, and each row with its output URLs. Rows and URLs keep the order of the file.",
            query=StatusQuery,
            answers={200: Answer("The status.", RequestStatus, _EXAMPLE_STATUS)},
            problems={404: "There is no such request.", 422: "A parameter is not valid.", **UNAVAILABLE},
        ),
        Operation(
            method="DELETE",
            path="/api/requests/{id}",
            handler=Cancellation(context).handle,
            name="cancel",
            tag="requests",
            summary="Cancel a request",
            description="Cancels the images that have not finished; what is done stays.",
            variables=RequestPath,
            answers={200: Answer("Cancelled.", Cancelled, {"request_id": EXAMPLE_ID, "status": "cancelled"})},
            problems={
                404: "There is no such request.",
                409: "The request is in a final state.",
                422: "The id is malformed.",
                **UNAVAILABLE,
            },
        ),
        *webhook_operations(context),
        Operation(
            method="POST",
            path="/api/webhook-test",
            handler=receive,
            name="webhook_test",
            tag="webhooks",
            summary="Try a webhook",
            description="Answers with whatever JSON it receives.",
            body=Body("application/json", None, {"request_id": EXAMPLE_ID, "status": "completed"}),
            answers={
                200: Answer(
                    "Received.",
                    WebhookTestAnswer,
                    {
                        "message": "Webhook received",
                        "receivedPayload": {"request_id": EXAMPLE_ID, "status": "completed"},
                    },
                )
            },
            problems={
                400: "The body is cut.",
                413: "The body is larger than a mebibyte.",
                415: "The body is not sent as JSON.",
                422: "The body is no JSON.",
            },
        ),
        *delivery_operations(context),
        Operation(
            method="GET",
            path="/compressed_images/{name}",
            handler=Images(context).handle,
            name="image",
            tag="images",
            summary="A compressed image",
            description="Names are content hashes, so an image may be cached for ever.",
            variables=ImagePath,
            answers={
                200: Answer("The image.", media_types=("image/jpeg", "image/png", "image/webp", "image/avif")),
                206: Answer(
                    "The part that `Range` asks for.",
                    media_types=("image/jpeg", "image/png", "image/webp", "image/avif"),
                ),
                304: Answer("The client has the image already (`If-None-Match`).", media_types=()),
                412: Answer("The image is not the one of `If-Match`.", media_types=()),
                416: Answer("`Range` lies outside the image.", media_types=()),
            },
            problems={404: "There is no such image."},
        ),
    ]
