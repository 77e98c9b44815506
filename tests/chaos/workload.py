"""What is uploaded, what the image host and the receiver answer, and what has to come of it."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from libs.runtime.health import serve_app
from tests.processes import SECRET
from tests.receivers import Received
from tests.sources import photograph

HEADER = "S. No.,Product Name,Input Image Urls\n"
_LARGEST_REQUEST = 200
_MISSING_SHARE = 0.03
_REPEATED_SHARE = 0.05
_REFUSED_SHARE = 0.3
_PICTURES = 64


@dataclass(slots=True)
class World:
    """The outside: an image host and a webhook receiver on loopback.

    `unsigned` is what was wrong with the webhooks that bore no valid signature when they came.
    """

    url: str = ""
    received: list[Received] = field(default_factory=list)
    unsigned: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    fetched: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Upload:
    """One CSV, and how many of its URLs are there and are missing."""

    csv: str
    good: int
    missing: int

    @property
    def total(self) -> int:
        """All its URLs."""
        return self.good + self.missing


@asynccontextmanager
async def outside(rng: random.Random) -> AsyncIterator[World]:
    """Serves images after a few milliseconds, and refuses the first try of some webhooks."""
    world = World()
    pictures = [photograph(64, 48, shade=n) for n in range(_PICTURES)]

    async def image(request: web.Request) -> web.Response:
        path = request.match_info["path"]
        world.fetched[path] += 1
        await asyncio.sleep(rng.uniform(0.0, 0.05))
        if path.startswith("missing"):
            return web.Response(status=404)
        number = int(path.rpartition("/")[2])
        # Behind every other picture stands its number, so that some have been compressed before and some have not.
        body = pictures[number % _PICTURES] + (b"%d" % number if number // _PICTURES % 2 else b"")
        return web.Response(body=body, content_type="image/jpeg")

    async def hook(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        webhook_id = headers["webhook-id"]
        if webhook_id not in world.refused and rng.random() < _REFUSED_SHARE:
            world.refused[webhook_id] += 1
            return web.Response(status=503)
        try:
            Webhook(SECRET).verify(body, headers)  # here: five minutes later it would be too old
        except WebhookVerificationError as error:
            world.unsigned.append(f"{webhook_id}: {error}")
        world.received.append(Received(headers, body))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", hook)
    app.router.add_get("/{path:.*}", image)
    async with serve_app(app, "127.0.0.1", 0) as port:
        world.url = f"http://127.0.0.1:{port}"
        yield world


def uploads(rng: random.Random, images: int, url: str) -> list[Upload]:
    """CSVs of `images` URLs in all, of random sizes, some URLs missing and some repeated."""
    made = []
    left = images
    while left:
        size = min(left, rng.randint(1, _LARGEST_REQUEST))
        left -= size
        lines, links, missing = [], [f"{url}/good/{rng.getrandbits(60)}"], 0
        for row in range(size):
            draw = rng.random()
            if draw < _MISSING_SHARE:
                link = f"{url}/missing/{rng.getrandbits(60)}"
                missing += 1
            elif draw < _MISSING_SHARE + _REPEATED_SHARE:
                link = rng.choice(links)
            else:
                link = f"{url}/good/{rng.getrandbits(60)}"
                links.append(link)
            lines.append(f"{row},SKU{row},{link}\n")
        made.append(Upload(HEADER + "".join(lines), size - missing, missing))
    return made


async def submit(client: aiohttp.ClientSession, base_url: str, upload: Upload, webhook_url: str) -> str | None:
    """The id of the accepted request; None when it was not accepted, or nobody knows whether it was."""
    form = aiohttp.FormData()
    form.add_field("file", upload.csv.encode(), filename="chaos.csv", content_type="text/csv")
    form.add_field("webhook_url", webhook_url)
    try:
        async with client.post(f"{base_url}/api/upload", data=form) as answer:
            return str((await answer.json())["request_id"]) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
