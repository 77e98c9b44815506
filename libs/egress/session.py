"""The session that every outbound request of the services goes through."""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import lru_cache
from types import TracebackType
from typing import Self, cast

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from .allowance import Allowance
from .answers import Download, Response, read_whole
from .connector import GuardedConnector, SystemResolver
from .errors import EgressError, from_transport
from .pace import Pace
from .peer import PeerResponse
from .policy import EgressPolicy
from .slots import HostSlots
from .urls import redirect_url

MAX_REDIRECTS = 10
MAX_LOGGED_BYTES = 16 * 1024

_TARGETS = 512
_IDLE_SECONDS = 15.0  # as aiohttp has it
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Without this header aiohttp offers gzip; no body is ever decompressed here, so that none can be a bomb.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "Darkroom"}


class GuardedSession:
    """Downloads and posts within the limits of an `EgressPolicy`; an async context manager.

    At most `host_in_flight` downloads run against one host; more wait for their turn, which counts neither to their
    deadline nor to the slots of the host that redirected there. A download waits for it for `busy_seconds` at each hop.
    POSTs wait for no turn: who makes them knows how many a host may have.
    `connect_seconds` bounds name resolution, connecting and the TLS handshake together. A download has `head_seconds`
    for each of its header sections, connecting included, and its body may go slower than a kilobyte a second for
    `stall_seconds`. Bodies of downloads take `memory_bytes` together, and one beside them, until they are released; a
    download waits for memory up to `room_seconds` each time, and that counts to none of its deadlines. A POST takes no
    connection that was idle for longer than `post_idle_seconds`: one that its server is just closing would look like a
    failed delivery, and servers close theirs after two seconds (gunicorn), five (Node, Apache, Uvicorn) or more. No
    proxies, no cookies, no credentials from the environment. `resolver` and `tls` replace the system's; a resolver that
    is handed in is its owner's to close.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        connect_seconds: float = 10,
        head_seconds: float = 30,
        stall_seconds: float = 10,
        host_in_flight: int = 1,
        busy_seconds: float = 10,
        post_idle_seconds: float = 1,
        memory_bytes: int = 256 * 2**20,
        room_seconds: float = 30,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        # Receivers are posted to again and again, and yarl keeps what it has once worked out in its URLs.
        self._targets = lru_cache(maxsize=_TARGETS)(policy.check_url)
        self._connect_seconds = connect_seconds
        self._head_seconds = head_seconds
        self._stall_seconds = stall_seconds
        self._slots = HostSlots(host_in_flight)
        self._busy_seconds = busy_seconds
        self._post_idle_seconds = post_idle_seconds
        self._allowance = Allowance(memory_bytes)
        self._room_seconds = room_seconds
        self._resolver = resolver
        self._tls = tls
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._time = asyncio.get_running_loop().time
        async with AsyncExitStack() as stack:
            resolver = self._resolver
            if resolver is None:
                resolver = SystemResolver()
                stack.push_async_callback(resolver.close)
            self._downloads = await stack.enter_async_context(self._session(self._connector(resolver, _IDLE_SECONDS)))
            self._dialling = self._connector(resolver, self._post_idle_seconds)
            self._posts = await stack.enter_async_context(self._session(self._dialling))
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def download(self, url: str, *, max_bytes: int, total_seconds: float) -> Download:
        """The whole body behind `url`, over at most ten redirects, each checked like the first URL.

        A GET whose connection ends without an answer is repeated once, by aiohttp: a pooled connection may be stale.

        Raises:
            EgressError: refused (`bad_url`, `bad_scheme`, `credentials_in_url`, `blocked_address`, `redirect_limit`,
                `bad_encoding`, `too_large`, `tls_error`), answered otherwise than with a body (`http_404`, …), not sent
                (`host_busy`: no turn came) or not read (`memory_busy`), or failed (`dns_error`, `connect_error`,
                `timeout`, `truncated_download`, `bad_response`).
        """
        target = self._policy.check_url(url)
        left_seconds, waited_seconds = total_seconds, 0.0
        for _ in range(1 + MAX_REDIRECTS):
            asked = self._time()
            async with self._slots.held(target.raw_host or "", busy_seconds=self._busy_seconds):
                started = self._time()
                waited_seconds += started - asked
                answer = await self._fetch(target, max_bytes, left_seconds)
                left_seconds -= self._time() - started
            if isinstance(answer, Download):
                return replace(answer, waited_seconds=waited_seconds)
            target = self._follow(target, answer)
        raise EgressError("redirect_limit", f"more than {MAX_REDIRECTS} redirects")

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], total_seconds: float) -> Response:
        """Sends `body` once and returns the answer whatever its status is.

        A redirect is an answer like any other. The header section decides: a body that stalls, breaks off or never ends
        is cut, and what arrived of its first 16 KiB is returned. The connection may be that of an earlier POST whose
        answer was read to its end. When it ends without an answer, this POST has failed and is not repeated, since the
        server may have read it; the next ones to that server have a connection of their own each.

        Raises:
            EgressError: `bad_url`, `bad_scheme`, `credentials_in_url`, `blocked_address`, or no answer (`dns_error`,
                `connect_error`, `tls_error`, `timeout`, `bad_response`).
        """
        target = self._targets(url)
        response: PeerResponse | None = None
        logged = bytearray()
        broken = False
        try:
            async with asyncio.timeout(total_seconds):
                answer = await self._posts.post(target, data=body, headers=headers, allow_redirects=False)
                response = cast("PeerResponse", answer)
                while len(logged) < MAX_LOGGED_BYTES and (some := await response.read_some()):
                    logged += some
        except (aiohttp.ClientError, OSError) as error:
            if response is None:
                if _ended_under(error):
                    self._dialling.mistrust(target)
                failure = from_transport(error, target.raw_host or "")
                # An image with a bad certificate is the uploader's to replace; a receiver's owner renews it.
                failure.retryable |= failure.code == "tls_error"
                raise failure from error
            broken = not isinstance(error, TimeoutError)
        finally:
            if response is not None:
                response.close()
        return Response(
            response.status, response.headers, bytes(logged[:MAX_LOGGED_BYTES]), response.remote_address, broken=broken
        )

    async def _fetch(self, target: URL, max_bytes: int, seconds: float) -> Download | str:
        """One hop: the download, or the Location it is redirected to."""
        began = self._time()
        end = began + seconds
        deadline = asyncio.timeout_at(min(end, began + self._head_seconds))
        host = target.raw_host or ""
        response: PeerResponse | None = None
        share, kept = self._allowance.share(), False
        try:
            async with deadline, self._downloads.get(target, allow_redirects=False) as answer:
                response = cast("PeerResponse", answer)
                location = response.headers.get("Location")
                if response.status in _REDIRECTS and location is not None:
                    return location
                pace = Pace(
                    deadline, self._time, end=end, stall_seconds=self._stall_seconds, room_seconds=self._room_seconds
                )
                body = await read_whole(response, max_bytes, pace, share)
            share.settle(len(body))
            kept = True  # only now: leaving the response may wait, and be cancelled
        except (aiohttp.ClientError, OSError) as error:
            if response is not None and isinstance(error, TimeoutError):
                raise EgressError("timeout", f"the body from {host} did not come in time", retryable=True) from error
            raise from_transport(error, host) from error
        finally:
            if not kept:
                share.release()
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Download(body, str(target), content_type, share.release)

    def _follow(self, current: URL, location: str) -> URL:
        target = self._policy.check_url(redirect_url(current, location))
        if current.scheme == "https" and target.scheme == "http":
            raise EgressError("bad_scheme", f"{current.host} redirects from https to http")
        return target

    def _connector(self, resolver: AbstractResolver, idle_seconds: float) -> GuardedConnector:
        return GuardedConnector(self._policy, resolver, tls=self._tls, idle_seconds=idle_seconds)

    def _session(self, connector: GuardedConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            # The total deadline is each call's own; aiohttp's would end while the body of an accepted POST is read.
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
            response_class=PeerResponse,
        )


def _ended_under(error: Exception) -> bool:
    """Whether a connection that was made has ended without an answer."""
    made = not isinstance(error, aiohttp.ClientConnectorError)
    return made and isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
