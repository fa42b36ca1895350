"""Derive from a symbol its instrument (one for several spellings), an option's contract, and its expiry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

_EXCHANGE = ZoneInfo("America/New_York")
_EXPIRES_AT = time(16)  # of the exchange's day
_KNOWN_SPELLINGS = 8_192
_A_LEAP_YEAR = 2024  # an expiry without its year may be the 29th of February
_LEAP_CYCLE = 8  # years at most from one 29th of February to the next
_SPOT = frozenset({"crypto", "stock", "etf"})

# Ranges are spelled out: with IGNORECASE, [a-z] would also match the Kelvin sign and the long s.
_OPTION = re.compile(
    r"(?P<underlying>[A-Za-z0-9._-]{1,20}) (?P<strike>[0-9]{1,9}(\.[0-9]{1,6})?)(?P<right>[CcPp])"
    r" (?P<expiry>[0-9/-]{3,10})"
)
_EXPIRY = re.compile(r"(?P<m>[0-9]{1,2})/(?P<d>[0-9]{1,2})(/(?P<y>[0-9]{2}|[0-9]{4}))?")
_ISO_EXPIRY = re.compile(r"(?P<y>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})")
_SAME = re.compile(r"(/USD|-PERP)$", re.IGNORECASE)
# A contract on a thousand and more units of a coin that costs next to nothing, as exchanges list it.
_MULTIPLE = re.compile(
    r"(?P<exchange>(?:[A-Z0-9]+:)?)1(?P<zeros>0{3,7})(?P<coin>[A-Z][A-Z0-9]*(?:[/-][A-Z0-9./:-]*)?)", re.IGNORECASE
)
_CRYPTO_PAIR = re.compile(
    r"(?:[A-Z0-9]+:)?(?P<base>[A-Z0-9]+)(?:[/_-](?!PERP)(?P<quote>[A-Z0-9]+)(?::[A-Z0-9]+)?)?(?:[/_-]PERP)?"
)
_DOLLARS = ("USDT", "USDC", "USD")
_COINS = frozenset(
    (
        *("BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "TRX", "AVAX", "DOT", "LINK", "LTC", "BCH", "ATOM", "XLM"),
        *(
            "ETC",
            "FIL",
            "NEAR",
            "APT",
            "ARB",
            "SUI",
            "SHIB",
            "PEPE",
            "TON",
            "HBAR",
            "ICP",
            "VET",
            "ALGO",
            "AAVE",
            "XMR",
        ),
    )
)
_QUOTES = ("BTC", "ETH", "BNB", "EUR", "GBP", "JPY", "TRY", "BRL", "AUD", "KRW")


@dataclass(frozen=True, slots=True)
class OptionTerms:
    """The terms in an option's symbol. Without a year, `month` and `day` are the next such date's."""

    underlying: str
    strike: Decimal
    is_call: bool
    month: int
    day: int
    year: int | None

    def expiry(self, at: datetime) -> date:
        """Return the day of expiry, as a reader of the symbol at `at` (aware) understands it."""
        if self.year is not None:
            return date(self.year, self.month, self.day)
        this_year = at.astimezone(_EXCHANGE).year
        days = (_date(this_year + more, self.month, self.day) for more in range(_LEAP_CYCLE + 1))
        return next(day for day in days if day is not None and not has_expired(day, at))

    def agrees_with(self, day: date) -> bool:
        """Return whether `day` may be the day of expiry."""
        return (self.month, self.day) == (day.month, day.day) and self.year in (None, day.year)


def parse_option(symbol: str) -> OptionTerms:
    """Parse `UNDERLYING STRIKE(C|P) EXPIRY`. Raises ValueError with a message for the field `symbol`."""
    match = _OPTION.fullmatch(symbol)
    if match is None:
        raise ValueError("must be UNDERLYING STRIKE(C|P) EXPIRY, as in AAPL 195C 3/15")
    if Decimal(match["strike"]) <= 0:
        raise ValueError("must have a strike greater than 0")
    expiry = _EXPIRY.fullmatch(match["expiry"]) or _ISO_EXPIRY.fullmatch(match["expiry"])
    year = None if expiry is None or expiry["y"] is None else int(expiry["y"]) + (2000 if len(expiry["y"]) == 2 else 0)
    if expiry is None or _date(_A_LEAP_YEAR if year is None else year, int(expiry["m"]), int(expiry["d"])) is None:
        raise ValueError("must end in an expiry date, as in 3/15, 3/15/2026 or 2026-03-15")
    right = match["right"].upper() == "C"
    return OptionTerms(
        match["underlying"].upper(), Decimal(match["strike"]), right, int(expiry["m"]), int(expiry["d"]), year
    )


def has_expired(day: date, at: datetime) -> bool:
    """Return whether an option that expires on `day` has expired at `at` (aware): from 16:00 in New York on."""
    return at >= datetime.combine(day, _EXPIRES_AT, _EXCHANGE)


def expiry_of(symbol: str, asset_data: Mapping[str, object] | None, at: datetime) -> date | None:
    """Return the day on which an option expires: its data's, else its symbol's; None if neither has one."""
    try:
        told = (asset_data or {}).get("expiry")
        return date.fromisoformat(str(told)) if told else parse_option(symbol).expiry(at)
    except (ValueError, StopIteration):  # stored under other rules than today's
        return None


def is_expired(symbol: str, asset_type: str, asset_data: Mapping[str, object] | None, at: datetime) -> bool:
    """Return whether it is an expired option, whose signals are published, but open and close nothing."""
    if asset_type != "option":
        return False
    day = expiry_of(symbol, asset_data, at)
    return day is not None and has_expired(day, at)


def instrument_of(symbol: str, asset_type: str, asset_data: Mapping[str, object] | None, at: datetime) -> str:
    """Return the instrument that a stored symbol means at `at` (aware): an option's with its full expiry."""
    if asset_type != "option":
        return spelled_alike(symbol, asset_type)
    day = expiry_of(symbol, asset_data, at)
    try:
        terms = parse_option(symbol)
    except ValueError:
        return symbol
    strike = f"{terms.strike.normalize():f}"
    return f"{terms.underlying} {strike}{'C' if terms.is_call else 'P'} {day or symbol.rpartition(' ')[2]}"


@dataclass(frozen=True, slots=True)
class CryptoPair:
    """A coin and what it is quoted in; `USDT`, `USDC` and `USD`, or nothing, are the dollar: `quote` is None."""

    base: str
    quote: str | None


@lru_cache(_KNOWN_SPELLINGS)
def crypto_pair(symbol: str) -> CryptoPair | None:
    """Return the pair of `BTC`, `BTC/USD`, `BTC-PERP`, `BTCUSDT`, `BINANCE:BTCUSDT`, `BTC/USDT:USDT`, `ETH/BTC`."""
    match = _CRYPTO_PAIR.fullmatch(symbol.upper())
    if match is None:
        return None
    base, quote = match["base"], match["quote"]
    if quote is None:
        dollars = next((each for each in _DOLLARS if base.endswith(each) and base != each), "")
        return CryptoPair(base.removesuffix(dollars), None)
    return CryptoPair(base, None if quote in _DOLLARS else quote)


def is_run_together(symbol: str) -> bool:
    """Return whether a symbol is a pair of two currencies that nothing separates, as in `ETHBTC`."""
    pair = crypto_pair(symbol)
    return pair is not None and any(
        pair.base.endswith(quote) and pair.base.removesuffix(quote) in _COINS for quote in _QUOTES
    )


@lru_cache(_KNOWN_SPELLINGS)
def without_multiple(symbol: str) -> tuple[str, int]:
    """Return the symbol of one unit, and the power of ten of the units in a symbol like `1000PEPE` (3)."""
    match = _MULTIPLE.fullmatch(symbol)
    return (symbol, 0) if match is None else (match["exchange"] + match["coin"], len(match["zeros"]))


@lru_cache(_KNOWN_SPELLINGS)
def spelled_alike(symbol: str, asset_type: str) -> str:
    """Return an instrument's one spelling: `BTC`, `BTC/USD` and `BTC-PERP` are `BTC`. Others stay as they are."""
    if asset_type == "crypto":
        symbol, _ = without_multiple(symbol)
    return _SAME.sub("", symbol) or symbol if asset_type in _SPOT else symbol


@lru_cache(_KNOWN_SPELLINGS)
def instrument_key(symbol: str) -> str:
    """Return the key that a filter compares without an asset type: in upper case, the same for each spelling."""
    symbol, _ = without_multiple(symbol)
    return _SAME.sub("", symbol).upper() or symbol.upper()


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
