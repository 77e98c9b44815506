"""The shapes of the HTTP interface: they validate what comes in, and the OpenAPI document is generated from them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

from libs.imaging.options import RequestOptions
from services.ingest.catalogue import MOST_PROBLEMS
from services.ingest.shapes import Strict, matching, without_default
from services.ingest.urls import LONGEST_URL

EXAMPLE_ID = "2f1c5a3e-8d6b-4c57-9a34-0e9f7b1d2c48"
EXAMPLE_IMAGE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08.jpg"


def _lower(value: str) -> str:
    return value.lower()


def _only_json_booleans(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_HTTP = r"^[hH][tT][tT][pP][sS]?://"

RequestId = Annotated[
    str,
    Field(
        description="The request's id, a UUID.",
        examples=[EXAMPLE_ID],
        json_schema_extra={"pattern": _UUID, "minLength": 36, "maxLength": 36},
    ),
    matching(_UUID, f"must be a UUID such as {EXAMPLE_ID}"),
    AfterValidator(_lower),
]
ImageName = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}\.[a-z0-9]{1,8}$",
        min_length=66,
        max_length=73,
        description="The image's name: the SHA-256 of its bytes and an extension.",
        examples=[EXAMPLE_IMAGE],
    ),
]
WebhookUrl = Annotated[
    str,
    Field(
        max_length=LONGEST_URL,
        description="An http or https URL that is called when the request is done. Empty: none.",
        examples=["https://shop.example/hooks/darkroom"],
        json_schema_extra={"pattern": _HTTP, "format": "uri"},
    ),
    matching(_HTTP, "must start with http:// or https://"),
]
Status = Literal["pending", "processing", "completed", "completed_with_errors", "failed", "cancelled"]


# --- what comes in ---------------------------------------------------------------------------------------------------
class _File(Strict):
    file: bytes = Field(
        description=(
            "The CSV with the header `S. No.,Product Name,Input Image Urls`, in UTF-8 or UTF-16, delimited by comma, "
            "semicolon or tab. All from the third column on is URLs; a comma parts two URLs only where `http://` or "
            "`https://` follows it."
        ),
        json_schema_extra={"format": "binary", "contentMediaType": "text/csv"},
    )


class _Webhook(Strict):
    webhook_url: WebhookUrl | SkipJsonSchema[None] = Field(default=None, json_schema_extra=without_default)


class UploadFields(RequestOptions, _Webhook):
    """What an upload's form has beside the file; an empty field counts as none."""


class UploadForm(UploadFields, _File):
    """A catalogue of products and their images, and how these are to be compressed."""


class StatusQuery(Strict):
    """What of a request's status is wanted."""

    request_id: RequestId
    limit: Annotated[int, Field(ge=1, le=2**31 - 1)] | SkipJsonSchema[None] = Field(
        default=None,
        description="Most rows in `details`. Default: all.",
        examples=[100],
        json_schema_extra=without_default,
    )
    offset: int = Field(default=0, ge=0, le=2**31 - 1, description="Rows to leave out at the start of `details`.")
    details: Annotated[bool, BeforeValidator(_only_json_booleans)] = Field(
        default=True, description="`false` leaves `details` out."
    )
    facts: Annotated[bool, BeforeValidator(_only_json_booleans)] = Field(
        default=False, description="`true` adds what is known of each compressed image to `details`."
    )


class RequestPath(Strict):
    """Which request."""

    id: RequestId


class ImagePath(Strict):
    """Which image."""

    name: ImageName


# --- what goes out ---------------------------------------------------------------------------------------------------
class Accepted(Strict):
    """The upload is stored durably; its images are compressed from now on."""

    request_id: RequestId
    status: Literal["pending"] = "pending"


class ImageError(Strict):
    """Why an image failed."""

    position: int = Field(ge=0, description="Its index in `input_image_urls`, from 0.")
    code: str = Field(description="A stable reason code.", examples=["http_404"])
    detail: str = Field(description="What happened, for people.")


class ImageFacts(Strict):
    """What is known of a compressed image."""

    bytes_in: int = Field(ge=0, description="Bytes of the source.")
    bytes_out: int = Field(ge=0, description="Bytes of the compressed image.")
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    format: str = Field(examples=["jpeg"])
    quality: int | None = Field(description="The quality used; null where the source was kept or nothing is lost.")
    kept: bool = Field(description="The source's own compressed data was kept, without its metadata.")
    animated: bool = Field(description="The source has more frames; this is the first.")
    larger_than_source: bool = Field(description="Another format, size or turn made it larger than its source.")
    target_missed: bool = Field(description="No quality reaches the bytes that were asked for; this is the smallest.")
    source_format: str = Field(examples=["png"])
    source_width: int = Field(ge=0, description="As it is stored, before it is turned upright.")
    source_height: int = Field(ge=0)
    reused: bool = Field(description="The same bytes had been compressed with the same options before.")
    milliseconds: dict[str, int] = Field(
        description=(
            "Time by stage: `queue` (from upload to claim), `download`, `decode`, `encode`, `store`; the last three "
            "not where it is reused."
        ),
        examples=[{"queue": 40, "download": 210, "decode": 12, "encode": 9, "store": 3}],
    )


class RowStatus(Strict):
    """One row of the catalogue."""

    serial_number: int
    product_name: str
    input_image_urls: list[str]
    output_image_urls: list[str | None] = Field(
        description="Aligned with `input_image_urls`; null while an image is pending and when it failed."
    )
    errors: list[ImageError] = Field(description="The images that failed.")
    facts: list[ImageFacts | None] | SkipJsonSchema[None] = Field(
        default=None,
        description="With `facts=true`: aligned with `input_image_urls`; null where `output_image_urls` is.",
        json_schema_extra=without_default,
    )


class RequestStatus(Strict):
    """How far a request has got."""

    request_id: RequestId
    status: Status
    created_at: datetime
    completed_at: datetime | None
    total: int = Field(ge=1, description="Images in the request.")
    completed: int = Field(ge=0)
    failed: int = Field(ge=0)
    cancelled: int = Field(ge=0)
    pending: int = Field(ge=0, description="Images that are not in a final state.")
    bytes_in: int = Field(ge=0, description="Bytes of the sources compressed so far.")
    bytes_out: int = Field(ge=0, description="Bytes of the compressed images.")
    details: list[RowStatus] | SkipJsonSchema[None] = Field(
        default=None,
        description="The rows in the order of the file; absent with `details=false`.",
        json_schema_extra=without_default,
    )


class Cancelled(Strict):
    """The request as it stands after the cancellation."""

    request_id: RequestId
    status: Status


class WebhookTestAnswer(Strict):
    """What was received."""

    message: Literal["Webhook received"] = "Webhook received"
    received_payload: Any = Field(alias="receivedPayload", description="The body, as it was sent.")


# --- what went wrong (RFC 9457) --------------------------------------------------------------------------------------
class Problem(BaseModel):
    """An error, by RFC 9457."""

    type: Literal["about:blank"] = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field(description="What is wrong and what to do.", examples=["there is no request of this id"])
    code: str = Field(description="A stable code for programs.", examples=["unknown_request"])


class CatalogueProblem(BaseModel):
    """One thing that is wrong with the CSV."""

    line: int = Field(ge=1, description="The line of the file where the row starts, from 1.", examples=[2])
    column: int | None = Field(ge=1, description="The column, from 1; null when it is the line as a whole.")
    detail: str = Field(examples=["“one” is not an integer"])


class InvalidRequest(Problem):
    """What was sent cannot be accepted; for a bad CSV (`invalid_csv`, `no_images`) with the places."""

    problems: Annotated[list[CatalogueProblem], Field(max_length=MOST_PROBLEMS)] | SkipJsonSchema[None] = Field(
        default=None,
        description=f"The first {MOST_PROBLEMS} problems of the CSV.",
        json_schema_extra=without_default,
    )
