"""A real Chromium's EventSource, driven over its debugging protocol."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.browser._programs import chromium
from tests.browser.clients import StreamClient
from tests.support.streams import until

START_SECONDS = 30.0
FOLLOW = """
window.received = [];
window.source = new EventSource(%s);
for (const name of ["session_start", "signal"])
  window.source.addEventListener(name, (event) => window.received.push([name, event.lastEventId, event.data]));
"""


class Browser(StreamClient):
    """A Chromium without a window."""

    def __init__(self, page: WebSocketClientConnection) -> None:
        super().__init__()
        self._page = page
        self._numbers = itertools.count(1)

    @classmethod
    def missing(cls) -> str | None:
        """Return how to install Chromium if it is missing."""
        return None if chromium() else "Chromium (Debian: `apt-get install chromium`)"

    @classmethod
    @asynccontextmanager
    async def follow(cls, url: str, folder: Path) -> AsyncIterator[Browser]:
        """Open a page of the same origin, and follow from there."""
        program = chromium()
        assert program is not None
        process = await asyncio.create_subprocess_exec(
            program,
            *("--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder / 'chromium'}"),
            *("--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # which root may not use
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            client = cls(await _page(folder / "chromium" / "DevToolsActivePort"))
            origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
            # The page is JSON, whose policy forbids it to connect to anything; one that browsers show has its own.
            await client._ask("Page.setBypassCSP", enabled=True)
            await client._ask("Page.navigate", url=f"{origin}/health")
            await until(lambda: client._evaluate(f"location.origin === {orjson.dumps(origin).decode()}"))
            await client._evaluate(FOLLOW % orjson.dumps(url).decode())
            yield client
            client._page.close()
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 10)

    async def refresh(self) -> None:
        """Read the events from the page."""
        for name, event_id, data in orjson.loads(await self._evaluate("JSON.stringify(received.splice(0))")):
            self.take(name, event_id, data)

    async def _evaluate(self, expression: str) -> Any:
        answer = await self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        await self._page.write_message(orjson.dumps({"id": number, "method": method, "params": parameters}))
        async with asyncio.timeout(10):
            while True:
                message = await self._page.read_message()
                assert message is not None, "the page is gone"
                document = orjson.loads(message)
                if document.get("id") == number:
                    assert "result" in document, document
                    return document["result"]


async def _page(port_file: Path) -> WebSocketClientConnection:
    await until(port_file.exists, seconds=START_SECONDS, what="for Chromium")
    port = int((await asyncio.to_thread(port_file.read_text)).splitlines()[0])
    listed = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json/list")
    page = next(each for each in orjson.loads(listed.body) if each["type"] == "page")
    return await websocket_connect(page["webSocketDebuggerUrl"], max_message_size=64 << 20)
