"""GET /compressed_images/{name}: outputs of the local store."""

import asyncio
from pathlib import Path

from aiohttp import ETag, web

from services.ingest.context import Context
from services.ingest.problems import ProblemError

_CONTENT_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif"}
_HEADERS = {
    # A name is the hash of its content, so what it stands for never changes.
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


class Images:
    """Serves compressed images."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers 200, 206 for a range, 304 for a name the client has, 404 for an unknown one."""
        name = request.match_info["name"]
        path = await asyncio.to_thread(self._context.storage.path, name)
        if path is None:
            raise ProblemError(404, "unknown_image", "there is no image of this name")
        tag = name.partition(".")[0]
        if any(known.value in {tag, "*"} for known in request.if_none_match or ()):
            return web.Response(status=304, headers={**_HEADERS, "ETag": f'"{tag}"'})
        size = (await asyncio.to_thread(path.stat)).st_size
        if not _satisfiable(request, size):
            detail = f"the image has {size} bytes"
            raise ProblemError(416, "range_not_satisfiable", detail, headers={"Content-Range": f"bytes */{size}"})
        content_type = _CONTENT_TYPES.get(path.suffix[1:], "application/octet-stream")
        return _Output(path, tag, content_type)


class _Output(web.FileResponse):
    """A file whose entity tag is its content name; aiohttp makes one of time and size, which differ between stores."""

    def __init__(self, path: Path, tag: str, content_type: str) -> None:
        super().__init__(path, headers={**_HEADERS, "Content-Type": content_type})
        self._tag = tag

    @property
    def etag(self) -> ETag | None:
        return ETag(self._tag)

    @etag.setter
    def etag(self, _: ETag | str | None) -> None:
        self.headers["ETag"] = f'"{self._tag}"'


def _satisfiable(request: web.Request, size: int) -> bool:
    try:
        start = request.http_range.start
    except ValueError:
        return False
    return start is None or start < size
