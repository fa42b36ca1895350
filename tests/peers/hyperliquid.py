"""A server that speaks Hyperliquid's `/info` on loopback: real recorded prices, and faults by script.

The shapes are those of the venue's own SDK recordings: prices are strings, an unknown coin's book is null, a body that
is no question is 422, a candle is answered if any part of it lies within the span that was asked for.

    async with HyperliquidPeer() as peer:
        peer.fault(status(503), "l2Book", "BTC", times=2)
        market = HyperliquidMarketData(peer.base_url)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import orjson
from aiohttp import web

from tests.peers.prices import Array, quarters_of, recorded

INTERVAL_MS = {"15m": 900_000, "1h": 3_600_000, "4h": 14_400_000}
QUARTER_MS = INTERVAL_MS["15m"]
FUTURE_HOURS = 48  # recorded hours that are still to come when the server starts: a test may advance the clock

Document = dict[str, Any]
Fault = Callable[[web.Request, Any], Awaitable[web.StreamResponse | None]]


def recorded_coins() -> dict[str, Array]:
    """Hours by coin. Days and months of other markets pass as hours here: the prices are real, the clock is not.

    `kPEPE` has its case, and `NEW` was listed less than a week ago.
    """
    euro = recorded("EURUSD")
    return {
        "BTC": recorded("GOOG"),
        "ETH": euro,
        "SOL": euro[:, :3500],
        "DOGE": euro[:, 700:3000],
        "kPEPE": euro[:, 1200:4200],
        "NEW": recorded("BTCUSD"),
    }


class Answers(Protocol):
    """A peer that has an answer to each question."""

    def answer(self, document: Any) -> Any:
        """Return the answer, as JSON."""


@dataclass(slots=True)
class _Script:
    fault: Fault
    question: str | None
    coin: str | None
    times: int | None


class HyperliquidPeer:
    """The server. `calls` are the questions it was asked, in order; `latency_seconds` passes before each answer."""

    def __init__(
        self,
        coins: dict[str, Array] | None = None,
        *,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self.now_ms = now_ms
        self.latency_seconds = 0.0
        self.calls: list[Document] = []
        self.base_url = ""
        self._quarters = {coin: quarters_of(hours) for coin, hours in (coins or recorded_coins()).items()}
        hour_ms = INTERVAL_MS["1h"]
        self._end_ms = (now_ms() // hour_ms + 1 + FUTURE_HOURS) * hour_ms  # where the recordings end
        self._scripts: list[_Script] = []
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen: on a free port the first time, on the same one after a `stop`."""
        application = web.Application()
        application.router.add_post("/info", self._info)
        self._runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Stop, so that connections are refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def fault(
        self, fault: Fault, question: str | None = None, coin: str | None = None, *, times: int | None = None
    ) -> None:
        """Let questions of that type and coin (each or any) meet `fault`, so many times or until `mend`."""
        self._scripts.append(_Script(fault, question, coin, times))

    def mend(self) -> None:
        """Remove all faults."""
        self._scripts.clear()

    def count(self, question: str | None = None, coin: str | None = None) -> int:
        """Count the questions of that type and coin."""
        return sum(question in (None, each["type"]) and coin in (None, _coin_of(each)) for each in self.calls)

    def price(self, coin: str) -> float:
        """Return the coin's last price."""
        return float(self._visible(coin)[3, -1])

    def candles(self, coin: str, interval: str, start_ms: int, end_ms: int) -> list[Document]:
        """Return the candles that overlap the span, as the venue writes them; the last one forms."""
        interval_ms = INTERVAL_MS[interval]
        quarters = self._visible(coin)
        last_ms = self.now_ms() // QUARTER_MS * QUARTER_MS
        times = last_ms - QUARTER_MS * np.arange(quarters.shape[1])[::-1]
        is_wanted = (times // interval_ms * interval_ms + interval_ms > start_ms) & (times <= end_ms)
        quarters, times = quarters[:, is_wanted], times[is_wanted]
        opened, first = np.unique(times // interval_ms * interval_ms, return_index=True)
        if not opened.size:
            return []
        last = np.append(first[1:], times.size) - 1
        rows = (
            quarters[0, first],
            np.maximum.reduceat(quarters[1], first),
            np.minimum.reduceat(quarters[2], first),
            quarters[3, last],
            np.add.reduceat(quarters[4], first),
        )
        return [
            {"t": int(t), "T": int(t) + interval_ms - 1, "s": coin, "i": interval, "n": 42}
            | {name: repr(value) for name, value in zip("ohlcv", ohlcv, strict=True)}
            for t, *ohlcv in zip(opened.tolist(), *(row.tolist() for row in rows), strict=True)
        ]

    def answer(self, document: Document) -> Any:
        """Return the venue's answer to a question."""
        match document:
            case {"type": "allMids"}:
                mids = {coin: repr(self.price(coin)) for coin in self._quarters}
                return mids | {"PURR/USDC": "0.17", "@1": "13.4", "DEAD": None}
            case {"type": "metaAndAssetCtxs"}:
                universe = [{"szDecimals": 5, "name": coin, "maxLeverage": 40} for coin in self._quarters]
                return [{"universe": universe}, [self._context(coin) for coin in self._quarters]]
            case {"type": "l2Book", "coin": str(coin)}:
                return self._book(coin) if coin in self._quarters else None
            case {
                "type": "candleSnapshot",
                "req": {
                    "coin": str(coin),
                    "interval": str(interval),
                    "startTime": int(start_ms),
                    "endTime": int(end_ms),
                },
            } if interval in INTERVAL_MS:
                return self.candles(coin, interval, start_ms, end_ms) if coin in self._quarters else []
        raise web.HTTPUnprocessableEntity(text="Failed to deserialize the JSON body into the target type")

    def _visible(self, coin: str) -> Array:
        """Return the quarters up to now, the last one unfinished."""
        ahead = (self._end_ms - self.now_ms() - 1) // QUARTER_MS
        assert ahead >= 0, "the clock is past the recordings"
        quarters = self._quarters[coin]
        return quarters[:, : quarters.shape[1] - ahead]

    def _book(self, coin: str) -> Document:
        price = self.price(coin)
        sides = [
            [{"px": repr(price * (1 + sign * 1e-4 * n)), "sz": repr(size * n), "n": n} for n in range(1, 21)]
            for sign, size in ((-1, 3.0), (1, 1.0))
        ]
        return {"coin": coin, "time": self.now_ms(), "levels": sides}

    def _context(self, coin: str) -> Document:
        price = repr(self.price(coin))
        return {
            "funding": "0.0000125",
            "openInterest": "21345.67",
            "prevDayPx": price,
            "dayNtlVlm": "1234567.8",
            "premium": "0.0003",
            "oraclePx": price,
            "markPx": price,
            "midPx": price,
            "impactPxs": [price, price],
            "dayBaseVlm": "4321.0",
        }

    async def _info(self, request: web.Request) -> web.StreamResponse:
        document = orjson.loads(await request.read())
        self.calls.append(document)
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        for script in self._scripts:
            matches = script.question in (None, document["type"]) and script.coin in (None, _coin_of(document))
            if not matches or script.times == 0:
                continue
            if script.times is not None:
                script.times -= 1
            response = await script.fault(request, document)
            if response is not None:
                return response
        return _json(self.answer(document))


def status(code: int, **headers: str) -> Fault:
    """Answer with an error page of a proxy, as text/html. Header names are given with underscores."""

    async def fault(request: web.Request, document: Any) -> web.StreamResponse:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, text=f"<html><h1>{code}</h1></html>", content_type="text/html", headers=fields)

    return fault


def stall(seconds: float = 3600.0) -> Fault:
    """Answer after so many seconds."""

    async def fault(request: web.Request, document: Any) -> None:
        await asyncio.sleep(seconds)

    return fault


def body(content: bytes, content_type: str = "application/json") -> Fault:
    """Answer 200 with these bytes."""

    async def fault(request: web.Request, document: Any) -> web.StreamResponse:
        return web.Response(body=content, content_type=content_type)

    return fault


def raw(content: bytes) -> Fault:
    """Send these bytes, which need not be HTTP, and close the connection."""

    async def fault(request: web.Request, document: Any) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(content)
        request.transport.close()
        return web.Response()

    return fault


def reset() -> Fault:
    """Cut the connection before an answer."""

    async def fault(request: web.Request, document: Any) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return fault


def truncated(peer: Answers) -> Fault:
    """Send half of the answer, and close the connection."""

    async def fault(request: web.Request, document: Any) -> web.StreamResponse:
        whole = orjson.dumps(peer.answer(document))
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(whole))})
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    return fault


def endless(peer: Answers) -> Fault:
    """Send a chunked body without an end, as long as the client reads."""

    async def fault(request: web.Request, document: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            for _ in range(1000):  # 64 MB at most
                await response.write(b" " * 65_536)
        except ConnectionError:
            pass
        return response

    return fault


def edited(peer: Answers, edit: Callable[[Any], object]) -> Fault:
    """Answer after `edit` has changed the answer in place."""

    async def fault(request: web.Request, document: Any) -> web.StreamResponse:
        answer = peer.answer(document)
        edit(answer)
        return _json(answer)

    return fault


def replaced(peer: Answers, replace: Callable[[Any], Any]) -> Fault:
    """Answer with `replace` of the answer."""

    async def fault(request: web.Request, document: Any) -> web.StreamResponse:
        return _json(replace(peer.answer(document)))

    return fault


def _json(document: Any) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _coin_of(document: Document) -> Any:
    return document.get("req", document).get("coin")
