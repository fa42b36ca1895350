"""Open each vendor of prices on a local server, with the answers that it gives when all is well.

The answers have the shapes of the vendors' documents and of recordings in public client libraries.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from actors.lens.market._guard import CallLimits
from actors.lens.market._venue import GuardedVenue, Vendor
from actors.lens.market.alpaca import Alpaca
from actors.lens.market.binance import Binance
from actors.lens.market.kalshi import Kalshi
from actors.lens.market.oanda import Oanda
from actors.lens.market.polymarket import Polymarket
from actors.lens.market.quotes import PricedInstrument

TOKEN = "60487116984468020978247225474488676749601001829886755968952521846780452448915"
MINUTE = datetime(2026, 9, 21, 14, 30, tzinfo=UTC)
SINCE_MS = int(MINUTE.timestamp() * 1000)
SINCE = SINCE_MS // 1000


@dataclass(frozen=True, kw_only=True)
class Case:
    """A vendor, one of its instruments, and its answers by path; `quote_path` and `bars_path` are two of them.

    `bid`, `ask` and `at` are the quote's, `at` None where it is the time of receipt. `closes` are those of the minutes.
    `edit_bid`, `edit_ask` change a price in the quote's answer, `edit_low` one in the candles'.
    """

    name: str
    make: Callable[[str], Vendor]
    instrument: PricedInstrument
    answers: dict[str, Any]
    quote_path: str
    bars_path: str
    bid: str
    ask: str
    at: datetime | None
    closes: tuple[str, ...]
    edit_bid: Callable[[Any, Any], object]
    edit_ask: Callable[[Any, Any], object]
    edit_low: Callable[[Any, Any], object]

    def document(self, path: str) -> Any:
        """Return a copy of an answer."""
        return copy.deepcopy(self.answers[path])

    def venue(self, base_url: str, **limits: Any) -> GuardedVenue:
        """Return the vendor on its guard."""
        return GuardedVenue(self.make(base_url), CallLimits(**({"timeout_seconds": 2.0} | limits)))


def _put(*path: Any) -> Callable[[Any, Any], None]:
    def edit(document: Any, value: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return edit


def _kline(minutes: int, *ohlcv: str) -> list[Any]:
    opened = SINCE_MS + minutes * 60_000
    return [opened, *ohlcv, opened + 59_999, "2434.19055334", 308, "1756.87402397", "28.46694368", "0"]


def _alpaca_bar(minutes: int, *ohlcv: Any) -> dict[str, Any]:
    return {"t": _rfc3339(minutes)} | dict(zip("ohlcv", ohlcv, strict=True)) | {"n": 66, "vw": 135.42}


def _rfc3339(minutes: int, fraction: str = "") -> str:
    return f"{MINUTE + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _mid(minutes: int, *ohlc: str) -> dict[str, Any]:
    mid = dict(zip("ohlc", ohlc, strict=True))
    return {"complete": True, "volume": 15, "time": _rfc3339(minutes, ".000000000"), "mid": mid}


def _dollars(minutes: int, *ohlc: str) -> dict[str, Any]:
    names = ("open_dollars", "high_dollars", "low_dollars", "close_dollars")
    return {
        "end_period_ts": SINCE + 60 * (minutes + 1),
        "open_interest_fp": "10869.00",
        "price": dict(zip(names, ohlc, strict=True)) if ohlc else {},
        "volume_fp": "155.00",
        "yes_ask": {"close_dollars": "0.0300"},
        "yes_bid": {"close_dollars": "0.0200"},
    }


BINANCE = Case(
    name="binance",
    make=Binance,
    instrument=PricedInstrument("crypto", "BTC/USD"),
    quote_path="/api/v3/ticker/bookTicker",
    bars_path="/api/v3/klines",
    answers={
        "/api/v3/ping": {},
        "/api/v3/ticker/bookTicker": {
            "symbol": "BTCUSDT",
            "bidPrice": "67123.45000000",
            "bidQty": "4.31000000",
            "askPrice": "67123.46000000",
            "askQty": "9.00000000",
        },
        "/api/v3/klines": [
            _kline(0, "67100.10000000", "67130.00000000", "67099.99000000", "67120.50000000", "148.97000000"),
            _kline(1, "67120.50000000", "67121.00000000", "67000.00000000", "67001.00000000", "12.00000000"),
        ],
    },
    bid="67123.45",
    ask="67123.46",
    at=None,
    closes=("67120.5", "67001"),
    edit_bid=_put("bidPrice"),
    edit_ask=_put("askPrice"),
    edit_low=_put(0, 3),
)
ALPACA = Case(
    name="alpaca",
    make=lambda url: Alpaca(url, "key", "secret", stock_feed="iex", option_feed="indicative"),
    instrument=PricedInstrument("stock", "AAPL"),
    quote_path="/v2/stocks/quotes/latest",
    bars_path="/v2/stocks/bars",
    answers={
        # Nanoseconds, of which the microseconds are kept, rounded.
        "/v2/stocks/quotes/latest": {
            "quotes": {
                "AAPL": {
                    "t": "2026-09-21T14:30:05.123456789Z",
                    "ax": "V",
                    "ap": 226.98,
                    "as": 1,
                    "bx": "V",
                    "bp": 226.9,
                    "bs": 2,
                    "c": ["R"],
                    "z": "C",
                }
            }
        },
        "/v2/stocks/bars": {
            "bars": {"AAPL": [_alpaca_bar(0, 226.5, 227, 226.1, 226.9, 9000), _alpaca_bar(3, 227, 227, 227, 227, 5)]},
            "next_page_token": None,
        },
    },
    bid="226.9",
    ask="226.98",
    at=MINUTE.replace(second=5, microsecond=123457),
    closes=("226.9", "227"),
    edit_bid=_put("quotes", "AAPL", "bp"),
    edit_ask=_put("quotes", "AAPL", "ap"),
    edit_low=_put("bars", "AAPL", 0, "l"),
)
OCC = "AAPL261218C00195000"
OPTIONS = Case(
    name="alpaca options",
    make=ALPACA.make,
    instrument=PricedInstrument("option", "AAPL 195C 12/18", date(2026, 12, 18)),
    quote_path="/v1beta1/options/quotes/latest",
    bars_path="/v1beta1/options/bars",
    answers={
        "/v2/stocks/quotes/latest": ALPACA.answers["/v2/stocks/quotes/latest"],
        "/v1beta1/options/quotes/latest": {
            "quotes": {
                OCC: {
                    "ap": 35.55,
                    "as": 12,
                    "ax": "B",
                    "bp": 35.2,
                    "bs": 88,
                    "bx": "N",
                    "c": "A",
                    "t": "2026-09-21T14:30:00.5Z",
                }
            }
        },
        "/v1beta1/options/bars": {"bars": {OCC: [_alpaca_bar(1, 35, 36.25, 34.9, 36, 11)]}, "next_page_token": None},
    },
    bid="35.2",
    ask="35.55",
    at=MINUTE.replace(microsecond=500_000),
    closes=("36",),
    edit_bid=_put("quotes", OCC, "bp"),
    edit_ask=_put("quotes", OCC, "ap"),
    edit_low=_put("bars", OCC, 0, "l"),
)
OANDA = Case(
    name="oanda",
    make=lambda url: Oanda(url, "101-001-1234567-001", "token"),
    instrument=PricedInstrument("forex", "EUR/USD"),
    quote_path="/v3/accounts/101-001-1234567-001/pricing",
    bars_path="/v3/instruments/EUR_USD/candles",
    answers={
        "/v3/accounts/101-001-1234567-001/pricing": {
            "time": "2026-09-21T14:30:07.250000000Z",
            "prices": [
                {
                    "type": "PRICE",
                    "time": "2026-09-21T14:29:58.881250001Z",
                    "bids": [{"price": "1.13028", "liquidity": 1000000}, {"price": "1.13026", "liquidity": 9000000}],
                    "asks": [{"price": "1.13041", "liquidity": 1000000}],
                    "closeoutBid": "1.13024",
                    "closeoutAsk": "1.13045",
                    "status": "tradeable",
                    "tradeable": True,
                    "instrument": "EUR_USD",
                }
            ],
        },
        "/v3/instruments/EUR_USD/candles": {
            "instrument": "EUR_USD",
            "granularity": "M1",
            "candles": [
                _mid(0, "1.13000", "1.13050", "1.12990", "1.13040"),
                _mid(1, "1.13040", "1.13060", "1.13030", "1.13035"),
            ],
        },
    },
    bid="1.13028",
    ask="1.13041",
    at=MINUTE.replace(second=7, microsecond=250_000),
    closes=("1.1304", "1.13035"),
    edit_bid=_put("prices", 0, "bids", 0, "price"),
    edit_ask=_put("prices", 0, "asks", 0, "price"),
    edit_low=_put("candles", 0, "mid", "l"),
)
KALSHI = Case(
    name="kalshi",
    make=Kalshi,
    instrument=PricedInstrument("prediction", "High in New York above 90?", None, "kalshi", "KXHIGHNY-26SEP21-T90"),
    quote_path="/markets/KXHIGHNY-26SEP21-T90/orderbook",
    bars_path="/markets/candlesticks",
    answers={
        "/exchange/status": {"exchange_active": True, "trading_active": True},
        "/markets/KXHIGHNY-26SEP21-T90": {
            "market": {"ticker": "KXHIGHNY-26SEP21-T90", "status": "active", "result": "", "yes_bid_dollars": "0.4000"}
        },
        "/markets/KXHIGHNY-26SEP21-T90/orderbook": {
            "orderbook_fp": {
                "yes_dollars": [["0.3900", "10.00"], ["0.4000", "74.00"]],
                "no_dollars": [["0.0600", "1897.00"], ["0.5400", "2.00"]],
            }
        },
        "/markets/candlesticks": {
            "markets": [
                {
                    "market_ticker": "KXHIGHNY-26SEP21-T90",
                    "candlesticks": [
                        _dollars(0, "0.4100", "0.4300", "0.4000", "0.4200"),
                        _dollars(1),
                        _dollars(2, "0.4300", "0.4300", "0.4300", "0.4300"),
                    ],
                }
            ]
        },
    },
    bid="0.4",
    ask="0.46",
    at=None,
    closes=("0.42", "0.43"),
    edit_bid=_put("orderbook_fp", "yes_dollars", 1, 0),
    edit_ask=lambda document, value: _put("orderbook_fp", "no_dollars", 1, 0)(document, _no_of(value)),
    edit_low=_put("markets", 0, "candlesticks", 0, "price", "low_dollars"),
)


def _no_of(ask: Any) -> Any:
    try:
        return str(1 - Decimal(ask))
    except (ArithmeticError, TypeError, ValueError):
        return ask


POLYMARKET = Case(
    name="polymarket",
    make=lambda url: Polymarket(url, url),
    instrument=PricedInstrument("prediction", "Seoul at 23°C?", None, "polymarket", "512345"),
    quote_path="/book",
    bars_path="/prices-history",
    answers={
        "/time": SINCE,
        "/markets/512345": {
            "id": "512345",
            "conditionId": "0x9c1a953fe92c8357f1b646ba25d983aa83e90c525992db14fb726fa895cb5763",
            "slug": "highest-temperature-in-seoul-23c",
            "outcomes": '["Yes", "No"]',
            "outcomePrices": '["0.029", "0.971"]',
            "clobTokenIds": f'["{TOKEN}", "71321"]',
            "closed": False,
            "active": True,
        },
        "/book": {
            "market": "0x9c1a953fe92c8357f1b646ba25d983aa83e90c525992db14fb726fa895cb5763",
            "asset_id": TOKEN,
            "timestamp": str(SINCE_MS + 5250),
            "hash": "97f541df6e9baa53e3583f8ebe69d06e86a2198c",
            "bids": [{"price": "0.01", "size": "21342"}, {"price": "0.028", "size": "155"}],
            "asks": [{"price": "0.99", "size": "5"}, {"price": "0.031", "size": "40"}],
        },
        "/prices-history": {
            "history": [
                {"t": SINCE + 2, "p": 0.03},
                {"t": SINCE + 40, "p": 0.025},
                {"t": SINCE + 62, "p": 0.0295},
            ]
        },
    },
    bid="0.028",
    ask="0.031",
    at=MINUTE.replace(second=5, microsecond=250_000),
    closes=("0.025", "0.0295"),
    edit_bid=_put("bids", 1, "price"),
    edit_ask=_put("asks", 1, "price"),
    edit_low=_put("history", 1, "p"),
)
CASES = (BINANCE, ALPACA, OPTIONS, OANDA, KALSHI, POLYMARKET)
