"""What came back from an outbound request, and how its status and body are judged."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO

from aiohttp import ClientResponse
from aiohttp.connector import Connection

from .errors import EgressError
from .retry_after import retry_after_seconds

_TRANSIENT = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_CONTENT_RANGE = re.compile(r"bytes 0-([0-9]{1,15})/([0-9]{1,15})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Download:
    """A whole body, the URL it came from in the end, and the media type its server claims (may be empty)."""

    body: bytes
    url: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a POST, whatever its status.

    `headers` are case-insensitive. `body` is what arrived in time of the first 16 KiB, as sent. `remote_address` is the
    address that answered. `broken`: the connection failed in the middle of the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    remote_address: str
    broken: bool = False

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the receiver asks to wait before the next attempt; None: it does not ask, or in nonsense."""
        return retry_after_seconds(self.headers)


class PeerResponse(ClientResponse):
    """A response that remembers who answered, since aiohttp lets go of the connection as soon as the body is there."""

    remote_address = ""

    async def start(self, connection: Connection) -> ClientResponse:
        """Notes the other end, then reads the header section."""
        transport = connection.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        self.remote_address = str(peer[0]) if peer else ""
        return await super().start(connection)


async def read_whole(response: ClientResponse, max_bytes: int) -> bytes:
    """The body of a successful answer, as sent and at most `max_bytes` long.

    Raises:
        EgressError: `http_<status>`, `bad_encoding`, `too_large`.
        aiohttp.ClientError: the connection failed; `ClientPayloadError` when the body is shorter than announced.
    """
    _check_status(response)
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise EgressError("bad_encoding", f"the body is encoded as {encoding[:40]!r}, which was not asked for")
    if (response.content_length or 0) > max_bytes:
        raise EgressError("too_large", f"{response.content_length} bytes announced, {max_bytes} are allowed")
    body = BytesIO()  # gives its buffer away as it is, where a bytearray or a list of chunks would be copied
    async for chunk in response.content.iter_any():
        if body.tell() + len(chunk) > max_bytes:
            raise EgressError("too_large", f"more than the {max_bytes} bytes that are allowed")
        body.write(chunk)
    return body.getvalue()


def _check_status(response: ClientResponse) -> None:
    status = response.status
    if status in {HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION} or _is_whole(response):
        return
    raise EgressError(
        f"http_{status}",
        f"{response.url.host} answered {status}",
        retryable=status in _TRANSIENT or 500 <= status <= 599,
        retry_after_seconds=retry_after_seconds(response.headers),
    )


def _is_whole(response: ClientResponse) -> bool:
    """Some servers send 206 unasked, with the range that is everything."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return False
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return match is not None and int(match.group(1)) + 1 == int(match.group(2))
