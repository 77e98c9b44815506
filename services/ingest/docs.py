"""The pages /docs (Swagger UI) and /redoc (ReDoc): our own, over the asset files that aiohttp-swagger3 carries.

Its own handlers refuse OpenAPI 3.1. Nothing here asks a foreign host for anything, and the Content-Security-Policy of
the pages keeps it so.
"""

import asyncio
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

_PACKAGE = "aiohttp_swagger3"
# Swagger UI and ReDoc put style elements into the page; ReDoc searches in a worker made of a blob; images are inlined.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Darkroom API</title>
<link rel="icon" type="image/png" href="/docs/assets/favicon-32x32.png">
{links}
</head>
<body>
<div id="api"></div>
{scripts}
</body>
</html>
"""
_SWAGGER_PAGE = _PAGE.format(
    links='<link rel="stylesheet" href="/docs/assets/swagger-ui.css">',
    scripts='<script src="/docs/assets/swagger-ui-bundle.js"></script><script src="/docs/assets/start.js"></script>',
)
_SWAGGER_START = """
SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null, docExpansion: "list",
  presets: [SwaggerUIBundle.presets.apis]
});
"""
_REDOC_PAGE = _PAGE.format(
    links='<link rel="stylesheet" href="/redoc/assets/page.css">',
    scripts='<script src="/redoc/assets/redoc.standalone.js"></script><script src="/redoc/assets/start.js"></script>',
)
_REDOC_START = 'Redoc.init("/openapi.json", {}, document.getElementById("api"));\n'
# The only thing ReDoc fetches from elsewhere: the logo beside the link to its makers.
_REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_EMPTY_IMAGE = b"data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
_FILES = {
    "/docs/assets/swagger-ui.css": ("swagger_ui/swagger-ui.css", "text/css; charset=utf-8"),
    "/docs/assets/swagger-ui-bundle.js": ("swagger_ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "/docs/assets/favicon-32x32.png": ("swagger_ui/favicon-32x32.png", "image/png"),
    "/redoc/assets/redoc.standalone.js": ("redoc_ui/redoc.standalone.js", "text/javascript; charset=utf-8"),
}
_TEXTS = {
    "/docs": (_SWAGGER_PAGE, "text/html"),
    "/docs/assets/start.js": (_SWAGGER_START, "text/javascript"),
    "/redoc": (_REDOC_PAGE, "text/html"),
    "/redoc/assets/page.css": ("body { margin: 0; }\n", "text/css"),
    "/redoc/assets/start.js": (_REDOC_START, "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "public, max-age=3600",
}


def docs_routes(document: str) -> list[web.RouteDef]:
    """The pages, to which `/` leads, their assets, and /openapi.json with `document`."""
    texts = {**_TEXTS, "/openapi.json": (document, "application/json")}

    async def text(request: web.Request) -> web.StreamResponse:
        body, content_type = texts[request.path]
        return web.Response(text=body, content_type=content_type, headers=_HEADERS)

    async def asset(request: web.Request) -> web.StreamResponse:
        name, content_type = _FILES[request.path]
        body = await asyncio.to_thread(_asset, name)
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    async def front(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/docs"})

    return [web.get("/", front), *(web.get(path, text) for path in texts), *(web.get(path, asset) for path in _FILES)]


@cache
def _asset(name: str) -> bytes:
    # Found without an import: importing the package starts a second web framework's worth of modules.
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{_PACKAGE} is not installed; install darkroom[ingest]")
    body = (Path(spec.submodule_search_locations[0]) / name).read_bytes()
    return body.replace(_REDOC_LOGO, _EMPTY_IMAGE)
