"""Every error as `application/problem+json` (RFC 9457), never with a traceback."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web
from pydantic import ValidationError
from pymongo.errors import ConnectionFailure, PyMongoError, WriteConcernError

from services.ingest.catalogue import CellProblem, InvalidCatalogueError
from services.ingest.models import CatalogueProblem, InvalidRequest, Problem

CONTENT_TYPE = "application/problem+json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = structlog.get_logger()


class ProblemError(Exception):
    """The request is answered with this problem.

    `closes` ends the connection, for requests whose body will not be read.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        closes: bool = False,
        problems: Sequence[CellProblem] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail.encode(errors="replace").decode()  # may quote what is no Unicode
        self.headers = dict(headers or {})
        self.closes = closes
        self.problems = problems

    @classmethod
    def of_catalogue(cls, error: InvalidCatalogueError) -> "ProblemError":
        """The refusal of a CSV."""
        first = error.problems[0]
        others = len(error.problems) - 1
        more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
        return cls(422, error.code, f"line {first.line}: {first.detail}{more}", problems=error.problems, closes=True)

    @classmethod
    def of_validation(cls, error: ValidationError, *, closes: bool = False) -> "ProblemError":
        """The refusal of parameters, with a sentence for each that is wrong."""
        details = []
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            if problem["type"] == "none_required":  # that a field may be left out is no news of the value it has
                continue
            said = problem["msg"].removeprefix("Value error, ")
            details.append(": ".join([*(str(part) for part in problem["loc"][:1]), said]))
        return cls(422, "invalid_parameters", "; ".join(details), closes=closes)

    def response(self) -> web.Response:
        """The problem as an answer."""
        title = HTTPStatus(self.status).phrase
        fields: dict[str, Any] = {"title": title, "status": self.status, "detail": self.detail, "code": self.code}
        problem: Problem
        if self.problems:
            places = [
                CatalogueProblem(line=place.line, column=place.column, detail=place.detail) for place in self.problems
            ]
            problem = InvalidRequest(**fields, problems=places)
        else:
            problem = Problem(**fields)
        answer = web.Response(
            text=problem.model_dump_json(), status=self.status, content_type=CONTENT_TYPE, headers=self.headers
        )
        if self.closes:
            answer.force_close()
        return answer


def of_http(error: web.HTTPException) -> ProblemError:
    """The problem that stands for one of aiohttp's own errors, such as 404 and 405."""
    kept = {name: error.headers[name] for name in ("Allow", "Retry-After", "Content-Range") if name in error.headers}
    status = HTTPStatus(error.status)
    details = {404: "nothing is served at this path", 405: f"allowed here: {kept.get('Allow', '')}"}
    return ProblemError(
        error.status,
        status.phrase.lower().replace(" ", "_"),
        details.get(error.status, status.description or status.phrase),
        headers=kept,
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever a handler raises into a problem. A broken connection stays one: nobody reads the answer."""
    try:
        return await handler(request)
    except ProblemError as error:
        return error.response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return of_http(error).response()
    except ConnectionError:
        raise
    except PyMongoError as error:
        if not _is_passing(error):
            return _defect(request)
        _log.warning("http.database_unavailable", path=request.path, error=repr(error)[:300])
        return ProblemError(
            503, "database_unavailable", "the database does not answer; try again", headers={"Retry-After": "5"}
        ).response()
    except Exception:  # noqa: BLE001 (logged with its cause; the client gets a problem, not a traceback)
        return _defect(request)


def _is_passing(error: PyMongoError) -> bool:
    """Whether MongoDB did not answer, or not as a primary, or not in time: what trying again may mend."""
    return (
        isinstance(error, ConnectionFailure | WriteConcernError)
        or error.timeout
        or any(error.has_error_label(label) for label in ("RetryableWriteError", "TransientTransactionError"))
    )


def _defect(request: web.Request) -> web.Response:
    """The answer to the exception that is being handled, which is logged."""
    _log.exception("http.failed", method=request.method, path=request.path)
    return ProblemError(500, "internal_error", "this is a defect of the service; its log has the cause").response()
