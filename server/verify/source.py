"""Read a server's log over HTTP: each answer within a deadline and a size, in a few attempts."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
import orjson

from actors.tlog.tiles import LARGEST_ENTRY_BYTES, Tile, decode_entries, split_hashes
from actors.tlog.tree import HASH_BYTES, TILE_WIDTH
from config.backoff import backoff_seconds
from config.documents import Document
from server.verify import NotVerified

ATTEMPTS: Final = 5
WAIT_SECONDS: Final = (0.3, 10.0)
_TIMES: Final = aiohttp.ClientTimeout(total=60.0, sock_connect=10.0, sock_read=20.0)
_BUNDLE_BYTES: Final = TILE_WIDTH * (LARGEST_ENTRY_BYTES + 2)
_TEXT_BYTES: Final = 50_000
_DOCUMENT_BYTES: Final = 4 << 20
_CHUNK: Final = 1 << 16


class LogSource:
    """The log of the server at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            timeout=_TIMES,
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "tradestream-verify"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def text(self, path: str) -> str:
        """Return a text. Raises NotVerified."""
        content = await self._get(path, _TEXT_BYTES)
        try:
            return (content or b"").decode()
        except UnicodeDecodeError:
            raise NotVerified(f"{self.url}{path} answers what is no text") from None

    async def document(self, path: str) -> Document | None:
        """Return a JSON object, its numbers as they are written; None for a 404. Raises NotVerified."""
        try:
            found = orjson.loads(await self._get(path, _DOCUMENT_BYTES, missing=b"null") or b"")
        except orjson.JSONDecodeError:
            raise NotVerified(f"{self.url}{path} answers what is no JSON") from None
        if found is not None and not isinstance(found, dict):
            raise NotVerified(f"{self.url}{path} answers what is no JSON object")
        return found

    async def hashes(self, tile: Tile) -> list[bytes]:
        """Return the hashes of a tile. Raises NotVerified."""
        content = await self._get(f"/log/{tile.path}", TILE_WIDTH * HASH_BYTES) or b""
        if len(content) != tile.width * HASH_BYTES:
            raise NotVerified(f"{self.url}/log/{tile.path} has {len(content)} bytes, not {tile.width} hashes")
        return split_hashes(content)

    async def bundle(self, tile: Tile, *, tag: str | None = None) -> bytes | None:
        """Return a tile of entries as it is sent; None if it is the one with this ETag. Raises NotVerified."""
        content = await self._get(f"/log/{tile.path}", _BUNDLE_BYTES, tag=tag)
        if content is not None:
            entries_in(content, tile)
        return content

    async def _get(self, path: str, most: int, *, tag: str | None = None, missing: bytes | None = None) -> bytes | None:
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(backoff_seconds(attempt, *WAIT_SECONDS))
            try:
                async with self._session.get(
                    self.url + path, headers={"If-None-Match": tag} if tag else None, allow_redirects=False
                ) as response:
                    if response.status == 304 and tag:
                        return None
                    if response.status == 404 and missing is not None:
                        return missing
                    if response.status == 200:
                        return await self._read(response, path, most)
                    reason = f"answers {response.status}"
                    if response.status != 429 and response.status < 500:
                        break
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                reason = f"does not answer: {str(error) or 'in time'}"
        raise NotVerified(f"{self.url}{path} {reason}")

    async def _read(self, response: aiohttp.ClientResponse, path: str, most: int) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            content += chunk
            if len(content) > most:
                raise NotVerified(f"{self.url}{path} answers more than {most} bytes")
        return bytes(content)


def entries_in(content: bytes, tile: Tile) -> list[bytes]:
    """Return the entries of a bundle. Raises NotVerified unless they are as many as its name says."""
    try:
        entries = decode_entries(content)
    except ValueError as error:
        raise NotVerified(f"/log/{tile.path}: {error}") from None
    if len(entries) != tile.width:
        raise NotVerified(f"/log/{tile.path} has {len(entries)} entries")
    return entries
