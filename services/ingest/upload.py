"""POST /api/upload: a catalogue in, a request id out once everything is durable."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID, uuid4

import structlog
from aiohttp import web

from libs.documents import Documents, NewRequest, UploadInterruptedError
from libs.runtime import metrics, trace
from services.ingest.catalogue import InvalidCatalogueError, TooManyImagesError
from services.ingest.context import Context
from services.ingest.form import FormReader, ReceivedForm, check_length
from services.ingest.models import Accepted
from services.ingest.problems import ProblemError
from services.ingest.reading import Reading

_log = structlog.get_logger()


class Upload:
    """Receives uploads, at most `DARKROOM_UPLOADS` at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._running = 0
        # Of its own: the default one serves files, and must not wait for a catalogue.
        self._threads = ThreadPoolExecutor(context.settings.uploads, "upload")

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
            self._check_room()
        except ProblemError as error:
            metrics.UPLOADS.labels(error.code).inc()
            raise

    async def _accept(self, request: web.Request, request_id: UUID, traceparent: str) -> None:
        documents = self._context.documents
        settings = self._context.settings
        with self._room():
            async with Reading(self._threads, self._context.policy, max_images=settings.max_images) as reading:
                form = await self._receive(FormReader(request, settings, reading))
                await self._store(documents, form, request_id, traceparent)

    async def _receive(self, reader: FormReader) -> ReceivedForm:
        try:
            return await reader.read()
        except sqlite3.OperationalError as error:
            _log.exception("upload.spool_failed")
            detail = "the service has no room to check the file now; try again later"
            raise ProblemError(507, "spool_failed", detail, closes=True) from error
        except InvalidCatalogueError as error:
            raise ProblemError.of_catalogue(error) from error
        except TooManyImagesError as error:
            detail = f"the file lists more than {self._context.settings.max_images:,} images (DARKROOM_MAX_IMAGES)"
            raise ProblemError(413, "too_many_images", detail, closes=True) from error

    async def _store(self, documents: Documents, form: ReceivedForm, request_id: UUID, traceparent: str) -> None:
        catalogue, spool = form.catalogue, form.catalogue.spool
        new = NewRequest(
            webhook_url=self._webhook_url(form),
            filename=form.filename,
            bytes=catalogue.bytes,
            sha256=catalogue.sha256,
            total=spool.images,
            trace=traceparent,
            options=form.fields.to_document(),
        )
        try:
            await documents.requests.accept(new, spool.batches(), request_id)
        except UploadInterruptedError as error:
            detail = "the upload could not be stored in time and was dropped; send it again"
            raise ProblemError(503, "upload_interrupted", detail, headers={"Retry-After": "5"}) from error
        _log.info("upload.accepted", rows=spool.rows, images=spool.images, bytes=catalogue.bytes)
        metrics.UPLOAD_IMAGES.inc(spool.images)
        metrics.UPLOAD_BYTES.inc(catalogue.bytes)

    @contextmanager
    def _room(self) -> Iterator[None]:
        self._check_room()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def _check_room(self) -> None:
        if self._running >= self._context.settings.uploads:
            detail = f"{self._running} uploads are being read already (DARKROOM_UPLOADS); try again"
            raise ProblemError(503, "too_many_uploads", detail, headers={"Retry-After": "5"}, closes=True)

    def _webhook_url(self, form: ReceivedForm) -> str | None:
        url = form.fields.webhook_url
        if url is not None:
            self._context.check_webhook_url(url, field="webhook_url")
        return url
