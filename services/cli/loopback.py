"""The demo's other side, on loopback: a shop that serves its photographs and receives the webhook."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from libs.runtime.health import serve_app
from services.cli.samples import Sample

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Webhook:
    """What was posted, byte for byte."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Shop:
    """`downloads` counts how often each photograph was fetched; `webhooks` has every webhook that came."""

    samples: Sequence[Sample]
    base_url: str = ""
    downloads: Counter[str] = field(default_factory=Counter)
    webhooks: list[Webhook] = field(default_factory=list)
    _received: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def webhook_url(self) -> str:
        """Where webhooks are received."""
        return f"{self.base_url}/webhook"

    def url(self, sample: Sample) -> str:
        """Where a photograph is served."""
        return f"{self.base_url}/photographs/{sample.name}"

    async def first_webhook(self) -> Webhook:
        """Waits for the first webhook."""
        await self._received.wait()
        return self.webhooks[0]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listens while the context lasts."""
        app = web.Application()
        app.add_routes(
            [web.get("/photographs/{name}", self._serve_photograph), web.post("/webhook", self._receive_webhook)]
        )
        async with serve_app(app, _HOST, 0) as port:
            self.base_url = f"http://{_HOST}:{port}"
            yield

    async def _serve_photograph(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.downloads[name] += 1
        for sample in self.samples:
            if sample.name == name:
                return web.Response(body=sample.data, content_type=sample.content_type)
        raise web.HTTPNotFound

    async def _receive_webhook(self, request: web.Request) -> web.Response:
        self.webhooks.append(Webhook(dict(request.headers), await request.read()))
        self._received.set()
        return web.Response(status=204)
