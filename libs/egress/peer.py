"""What the other end of a connection says, as far as aiohttp does not tell by itself."""

import asyncio

from aiohttp import ClientOSError, ClientPayloadError, ClientResponse, ClientResponseError
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError

from .errors import BrokenBodyError


class PeerResponse(ClientResponse):
    """A response that knows its other end, and by it whether the body is whole.

    aiohttp lets go of the connection as soon as the body is there, so both are noted before.
    """

    remote_address = ""
    _wire: ResponseHandler | None = None

    async def start(self, connection: Connection) -> ClientResponse:
        """Reads the header section. Raises aiohttp.ClientError where there is none."""
        transport, self._wire = connection.transport, connection.protocol
        peer = transport.get_extra_info("peername") if transport is not None else None
        self.remote_address = str(peer[0]) if peer else ""
        await super().start(connection)
        if self.status < 100:
            raise ClientResponseError(self.request_info, self.history, message=f"its status is {self.status:03}")
        if not self.content.is_eof():
            self._end_with_the_connection()
        return self

    async def read_some(self) -> bytes:
        """The next of the body as sent; empty at its end.

        Raises:
            aiohttp.ClientPayloadError: it is shorter than announced, or the connection was reset.
            BrokenBodyError: its chunks are malformed.
        """
        try:
            some = await self.content.readany()
        except ClientPayloadError as error:
            # The parser gave up, and then missed the rest of what it had given up.
            if self._wire is not None and isinstance(reason := self._wire.exception(), HttpProcessingError):
                raise BrokenBodyError(reason.message) from error
            raise
        # Nothing but the end of the connection delimits such a body, and aiohttp takes a reset for that end.
        if not some and self.content_length is None and not self._is_chunked() and self._was_reset():
            raise ClientPayloadError("the connection was reset")
        return some

    def _end_with_the_connection(self) -> None:
        """Lets the body fail when the connection ends under it.

        When aiohttp cannot make sense of a chunk, it closes the connection and leaves the reader of the body waiting.
        """
        closed = self._wire.closed if self._wire is not None else None
        if closed is None:
            self._fail_unless_whole()
            return
        closed.remove_done_callback(_look_at)
        closed.add_done_callback(_look_at)
        closed.add_done_callback(self._fail_unless_whole)

        def forget() -> None:
            closed.remove_done_callback(self._fail_unless_whole)

        self.content.on_eof(forget)

    def _fail_unless_whole(self, _: object = None) -> None:
        if not self.content.is_eof() and self.content.exception() is None:
            self.content.set_exception(ClientPayloadError("the connection was closed"))

    def _is_chunked(self) -> bool:
        return "chunked" in self.headers.get("Transfer-Encoding", "").lower()

    def _was_reset(self) -> bool:
        return self._wire is not None and isinstance(self._wire.exception(), ClientOSError)


def _look_at(closed: "asyncio.Future[None]") -> None:
    """Keeps asyncio from reporting the reset of a connection that is idle by then."""
    if not closed.cancelled():
        closed.exception()
