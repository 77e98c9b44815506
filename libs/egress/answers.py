"""What came back from an outbound request, and how its status and body are judged."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO

from aiohttp import ClientResponse

from .allowance import Share
from .errors import EgressError
from .pace import Pace
from .peer import PeerResponse
from .retry_after import retry_after_seconds

# Plain numbers: members of HTTPStatus are looked up and hashed in Python.
_WHOLE = frozenset({200, 203})
_TRANSIENT = frozenset({408, 425, 429})
# What may stand in the headers that name an encoding, of a body that is as it should be.
_PLAIN_CODINGS = {"Content-Encoding": {"", "identity"}, "Transfer-Encoding": {"", "identity", "chunked"}}
_CONTENT_RANGE = re.compile(r"bytes 0-([0-9]{1,15})/([0-9]{1,15})", re.ASCII | re.IGNORECASE)


def _nothing() -> None:
    """Nobody waits."""


@dataclass(frozen=True, slots=True)
class Download:
    """A whole body, the URL it came from in the end, and the media type its server claims (may be empty).

    `release` is to be called when the body is not needed any more, since others may wait for its memory. It waited for
    a turn at its hosts for `waited_seconds`.
    """

    body: bytes
    url: str
    content_type: str
    release: Callable[[], None] = field(default=_nothing, compare=False, repr=False)
    waited_seconds: float = field(default=0.0, compare=False)


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


async def read_whole(response: PeerResponse, max_bytes: int, pace: Pace, share: Share) -> bytes:
    """The body of a successful answer, as sent and at most `max_bytes` long, for which `share` has room.

    Raises:
        EgressError: `http_<status>`, `bad_encoding`, `too_large`, `memory_busy`.
        aiohttp.ClientError: the connection failed; `ClientPayloadError` when the body is shorter than announced.
    """
    _check_status(response)
    _check_codings(response)
    announced = response.content_length or 0
    if announced > max_bytes:
        raise EgressError("too_large", f"{announced} bytes announced, {max_bytes} are allowed")
    async with pace.held():
        await share.expect(announced)
    if response.content.is_eof() and announced:
        return await response.read_some()  # which is all of it: most images come in one piece
    # Gives its buffer away as it is, where a bytearray or a list of chunks would be copied. Zeros take no memory until
    # they are written over, and a buffer that has its size is never moved.
    body = BytesIO(bytes(announced))
    pace.reached(0)
    while some := await response.read_some():
        if body.tell() + len(some) > max_bytes:
            raise EgressError("too_large", f"more than the {max_bytes} bytes that are allowed")
        if not share.covers(body.tell() + len(some)):
            async with pace.held():
                await share.reach(body.tell() + len(some))
        body.write(some)
        pace.reached(body.tell())
    return body.getvalue()


def _check_codings(response: ClientResponse) -> None:
    """Refuses what would have to be decompressed; `Transfer-Encoding` can ask for that too (RFC 9112, 7)."""
    for name, plain in _PLAIN_CODINGS.items():
        if name not in response.headers:
            continue
        codings = {coding.strip().lower() for line in response.headers.getall(name) for coding in line.split(",")}
        if coded := codings - plain:
            raise EgressError("bad_encoding", f"the body is encoded as {max(coded)[:40]!r}, which was not asked for")


def _check_status(response: ClientResponse) -> None:
    status = response.status
    if status in _WHOLE or _is_whole(response):
        return
    raise EgressError(
        f"http_{status}",
        f"{response.url.host} answered {status}",
        retryable=status in _TRANSIENT or 500 <= status <= 599,
        retry_after_seconds=retry_after_seconds(response.headers),
    )


def _is_whole(response: ClientResponse) -> bool:
    """Some servers send 206 unasked, with the range that is everything."""
    if response.status != 206:
        return False
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    return match is not None and int(match.group(1)) + 1 == int(match.group(2))
