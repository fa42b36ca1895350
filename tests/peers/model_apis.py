"""A server that speaks the APIs of OpenAI, Google, Anthropic and DeepSeek on loopback: strict as they are, with faults.

It refuses like them: a wrong key, an unknown model, a parameter that the model does not take, a schema outside
the subset of structured outputs. Otherwise it answers as a vendor's model would, in the vendor's own envelope.

    async with ModelPeer() as peer:
        peer.next("claude", status(529), says("{}"))
        [model] = open_models(peer.settings(settings, "claude"))
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

import orjson
from aiohttp import web

from config.settings import Settings
from tests.peers.model_dialects import DIALECTS, VENDORS, Dialect, Document, GeminiDialect, json_response

GOOD: Document = {
    "decision": "FOLLOW_ENTER",
    "confidence": 0.78,
    "entry_plan": {"type": "limit", "offset_bps": -5},
    "risk_plan": {"stop_method": "atr", "stop_level": None, "atr_multiple": 2.0, "trail_pct": None},
    "size_pct": 15,
    "reasons": ["bullish_ema_alignment", "positive_macd_crossover"],
}
"""What a model says unless told otherwise: the API document's own example."""
GOOD_EXIT: Document = {**GOOD, "decision": "FOLLOW_EXIT", "size_pct": 100}


Turn = Callable[["ModelPeer", Dialect, web.Request], Awaitable[web.StreamResponse]]


class ModelPeer:
    """A server of all four APIs. `requests` are the bodies and headers that each model's API was sent, in order."""

    def __init__(self) -> None:
        self.requests: dict[str, list[tuple[Document, Mapping[str, str]]]] = {name: [] for name in DIALECTS}
        self.most_at_once = 0
        self.at_once = 0
        self.latency_seconds = 0.0
        self.released = asyncio.Event()  # ends what hangs
        self._turns: dict[str, deque[Turn]] = {name: deque() for name in DIALECTS}
        self._always: dict[str, Turn] = {}

    async def __aenter__(self) -> Self:
        app = web.Application()
        for name, dialect in DIALECTS.items():
            app.router.add_post(f"{dialect.path}/{{rest:.+}}", self._handler(name, dialect))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await self._listen(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.released.set()
        await self._runner.cleanup()

    async def _listen(self, port: int) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", port)
        await self._site.start()
        assert self._site._server is not None
        self.port = self._site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    async def refuse_connections(self) -> None:
        """Stop listening; connections that are open stay."""
        await self._site.stop()

    async def listen_again(self) -> None:
        """Take connections again, on the same port."""
        await self._listen(self.port)

    def settings(self, settings: Settings, *models: str, **changes: Any) -> Settings:
        """Return settings under which exactly these models run, against this server."""
        urls: dict[str, Any] = {"lens_models": models}
        for name, dialect in DIALECTS.items():
            urls[f"{VENDORS[name]}_api_key"] = dialect.key
            urls[f"{VENDORS[name]}_base_url"] = f"http://127.0.0.1:{self.port}{dialect.path}"
        return settings.replace(**urls | changes)

    def next(self, model: str, *turns: Turn) -> None:
        """Set the behaviour of the model's API for the next requests; afterwards its answers are good again."""
        self._turns[model].extend(turns)

    def always(self, model: str, turn: Turn) -> None:
        """Set the behaviour of the model's API for every request."""
        self._always[model] = turn

    def _handler(self, name: str, dialect: Dialect) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = orjson.loads(await request.read())
            self.requests[name].append((body, dict(request.headers)))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                await asyncio.sleep(self.latency_seconds)
                if dialect.key_of(request) != dialect.key:
                    is_gemini = isinstance(dialect, GeminiDialect)
                    return dialect.refuse(
                        400 if is_gemini else 401, f"Incorrect API key provided: {dialect.key_of(request)}."
                    )
                objection = dialect.objection(request, body)
                if objection is not None:
                    return objection
                turns = self._turns[name]
                good = says(GOOD_EXIT if dialect.is_close(body) else GOOD)
                turn = turns.popleft() if turns else self._always.get(name, good)
                return await turn(self, dialect, request)
            finally:
                self.at_once -= 1

        return handle


def says(answer: Document | str, ending: str = "complete") -> Turn:
    """Answer as the model, with this text."""

    async def turn(_: ModelPeer, dialect: Dialect, __: web.Request) -> web.StreamResponse:
        text = answer if isinstance(answer, str) else orjson.dumps(answer).decode()
        return json_response(dialect.answer(text, ending))

    return turn


def status(
    code: int, message: str = "Something went wrong.", *, error: str = "", headers: Mapping[str, str] | None = None
) -> Turn:
    """Answer with an error in the vendor's form; `error` is its machine-readable code (for Gemini: the retry delay)."""

    async def turn(_: ModelPeer, dialect: Dialect, __: web.Request) -> web.StreamResponse:
        return json_response(dialect.error(code, message, error), code, headers)

    return turn


def raw(body: bytes, content_type: str = "application/json", code: int = 200) -> Turn:
    """Answer with bytes that the vendor's API would not send: a proxy's page, a broken document."""

    async def turn(_: ModelPeer, __: Dialect, ___: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=code, content_type=content_type)

    return turn


def redirects(location: str) -> Turn:
    """Answer with a redirect."""

    async def turn(_: ModelPeer, __: Dialect, ___: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": location})

    return turn


async def hangs(peer: ModelPeer, _: Dialect, __: web.Request) -> web.StreamResponse:
    """Give no answer, until the client goes away or the test ends."""
    await peer.released.wait()
    return web.Response(status=500)


def hangs_on(text: str) -> Turn:
    """Give no answer to questions with that text in them, good ones to all others."""

    async def turn(peer: ModelPeer, dialect: Dialect, request: web.Request) -> web.StreamResponse:
        is_meant = text.encode() in await request.read()
        return await (hangs if is_meant else says(GOOD))(peer, dialect, request)

    return turn


async def resets(_: ModelPeer, __: Dialect, request: web.Request) -> web.StreamResponse:
    """Reset the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cuts(_: ModelPeer, dialect: Dialect, request: web.Request) -> web.StreamResponse:
    """Send half of the body, then close."""
    body = orjson.dumps(dialect.answer(orjson.dumps(GOOD).decode(), "complete"))
    response = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response
