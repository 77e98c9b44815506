"""Connections whose address is checked twice: when a name is resolved, and when the socket is opened.

The resolver alone would be no guard, since aiohttp skips it for literal addresses.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

from aiohttp import AddrInfoType, ClientRequest, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from .errors import BlockedDialError, EgressError
from .policy import EgressPolicy, blocked

MAX_KEPT = 256
"""Connections open at once of which more are not kept: many systems give a process 1,024 descriptors."""

OLDEST_SECONDS = 60.0
"""How long after it was dialled a connection is used: a name that gets another address is soon followed there."""

_LOOKUPS = 64
_MISTRUST_SECONDS = 300.0
_MISTRUSTED = 10_000


class SystemResolver(AbstractResolver):
    """The operating system's resolver, one thread for each lookup and at most 64 of them.

    `getaddrinfo` can hang for half a minute and cannot be interrupted. In the loop's default threads, the names of dead
    servers would hold up every file that is written; in any thread pool, they would hold up the end of the process.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every stream address of `host`. Raises OSError when it has none."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def settle(outcome: list[ResolveResult] | OSError) -> None:
            self._free.release()
            if found.done():
                return
            if isinstance(outcome, OSError):
                found.set_exception(outcome)
            else:
                found.set_result(outcome)

        def look_up() -> None:
            outcome = _addresses(host, port, family)
            # The loop may have ended before a hanging lookup did; nobody waits for it any more then.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, outcome)

        try:
            threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            raise OSError(f"no thread to look {host} up in") from error
        return await found

    async def close(self) -> None:
        """Nothing to do: a lookup that still runs is not waited for."""


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult] | OSError:
    try:
        infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except OSError as error:
        return error
    except UnicodeError as error:
        return OSError(f"{host} is not a name that can be looked up: {error}")
    return [
        ResolveResult(
            hostname=host, host=str(address[0]), port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
        )
        for kind, _, proto, _, address in infos
    ]


class GuardedResolver(AbstractResolver):
    """Refuses a name if any of its addresses is forbidden: the next connection might get that one."""

    def __init__(self, policy: EgressPolicy, inner: AbstractResolver) -> None:
        self._policy = policy
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """What the inner resolver answers.

        Raises:
            EgressError: `blocked_address`. Its detail names the range only: the exact address of an internal name is
                nothing to tell whoever uploaded the URL.
            OSError: the name has no address.
        """
        answers = await self._inner.resolve(host, port, family)
        for answer in answers:
            if reason := self._policy.refusal(answer["host"]):
                raise blocked(f"{host} has an address that is {reason}")
        if not answers:
            raise OSError(f"{host} has no address")
        return answers

    async def close(self) -> None:
        """Closes the inner resolver."""
        await self._inner.close()


class GuardedConnector(TCPConnector):
    """Opens no socket to a forbidden address, and keeps only connections that are safe to use again.

    They are kept for `idle_seconds`. The session bounds the number of connections in use; of those that are kept,
    `MAX_KEPT` bounds it.
    """

    def __init__(
        self, policy: EgressPolicy, resolver: AbstractResolver, *, tls: ssl.SSLContext | None, idle_seconds: float
    ) -> None:
        super().__init__(
            resolver=GuardedResolver(policy, resolver),
            socket_factory=_socket_factory(policy),
            ssl=tls if tls is not None else True,
            keepalive_timeout=idle_seconds,
            limit=0,
        )
        self._dialled: WeakKeyDictionary[ResponseHandler, float] = WeakKeyDictionary()
        self._mistrusted: dict[tuple[str | None, int | None], float] = {}

    def mistrust(self, url: URL) -> None:
        """Uses no connection to the server of `url` twice for five minutes: it has ended one under a request."""
        if len(self._mistrusted) >= _MISTRUSTED:
            self._mistrusted.clear()
        self._mistrusted[url.raw_host, url.port] = time.monotonic() + _MISTRUST_SECONDS

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """A new connection, or a kept one on which nothing has come since its last answer.

        aiohttp would take what a server sends unasked for the answer to the next request.
        """
        now = time.monotonic()
        trusted = now >= self._mistrusted.get((req.url.raw_host, req.url.port), 0.0)
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or (dialled := self._dialled.get(protocol)) is None:
                break
            if trusted and now < dialled + OLDEST_SECONDS and not protocol.should_close:
                return connection
            connection.close()
        if protocol is not None:
            self._dialled[protocol] = now
            if not trusted or len(self._dialled) > MAX_KEPT:
                protocol.force_close()
        return connection


def _socket_factory(policy: EgressPolicy) -> Callable[[AddrInfoType], socket.socket]:
    def open_socket(info: AddrInfoType) -> socket.socket:
        family, kind, proto, _, address = info
        try:
            policy.check_address(str(address[0]))
        except EgressError as refusal:
            raise BlockedDialError(refusal) from refusal
        return socket.socket(family, kind, proto)

    return open_socket
