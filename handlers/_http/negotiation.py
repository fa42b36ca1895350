"""Choose the form in which an answer is sent: whole, compressed, or not again (304)."""

from __future__ import annotations

import asyncio
import hashlib
import logging

import tornado.web
from tornado.escape import utf8

from config.documents import Document
from config.tasks import spawn
from handlers._http.compression import LEAST_BYTES, is_compressible, takes_gzip
from handlers._http.services import GatewayState

log = logging.getLogger(__name__)


class NegotiatingHandler(tornado.web.RequestHandler):
    """Ends answers: with an ETag where they are conditional, compressed for clients that accept it."""

    gateway: GatewayState
    conditional = False
    entity_tag: str | None = None  # ETag of a conditional answer that is made beforehand
    compressed: bytes | None = None  # likewise: its body, as gzip

    def finish(self, chunk: str | bytes | Document | None = None) -> asyncio.Future[None]:
        """End the answer; a body for which it is worthwhile is compressed if the client accepts that."""
        if isinstance(chunk, (bytes, str)) and len(chunk) > LEAST_BYTES and self._is_negotiable():
            return self._finish_negotiated(utf8(chunk))
        return super().finish(chunk)

    def _is_negotiable(self) -> bool:
        # A body that holds a token is not compressed: beside input of the sender's its length would leak it (BREACH).
        if self._headers_written or self._write_buffer or self.request.path.startswith("/auth"):
            return False
        return is_compressible(self._headers.get("Content-Type", ""))

    def _finish_negotiated(self, body: bytes) -> asyncio.Future[None]:
        self.set_header("Vary", "Origin, Accept-Encoding")
        wanted = takes_gzip(self.request.headers.get("Accept-Encoding"))
        if self.conditional and self._status_code == 200 and self.request.method in {"GET", "HEAD"}:
            # Weak where the bytes differ from those of the other form; both mean the same, so either may answer 304.
            tag = self.entity_tag or f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
            self.set_header("Etag", f"W/{tag}" if wanted else tag)
            if self.check_etag_header():
                self.set_status(304)
                return super().finish()
        if not wanted:
            return super().finish(body)
        compressor = self.gateway.compressor
        compressed = self.compressed or compressor.at_once(body)
        if compressed is not None:
            self.set_header("Content-Encoding", "gzip")
            return super().finish(compressed)
        if self._status_code >= 400:
            return super().finish(body)  # Tornado ends an error's answer at once
        self._auto_finish = False
        return spawn(self._finish_later(body), name="compress")

    async def _finish_later(self, body: bytes) -> None:
        compressed = None
        try:
            compressed = await self.gateway.compressor.later(body)
        except Exception:
            log.exception("an answer is sent as it is: compressing it failed")
        if compressed is not None:
            self.set_header("Content-Encoding", "gzip")
        await super().finish(body if compressed is None else compressed)

    def compute_etag(self) -> str | None:
        """Return an ETag only for what changes slowly: hashing each answer would cost more than it saves."""
        return (self.entity_tag or super().compute_etag()) if self.conditional else None
