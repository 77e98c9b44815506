"""GET /api/status: how far a request has got, row by row, without ever holding all rows."""

import json
from collections.abc import AsyncIterator
from typing import Any

import structlog
from aiohttp import web

from libs.documents import Counts, Documents, Output, Request, Row
from services.ingest.context import Context
from services.ingest.models import RequestStatus, StatusQuery
from services.ingest.parameters import query_of
from services.ingest.problems import ProblemError

_CHUNK = 64 * 1024

_log = structlog.get_logger()


class Status:
    """Tells clients how their requests stand."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Streams the status; waits for a client that reads slowly.

        When MongoDB fails in the middle, the connection is broken off, so that the client sees that a part is missing.
        """
        query = query_of(request, StatusQuery)
        documents = self._context.documents
        found = await documents.requests.get(query.request_id)
        if found is None:
            raise unknown_request()
        head = _head(found, await _counts(documents, found))
        if not query.details or request.method == "HEAD":
            return web.Response(text=head, content_type="application/json")
        answer = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        try:
            await answer.prepare(request)
            async for chunk in self._chunks(head, documents, found, query):
                await answer.write(chunk)
            await answer.write_eof()
        except ConnectionError:
            _log.info("status.client_gone", request_id=found.id)
        except Exception:  # noqa: BLE001 (logged; the answer has begun, so breaking it off is all that is left)
            _log.exception("status.broken_off", request_id=found.id)
            if request.transport is not None:
                request.transport.abort()
        return answer

    async def _chunks(
        self, head: str, documents: Documents, found: Request, query: StatusQuery
    ) -> AsyncIterator[bytes]:
        parts = [head.removesuffix("}"), ',"details":[']
        size = 0
        separator = ""
        async for row in documents.images.rows(found.id, found.total, offset=query.offset, limit=query.limit):
            text = separator + self._row(row, with_facts=query.facts)
            separator = ","
            parts.append(text)
            size += len(text)
            if size >= _CHUNK:
                yield "".join(parts).encode()
                parts, size = [], 0
        yield ("".join(parts) + "]}").encode()

    def _row(self, row: Row, *, with_facts: bool) -> str:
        # Plain dictionaries, since a million models take minutes; a test holds them against `RowStatus`.
        outputs = [self._context.output_url(image.output.name) if image.output else None for image in row.images]
        details: dict[str, Any] = {
            "serial_number": row.serial_number,
            "product_name": row.product_name,
            "input_image_urls": [image.url for image in row.images],
            "output_image_urls": outputs,
            "errors": [
                {"position": position, "code": image.error.code, "detail": image.error.detail}
                for position, image in enumerate(row.images)
                if image.error is not None
            ],
        }
        if with_facts:
            details["facts"] = [_facts(image.output) if image.output else None for image in row.images]
        return json.dumps(details, ensure_ascii=False, separators=(",", ":"))


def _facts(output: Output) -> dict[str, Any]:
    facts = output.facts()
    return {"bytes_in": facts.pop("source_bytes"), "bytes_out": facts.pop("bytes"), **facts}


def unknown_request() -> ProblemError:
    """There is no such request."""
    return ProblemError(404, "unknown_request", "there is no request of this id")


async def _counts(documents: Documents, request: Request) -> Counts:
    return request.counts or await documents.progress.total(request.id)


def _head(request: Request, counts: Counts) -> str:
    status = RequestStatus.model_validate(
        {
            "request_id": request.id,
            "status": request.status,
            "created_at": request.created_at,
            "completed_at": request.completed_at,
            "total": request.total,
            **counts.document(),
            "pending": max(0, request.total - counts.finished),
        }
    )
    return status.model_dump_json(exclude={"details"})
