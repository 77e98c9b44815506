import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from libs.runtime.errors import FatalError
from libs.runtime.health import serve_app
from services.ingest.draining import DRAINING, Draining
from services.ingest.server import serving

HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: "


def application(handler: Callable[[web.Request], Any]) -> web.Application:
    """An application with nothing but `handler` at /."""
    app = web.Application()
    app[DRAINING] = Draining()
    app.add_routes([web.get("/", handler)])
    return app


async def hello(_: web.Request) -> web.StreamResponse:
    """An answer."""
    return web.Response(text="hello")


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize("sent", [b"", b"G", HALF_A_HEAD], ids=["nothing", "a letter", "half a head"])
async def test_a_head_that_is_never_completed_ends_the_connection(sent: bytes) -> None:
    """From the beginning of the connection the head has a total time."""
    async with (
        serving(application(hello), "127.0.0.1", 0, shutdown_seconds=5, idle_seconds=0.1) as port,
        connected(port) as (reader, writer),
    ):
        writer.write(sent)

        assert await reader.read() == b""


async def test_a_second_head_that_is_never_completed_ends_the_connection() -> None:
    """The same after an answer, on a connection that was kept alive."""
    async with (
        serving(application(hello), "127.0.0.1", 0, shutdown_seconds=5, idle_seconds=0.1) as port,
        connected(port) as (reader, writer),
    ):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.readuntil(b"hello")
        writer.write(HALF_A_HEAD)

        assert await reader.read() == b""


async def test_a_request_that_takes_longer_than_a_head_may_is_answered() -> None:
    """The deadline is for heads alone: while another connection runs into it, the request before it goes on."""
    go_on = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        await go_on.wait()
        return web.Response(text="hello")

    async with (
        serving(application(slow), "127.0.0.1", 0, shutdown_seconds=5, idle_seconds=0.1) as port,
        connected(port) as (reader, writer),
    ):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with connected(port) as (idle_reader, idle_writer):
            idle_writer.write(HALF_A_HEAD)
            assert await idle_reader.read() == b""
        go_on.set()

        assert await reader.readuntil(b"hello")


@asynccontextmanager
async def not_reading(port: int) -> AsyncIterator[None]:
    """A client that asks and then takes next to nothing of the answer."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        yield


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux ends connections that stall")
async def test_a_client_that_does_not_read_loses_its_connection() -> None:
    """A streamed answer that nobody takes is broken off."""
    broken = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(bytes(65536))
        except ConnectionError:
            broken.set()
            raise

    async with (
        serving(application(endless), "127.0.0.1", 0, shutdown_seconds=5, stall_seconds=0.2) as port,
        not_reading(port),
    ):
        await broken.wait()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux ends connections that stall")
async def test_a_client_that_does_not_read_its_image_loses_its_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that the kernel sends is broken off too, and nothing is logged as a defect."""
    with (tmp_path / "image").open("wb") as large:
        large.truncate(2**28)
    broken = asyncio.Event()

    class Watched(web.FileResponse):
        async def prepare(self, request: web.BaseRequest) -> Any:
            try:
                return await super().prepare(request)
            finally:
                broken.set()

    async def image(_: web.Request) -> web.StreamResponse:
        return Watched(tmp_path / "image")

    async with (
        serving(application(image), "127.0.0.1", 0, shutdown_seconds=5, stall_seconds=0.2) as port,
        not_reading(port),
    ):
        await broken.wait()

    assert not caplog.records


Serve = Callable[[web.Application, str, int], AbstractAsyncContextManager[int]]


def served(app: web.Application, host: str, port: int) -> AbstractAsyncContextManager[int]:
    """The server of ingest."""
    return serving(app, host, port, shutdown_seconds=1.0)


@pytest.mark.parametrize("serve", [served, serve_app])
async def test_a_port_that_is_taken_is_told_in_a_sentence(serve: Serve) -> None:
    """Whatever serves: no traceback, but the address and the reason."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(FatalError, match=f"cannot listen on 127.0.0.1 port {port}: .*in use"):
            async with serve(application(hello), "127.0.0.1", port):
                raise AssertionError("it listens")


@pytest.mark.parametrize("serve", [served, serve_app])
async def test_the_bound_port_is_given(serve: Serve) -> None:
    """Port 0 takes any free one, and that answers."""
    async with serve(application(hello), "127.0.0.1", 0) as port, connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        assert await reader.readuntil(b"hello")
