"""A light server of a folder's files, in a process of its own: nginx where it is installed, else a bare protocol.

`python -m tests.bench.file_server FOLDER` is the latter. It reads each file anew, knows nothing but GET and keeps every
connection, and so takes a fraction of what a web framework would from the cores that are measured.
"""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.runtime.tether import tethered
from services.cli.fleet import usable_port
from tests.bench.children import child, say
from tests.waiting import until

_NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000; default_type image/jpeg;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True, slots=True)
class FileServer:
    """A running server: its name, where it is, and its process."""

    name: str
    url: str
    pid: int


@asynccontextmanager
async def serving_files(root: Path, folder: Path) -> AsyncIterator[FileServer]:
    """Serves the files below `root` on a free port while the context lasts; `folder` is for the server's own files."""
    if executable := shutil.which("nginx"):
        async with _nginx(executable, root, folder) as server:
            yield server
    else:
        async with child(__name__, str(root)) as process:
            port = (await process.answer())["port"]
            yield FileServer("a bare asyncio server", f"http://127.0.0.1:{port}", process.process.pid)


@asynccontextmanager
async def _nginx(executable: str, root: Path, folder: Path) -> AsyncIterator[FileServer]:
    port, configuration = usable_port("127.0.0.1", 0), folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, root=root, port=port), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *tethered([executable, "-p", str(folder), "-e", "stderr", "-c", str(configuration)])
    )

    async def accepts() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(accepts, "nginx takes connections")
        yield FileServer("nginx", f"http://127.0.0.1:{port}", process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class _Connection(asyncio.Protocol):
    """Answers each request with the file of its path; what stands behind a question mark is left out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers every request that is whole."""
        *heads, self._received = (self._received + data).split(b"\r\n\r\n")
        for head in heads:
            path = head.split(b" ", 2)[1].partition(b"?")[0].decode()
            self._answer(self._root / path.lstrip("/"))

    def _answer(self, path: Path) -> None:
        try:
            status, body = "200 OK", path.read_bytes()
        except OSError:
            status, body = "404 Not Found", b""
        head = f"HTTP/1.1 {status}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.writelines([head.encode(), body])


async def _serve(root: Path) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(root), "127.0.0.1", 0)
    say(port=server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
