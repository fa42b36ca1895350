"""Serve GET requests on loopback in a market-data vendor's protocol: recorded answers, and faults by script.

async with VendorPeer({"/api/v3/ticker/bookTicker": {"symbol": "BTCUSDT", …}}) as peer:
    peer.fault = status(503)
    venue = GuardedVenue(Binance(peer.base_url), CallLimits())
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import orjson
from aiohttp import web

from tests.peers.hyperliquid import Fault


class Status(Exception):
    """An answer that is not 200, to be put among the answers."""

    def __init__(self, status: int, document: object) -> None:
        super().__init__(status)
        self.status = status
        self.document = document


class VendorPeer:
    """The server. `answers` are documents by path, or JSON as it is; `calls` are the requests, in order."""

    def __init__(self, answers: Mapping[str, object]) -> None:
        self.answers = dict(answers)
        self.calls: list[web.Request] = []
        self.fault: Fault | None = None
        self.base_url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._get)
        self._runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def answer(self, document: web.Request) -> Any:
        """Return the answer to a request, parsed."""
        found = self.answers.get(document.path, Status(404, {"error": "not found"}))
        return orjson.loads(found) if isinstance(found, bytes) else found

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request)
        if self.fault is not None:
            response = await self.fault(request, request)
            if response is not None:
                return response
        found = self.answers.get(request.path, Status(404, {"error": "not found"}))
        if isinstance(found, Status):
            return web.json_response(found.document, status=found.status)
        body = found if isinstance(found, bytes) else orjson.dumps(found)
        return web.Response(body=body, content_type="application/json")
