"""DELETE /api/requests/{id}: cancels what has not finished."""

import structlog
from aiohttp import web

from libs.documents import AlreadyFinalError
from services.ingest.context import Context
from services.ingest.models import Cancelled, RequestPath
from services.ingest.parameters import path_of
from services.ingest.problems import ProblemError
from services.ingest.status import unknown_request

_log = structlog.get_logger()


class Cancellation:
    """Cancels requests."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers 200 with the status, 404 for an unknown request and 409 for one in a final state."""
        request_id = path_of(request, RequestPath).id
        try:
            cancelled = await self._context.documents.requests.cancel(request_id)
        except AlreadyFinalError as error:
            detail = f"the request is {error.status} and cannot be cancelled"
            raise ProblemError(409, "already_final", detail) from error
        if cancelled is None:
            raise unknown_request()
        _log.info("request.cancelled", request_id=request_id)
        body = Cancelled.model_validate({"request_id": cancelled.id, "status": cancelled.status})
        return web.Response(text=body.model_dump_json(), content_type="application/json")
