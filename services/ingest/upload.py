"""POST /api/upload: a catalogue in, a request id out once everything is durable."""

import sqlite3
from uuid import UUID, uuid4

import structlog
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from libs.documents import NewRequest, UploadInterruptedError
from libs.egress import EgressError
from libs.runtime import metrics, trace
from services.ingest.catalogue import Catalogue, InvalidCatalogueError, TooManyImagesError
from services.ingest.context import Context
from services.ingest.form import FormReader, ReceivedForm, check_length
from services.ingest.models import Accepted, WebhookUrl
from services.ingest.problems import ProblemError
from services.ingest.spool import Spool

_log = structlog.get_logger()
_WEBHOOK_URL: TypeAdapter[str] = TypeAdapter(WebhookUrl)


class Upload:
    """Receives uploads."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers 200 only after a majority write of all of it; otherwise nothing is stored."""
        request_id = uuid4()
        traceparent = trace.accept(request.headers.get("traceparent"))
        with structlog.contextvars.bound_contextvars(request_id=str(request_id), trace_id=trace.trace_id(traceparent)):
            try:
                await self._accept(request, request_id, traceparent)
            except ProblemError as error:
                metrics.UPLOADS.labels(error.code).inc()
                _log.info("upload.refused", status=error.status, code=error.code, detail=error.detail[:300])
                raise
            except Exception:
                metrics.UPLOADS.labels("error").inc()
                raise
        metrics.UPLOADS.labels("accepted").inc()
        return web.Response(
            text=Accepted(request_id=str(request_id)).model_dump_json(), content_type="application/json"
        )

    def check_headers(self, request: web.Request) -> None:
        """Refuses by its headers what need not be sent (`Expect: 100-continue`)."""
        try:
            check_length(request, self._context.settings)
        except ProblemError as error:
            metrics.UPLOADS.labels(error.code).inc()
            raise

    async def _accept(self, request: web.Request, request_id: UUID, traceparent: str) -> None:
        documents = self._context.documents
        settings = self._context.settings
        with Spool() as spool:
            catalogue = Catalogue(self._context.policy, spool, max_images=settings.max_images)
            try:
                form = await FormReader(request, settings, catalogue).read()
            except sqlite3.OperationalError as error:
                _log.exception("upload.spool_failed")
                detail = "the service has no room to check the file now; try again later"
                raise ProblemError(507, "spool_failed", detail, closes=True) from error
            except InvalidCatalogueError as error:
                raise ProblemError.of_catalogue(error) from error
            except TooManyImagesError as error:
                detail = f"the file lists more than {settings.max_images:,} images (DARKROOM_MAX_IMAGES)"
                raise ProblemError(413, "too_many_images", detail, closes=True) from error
            new = NewRequest(
                webhook_url=self._webhook_url(form),
                filename=form.filename,
                bytes=form.bytes,
                sha256=form.sha256,
                total=spool.images,
                trace=traceparent,
            )
            try:
                await documents.requests.accept(new, spool.batches(), request_id)
            except UploadInterruptedError as error:
                detail = "the upload could not be stored in time and was dropped; send it again"
                raise ProblemError(503, "upload_interrupted", detail, headers={"Retry-After": "5"}) from error
            _log.info("upload.accepted", rows=spool.rows, images=spool.images, bytes=form.bytes)
            metrics.UPLOAD_IMAGES.inc(spool.images)
            metrics.UPLOAD_BYTES.inc(form.bytes)

    def _webhook_url(self, form: ReceivedForm) -> str | None:
        if form.webhook_url is None:
            return None
        try:
            _WEBHOOK_URL.validate_python(form.webhook_url)
            self._context.policy.check_url(form.webhook_url)
        except ValidationError as error:
            raise ProblemError(422, "invalid_parameters", f"webhook_url: {error.errors()[0]['msg']}") from error
        except EgressError as error:
            raise ProblemError(422, "invalid_webhook_url", f"webhook_url: {error.detail}") from error
        return form.webhook_url
