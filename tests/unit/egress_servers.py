"""Servers on loopback that answer the egress tests, byte by byte where they have to misbehave."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# Self-signed for 127.0.0.1, valid until 2126; it protects nothing.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBXDCCAQKgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAkxMjcuMC4w
LjEwIBcNMjAwMTAxMDAwMDAwWhgPMjEyNjAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CTEyNy4wLjAuMTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABHAKBnF/FQ9VDGrB
SFiqAK1N0nH7mcaUoRGk9PuZqv/mFh+c+UxBb1FgK9HQF95B+lxmhFoO0qFUEGFO
jTpCL0yjQzBBMA8GA1UdEwEB/wQFMAMBAf8wDwYDVR0RBAgwBocEfwAAATAdBgNV
HQ4EFgQURIkrDU6z7Dgw/aRLZ0CJGPt296EwCgYIKoZIzj0EAwIDSAAwRQIgRjvt
L+RATR8db64rdmI/SJgTugV+4pC71V3XlzWZ2x4CIQCGCkUIr111i8nAxYN6ZDbY
/COrlT/t4gzeKaXkisQTRQ==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbUwIfVRBXAFS0nHK
em8HLcyFYIHjjjD3KYlyvxzbPdahRANCAARwCgZxfxUPVQxqwUhYqgCtTdJx+5nG
lKERpPT7mar/5hYfnPlMQW9RYCvR0BfeQfpcZoRaDtKhVBBhTo06Qi9M
-----END PRIVATE KEY-----
"""


class RawServer:
    """What a server saw: its connections, and each request's head and body."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.port = 0
        self.connections = 0
        self.heads: list[str] = []
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads one request, gives the answer, closes."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            # Cancelled by stop() alone; asyncio's own callback would log it as an error.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                length = next(
                    (line[15:] for line in head.lower().splitlines() if line.startswith("content-length:")), "0"
                )
                self.bodies.append(await reader.readexactly(int(length)))
                await self._answer(reader, writer)
                await writer.drain()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def stop(self) -> None:
        """Ends the answers that are still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def says(*parts: bytes) -> Answer:
    """An answer of exactly these bytes, after which the connection is closed."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))

    return answer


def stalls_after(*parts: bytes) -> Answer:
    """An answer of exactly these bytes, after which nothing comes and the connection stays open."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))
        await asyncio.Event().wait()

    return answer


def resets_after(*parts: bytes) -> Answer:
    """An answer of exactly these bytes, after which the connection is reset."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))
        await writer.drain()
        writer.transport.abort()

    return answer


def ok(body: bytes, *headers: str) -> bytes:
    """A whole 200 answer."""
    return response("200 OK", body, *headers)


def response(status: str, body: bytes, *headers: str) -> bytes:
    """A whole answer with a right Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def raw_server(
    answer: Answer, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """A server on a free port of `host` that gives every request the same answer."""
    raw = RawServer(answer)
    server = await asyncio.start_server(raw.serve, host, port, ssl=tls)
    async with server:
        raw.port = server.sockets[0].getsockname()[1]
        raw.url = f"{'https' if tls else 'http'}://{host}:{raw.port}"
        try:
            yield raw
        finally:
            await raw.stop()


def server_tls(folder: Path) -> ssl.SSLContext:
    """The server's side of TLS with the self-signed certificate."""
    chain = folder / "chain.pem"
    chain.write_text(CERTIFICATE + KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def client_tls() -> ssl.SSLContext:
    """A client's side of TLS that trusts the self-signed certificate alone."""
    return ssl.create_default_context(cadata=CERTIFICATE)
