"""GET /compressed_images/{name}: outputs of the local store."""

import asyncio

from aiohttp import web

from services.ingest.context import Context
from services.ingest.problems import ProblemError

_CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif"}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


class Images:
    """Serves compressed images."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers 404 for an unknown name; else whatever aiohttp's file response answers (200, 206, 304, 412, 416)."""
        path = await asyncio.to_thread(self._context.storage.path, request.match_info["name"])
        if path is None:
            raise ProblemError(404, "unknown_image", "there is no image of this name")
        content_type = _CONTENT_TYPES.get(path.suffix[1:], "application/octet-stream")
        return web.FileResponse(path, headers={**_HEADERS, "Content-Type": content_type})


async def keep_for_ever(_: web.Request, answer: web.StreamResponse) -> None:
    """Lets caches keep an image, but no refusal; runs before the head of each answer is sent.

    A name is the hash of its content, so what it stands for never changes.
    """
    if isinstance(answer, web.FileResponse) and answer.status < 400:
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
