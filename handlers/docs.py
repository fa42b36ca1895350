"""Serve the API's documentation: the OpenAPI document, and Swagger UI from an installed package, not the internet."""

from __future__ import annotations

import asyncio
import hashlib
from importlib import resources
from pathlib import Path

from handlers._http.base import GatewayHandler
from handlers._http.compression import BEST_LEVEL, compress
from handlers._http.endpoint import endpoint
from schemas.errors import NotFound

DOCUMENT_PATH = "/api/openapi.json"
STREAMS_PATH = "/api/docs/streams.md"
_STREAMS = Path(__file__).parents[1] / "docs" / "streams.md"
_FILES = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript; charset=utf-8",
    _STREAMS.name: "text/markdown; charset=utf-8",
}
# Swagger UI sets style attributes, and its icons are data: URLs. The start script is a file: no inline script runs.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_START = f"""\
window.ui = SwaggerUIBundle({{
  url: "{DOCUMENT_PATH}", dom_id: "#docs", deepLinking: true, validatorUrl: null, tryItOutEnabled: true
}});
"""
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TradeStream API</title>
<link rel="icon" type="image/png" href="/api/docs/favicon-32x32.png">
<link rel="stylesheet" href="/api/docs/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/api/docs/swagger-ui-bundle.js"></script>
<script src="/api/docs/start.js"></script>
</body>
</html>
"""


class Root(GatewayHandler):
    """`/`"""

    while_starting = True

    @endpoint("Where to begin", status=302)
    async def get(self) -> None:
        """Redirects to the documentation, which says what this server is."""
        self.clear_header("Content-Type")
        self.redirect("/api/docs")


class OpenApi(GatewayHandler):
    """`/api/openapi.json`"""

    while_starting = True

    @endpoint("This document")
    async def get(self) -> None:
        """Encoded once; its ETag saves sending it again."""
        self.conditional = True
        self.set_header("Cache-Control", "no-cache")
        self.finish(self.gateway.openapi())


class Docs(GatewayHandler):
    """`/api/docs`"""

    while_starting = True

    @endpoint("The documentation as a page", media_type="text/html")
    async def get(self) -> None:
        """Swagger UI."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", _PAGE_POLICY)
        self.finish(_PAGE)


class DocsFile(GatewayHandler):
    """`/api/docs/{name}`"""

    while_starting = True

    @endpoint("A file of the documentation page", media_type="application/octet-stream", errors=(404,))
    async def get(self, name: str) -> None:
        """A file from a short list, so that no path leads elsewhere."""
        if name not in _FILES:
            raise NotFound
        if name not in _prepared:  # once: the bundle takes a tenth of a second
            _prepared[name] = await asyncio.to_thread(_prepare, name)
        content, self.entity_tag, self.compressed = _prepared[name]
        self.conditional = True
        self.set_header("Content-Type", _FILES[name])
        self.set_header("Cache-Control", "public, max-age=3600")
        self.finish(content)


_prepared: dict[str, tuple[bytes, str, bytes]] = {}  # by name: the file, its ETag, the file as gzip


def _prepare(name: str) -> tuple[bytes, str, bytes]:
    if name == "start.js":
        content = _START.encode()
    elif name == _STREAMS.name:
        content = _STREAMS.read_bytes()
    else:
        content = resources.files("swagger_ui").joinpath("static", name).read_bytes()
    tag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return content, f'"{tag}"', compress(content, BEST_LEVEL)
