"""A client of Darkroom's HTTP interface."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
from pydantic import BaseModel
from yarl import URL

FINAL = frozenset({"completed", "completed_with_errors", "failed", "cancelled"})
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0
_ANSWER_SECONDS = 3600.0  # an upload is answered after the last of its images is stored
_SHOWN_PROBLEMS = 10
_PAGE = 500
_DEFAULTS: Mapping[str, str] = MappingProxyType({})


class ClientError(Exception):
    """Darkroom was not reached, or refused; the message is for people."""


class UnreachableError(ClientError):
    """Darkroom does not answer, or not now; it may later."""


class ImageError(BaseModel):
    """Why the image at `position` of its row (from 0) failed."""

    position: int
    code: str
    detail: str


class Row(BaseModel):
    """A row of the CSV; the output of an image is None while it is pending or when it failed."""

    serial_number: int
    product_name: str
    input_image_urls: list[str]
    output_image_urls: list[str | None]
    errors: list[ImageError]


class Status(BaseModel):
    """A request as the interface tells it.

    The counts are of images; the bytes are those of the completed ones. `details` are the rows that were asked for.
    """

    request_id: str
    status: str
    total: int
    completed: int
    failed: int
    cancelled: int
    bytes_in: int
    bytes_out: int
    details: list[Row] = []

    @property
    def finished(self) -> int:
        """Images that will not change any more."""
        return self.completed + self.failed + self.cancelled

    @property
    def is_final(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.status in FINAL

    @property
    def is_all_well(self) -> bool:
        """Whether it is final and every image is compressed."""
        return self.status == "completed"


class LastAttempt(BaseModel):
    """What came of the last attempt: an HTTP status, or a reason code, or both."""

    status: int | None
    error: str | None


class Delivery(BaseModel):
    """A webhook as the log tells it."""

    id: str
    request_id: str | None
    event: str
    url: str
    state: str
    created_at: datetime
    attempts_made: int
    last_attempt: LastAttempt | None


class Redelivered(BaseModel):
    """Whether a delivery was queued again, or left as it is, and its state now."""

    queued: bool
    state: str


class RedeliveredSome(BaseModel):
    """How many were queued again; with `next`, there are more to ask for."""

    queued: int
    next: str | None


class Client:
    """Speaks to the Darkroom at `base_url`; made by `connect`."""

    def __init__(self, session: aiohttp.ClientSession, base_url: URL) -> None:
        self._session = session
        self._base_url = base_url

    async def upload(
        self, csv: Path, webhook_url: str | None = None, compression: Mapping[str, str] = _DEFAULTS
    ) -> str:
        """Uploads a CSV, which is streamed from disk, and gives the request's id.

        `compression` has the form's fields that say how the images are to be compressed.
        """
        with csv.open("rb") as file:
            form = aiohttp.FormData()
            if webhook_url:
                form.add_field("webhook_url", webhook_url)
            for name, value in compression.items():
                form.add_field(name, value)
            form.add_field("file", file, filename=csv.name, content_type="text/csv")
            timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_ANSWER_SECONDS)
            async with self._call("POST", self._base_url / "api/upload", data=form, timeout=timeout) as response:
                return str((await response.json())["request_id"])

    async def status(self, request_id: str, *, offset: int = 0, limit: int = 0) -> Status:
        """The request with up to `limit` of its rows, from the one at `offset`."""
        shown = {"limit": limit, "offset": offset} if limit else {"details": "false"}
        async with self._call(
            "GET", self._base_url / "api/status", params={"request_id": request_id, **shown}
        ) as response:
            return Status.model_validate_json(await response.read())

    async def status_text(self, request_id: str) -> AsyncIterator[bytes]:
        """The whole answer about a request as it comes in, in pieces of JSON."""
        async with self._call("GET", self._base_url / "api/status", params={"request_id": request_id}) as response:
            async for piece in response.content.iter_any():
                yield piece

    async def cancel(self, request_id: str) -> str:
        """Cancels what has not finished; gives the status."""
        async with self._call("DELETE", self._base_url / "api/requests" / request_id) as response:
            return str((await response.json())["status"])

    async def deliveries(self, filters: Mapping[str, str], *, limit: int) -> AsyncIterator[list[Any]]:
        """The log of deliveries by pages, the newest first: `limit` of those that the filters leave, as JSON."""
        cursor: str | None = None
        while limit > 0:
            query = {**filters, "limit": str(min(limit, _PAGE)), **({"cursor": cursor} if cursor else {})}
            async with self._call("GET", self._base_url / "api/deliveries", params=query) as response:
                page = await response.json()
            yield page["deliveries"]
            limit, cursor = limit - len(page["deliveries"]), page["next"]
            if cursor is None:
                break

    async def redeliver(self, delivery_id: str) -> Redelivered:
        """Has a delivery sent again."""
        async with self._call("POST", self._base_url / "api/deliveries" / delivery_id / "redeliver") as response:
            return Redelivered.model_validate_json(await response.read())

    async def redeliver_some(self, filters: Mapping[str, str], cursor: str | None = None) -> RedeliveredSome:
        """Has deliveries sent again that have ended; `cursor` is the `next` of the call before."""
        body = {**filters, **({"cursor": cursor} if cursor else {})}
        async with self._call("POST", self._base_url / "api/deliveries/redeliver", json=body) as response:
            return RedeliveredSome.model_validate_json(await response.read())

    async def download(self, url: str) -> bytes:
        """A compressed image, by the URL that the status gives."""
        async with self._call("GET", URL(url)) as response:
            return await response.read()

    @asynccontextmanager
    async def _call(self, method: str, url: URL, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(method, url, **options) as response:
                if response.status >= 400:
                    error_class = UnreachableError if response.status >= 500 else ClientError
                    raise error_class(_refusal(response, await response.read()))
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            raise UnreachableError(
                f"Nothing answers at {url.origin()}: start it with `darkroom up`, or say where it is by --url."
            ) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"{url.origin()} broke off: {str(error) or type(error).__name__}.") from error


@asynccontextmanager
async def connect(base_url: str) -> AsyncIterator[Client]:
    """A client of the Darkroom at `base_url`, an http(s) URL.

    Raises:
        ClientError: here, when that is no such URL; from every method, when Darkroom is not reached or refuses.
    """
    try:
        url = URL(base_url)
        is_usable = url.scheme in {"http", "https"} and bool(url.host)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ClientError(f"{base_url!r} is no address of a Darkroom: it has to be like http://127.0.0.1:8000.")
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(session, url)


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> str:
    try:
        problem = _Problem.model_validate_json(body)
    except ValueError:
        return (
            f"{response.url.origin()} answered {response.status} {response.reason}; it does not seem to be a Darkroom."
        )
    title = f"{problem.title} ({problem.status})"
    if not problem.problems:
        return f"{title}: {problem.detail}"
    lines = [f"{title}:"]
    for place in problem.problems[:_SHOWN_PROBLEMS]:
        column = f", column {place.column}" if place.column is not None else ""
        lines.append(f"  line {place.line}{column}: {place.detail}")
    more = len(problem.problems) - _SHOWN_PROBLEMS
    if more > 0:
        lines.append(f"  … and {more} more")
    return "\n".join(lines)


class _Place(BaseModel):
    line: int
    column: int | None = None
    detail: str


class _Problem(BaseModel):
    """RFC 9457, with the places in a CSV."""

    title: str
    status: int
    detail: str = ""
    problems: list[_Place] | None = None
