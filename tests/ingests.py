"""An ingest service inside the test, on the test's database, and ways to talk to it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from libs.documents import Documents
from libs.egress import EgressPolicy
from libs.mongo import Mongo
from libs.runtime.health import Health
from libs.runtime.settings import load
from libs.storage import LocalStorage
from services.ingest.app import build
from services.ingest.context import Context
from services.ingest.server import serving
from services.ingest.settings import IngestSettings

HEADER = "S. No.,Product Name,Input Image Urls\n"
SAMPLE = (
    f"{HEADER}1,SKU1,https://picsum.photos/200/300, https://picsum.photos/200/301\n"
    "2,SKU2,https://picsum.photos/200/302\n"
)


@dataclass(slots=True)
class Ingest:
    """A running ingest service and a client of it."""

    url: str
    context: Context
    client: aiohttp.ClientSession

    async def upload(self, csv: str | bytes, webhook_url: str | None = None, **headers: str) -> tuple[int, Any]:
        """Uploads `csv`; gives status and JSON."""
        form = aiohttp.FormData()
        form.add_field("file", csv, filename="test.csv", content_type="text/csv")
        if webhook_url is not None:
            form.add_field("webhook_url", webhook_url)
        async with self.client.post(f"{self.url}/api/upload", data=form, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def accepted(self, csv: str | bytes, webhook_url: str | None = None) -> str:
        """The id of an upload that has to be accepted."""
        status, body = await self.upload(csv, webhook_url)
        assert status == 200, body
        return str(body["request_id"])

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON of any call; problems have to be `application/problem+json`."""
        async with self.client.request(method, self.url + path, **options) as answer:
            body = await answer.json(content_type=None)
            if answer.status >= 400:
                assert answer.content_type == "application/problem+json"
                assert body["status"] == answer.status
            return answer.status, body

    async def status(self, request_id: str, **query: str | int) -> Any:
        """The status of a request that has to exist."""
        status, body = await self.call("GET", "/api/status", params={"request_id": request_id, **query})
        assert status == 200, body
        return body

    async def raw(self, request: bytes) -> bytes:
        """Sends bytes as they are, and gives the answer, with a `100 Continue` before it if there was one."""
        async with self.connected() as (reader, writer):
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if answer.startswith(b"HTTP/1.1 100 "):
                answer += await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer.lower())
            return answer + await reader.readexactly(int(length[1]) if length else 0)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection."""
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield reader, writer
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def ingesting(documents: Documents | None, folder: Path, **settings: Any) -> AsyncIterator[Ingest]:
    """Serves ingest on a free port while the context lasts."""
    storage = LocalStorage(folder / "images")
    await storage.prepare()
    values = load(IngestSettings, storage=storage.root.as_uri(), port=0, **settings)
    context = Context(values, EgressPolicy(values.egress_allow), storage, database=documents)
    app = build(context, Health())
    async with serving(app, "127.0.0.1", 0, shutdown_seconds=5.0) as port, aiohttp.ClientSession() as client:
        context.public_url = f"http://127.0.0.1:{port}"
        yield Ingest(context.public_url, context, client)


async def stored(mongo: Mongo) -> int:
    """How many documents an upload has left behind."""
    collections = ("requests", "images", "progress", "deliveries")
    return sum([await mongo.collection(name).count_documents({}) for name in collections])


def multipart(parts: Iterable[tuple[str, bytes]], boundary: str = "b0undary") -> bytes:
    """A form body; each part is its header lines and its content."""
    encoded = [f"--{boundary}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n" for headers, content in parts]
    return b"".join(encoded) + f"--{boundary}--\r\n".encode()
