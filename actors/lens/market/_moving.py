"""Price a simulated market that moves by itself: functions of an instrument, its anchor and the time.

An instrument starts at its anchor, its first declared price, and moves along the path of `_walk` that its name picks:
as a geometric Brownian motion without a gain to expect, a prediction by its odds, an option with its underlying. Its
history before the anchor ends there. Who has the same anchor computes the same prices.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, Protocol, cast
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from actors.lens.market import _walk
from actors.lens.market.quotes import (
    HOURS_PAGE,
    MINUTE_MS,
    MINUTES_PAGE,
    Bar,
    Declaration,
    PricedInstrument,
    Resolution,
    first_minute_ms,
)
from actors.lens.market.simulated import HALF_SPREAD_BPS, HOURLY_VOLATILITY
from actors.lens.quote import VenueQuote
from config import clock
from config.values import Value
from schemas._instruments import OptionTerms, parse_option, spelled_alike
from schemas._vocabulary import AssetType

Array = NDArray[np.float64]

SOURCE: Final = "simulated"
_DIGITS: Final = 7  # of a price; of an option's or a probability, the places are fixed
_PLACES: Final[dict[AssetType, int]] = {"option": 4, "prediction": 4}
_LEAST_ODDS, _MOST_ODDS = 0.001, 0.999
_PRICES: Final = 1e-17, 9e15  # a quote around one is still within what `check_price` allows
_HOURS_A_YEAR: Final = 8766.0
_MINUTES_A_YEAR: Final = 60 * _HOURS_A_YEAR
_VOLATILITIES: Final = 0.05, 5.0  # a year's, of options
_BISECTIONS: Final = 60
_ERFC: Final = np.frompyfunc(math.erfc, 1, 1)
_UNDERLYINGS: Final[tuple[AssetType, ...]] = ("stock", "etf")
_EXCHANGE: Final = ZoneInfo("America/New_York")
_EXPIRES_AT: Final = time(16)
_MAX_WAYS: Final = 1 << 14


class Anchor(Value):
    """A declared price, and when it was declared (Unix seconds)."""

    price: float
    seconds: float


class Anchors(Protocol):
    """The anchors of the simulated market, the same for all who ask."""

    async def of(self, instrument: PricedInstrument) -> Anchor | None:
        """Return an instrument's anchor; None where no price was ever declared."""

    async def declare_all(self, declarations: Sequence[Declaration]) -> None:
        """Let instruments without an anchor start at these prices."""


class SimulatedPath(Value):
    """An instrument's way: the seed of its path, how far that moves it a minute, and where it is at the anchor."""

    asset_type: AssetType
    seed: int
    volatility: float
    anchor: Anchor


class SimulatedOption(Value):
    """An option on the path of its underlying; `expires` in Unix minutes, `volatility` of a year."""

    underlying: SimulatedPath
    strike: float
    is_call: bool
    expires: float
    volatility: float


Way = SimulatedPath | SimulatedOption


class SimulatedPrices:
    """The `PriceSource` of the simulated market."""

    def __init__(self, anchors: Anchors, *, now: Callable[[], datetime] = clock.now) -> None:
        self._anchors = anchors
        self._now = now
        self._ways: OrderedDict[PricedInstrument, Way] = OrderedDict()

    async def declare_all(self, declarations: Sequence[Declaration]) -> None:
        """Let instruments that were never priced before start at declared prices."""
        new = [each for each in declarations if each.instrument not in self._ways]
        if new:
            await self._anchors.declare_all(new)

    async def quote(self, instrument: PricedInstrument) -> VenueQuote | None:
        """Return the quote at this moment."""
        return await self.quote_at(instrument, self._now())

    async def quote_at(self, instrument: PricedInstrument, at: datetime) -> VenueQuote | None:
        """Return the quote at a time, also a past one."""
        way = await self.way(instrument)
        return None if way is None else quote_at(way, instrument.asset_type, at)

    async def minutes(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar]:
        """Return a page of the complete minute candles that opened at or after `since`, oldest first."""
        way = await self.way(instrument)
        first = first_minute_ms(since) // MINUTE_MS
        count = min(MINUTES_PAGE, int(self._now().timestamp()) // 60 - first)
        return () if way is None or count <= 0 else bars(way, instrument.asset_type, first, count)

    async def hours(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar]:
        """Return a page of the complete candles of full hours from `since` on, a full hour, oldest first."""
        way = await self.way(instrument)
        first = int(since.timestamp()) // 60
        count = min(HOURS_PAGE, (int(self._now().timestamp()) // 60 - first) // 60)
        return () if way is None or count <= 0 else bars(way, instrument.asset_type, first, count, 60)

    async def resolution(self, instrument: PricedInstrument) -> Resolution | None:
        """Return how a prediction ended with its day (UTC): it comes true as often as its last price says."""
        way = await self.way(instrument)
        if way is None or instrument.asset_type != "prediction" or instrument.resolves is None:
            return None
        end = datetime.combine(instrument.resolves, time(), UTC) + timedelta(days=1)
        if self._now() < end:
            return None
        chance = _seed("prediction", f"{instrument.symbol}\x1f{instrument.resolves}") / 2**64
        return "yes" if chance < price_at(way, end.timestamp()) else "no"

    async def close(self) -> None:
        """Do nothing: no connection is open."""

    def known_way(self, instrument: PricedInstrument) -> Way | None:
        """Return the way of an instrument that this process has priced before."""
        way = self._ways.get(instrument)
        if way is not None:
            self._ways.move_to_end(instrument)
        return way

    async def way(self, instrument: PricedInstrument) -> Way | None:
        """Return the way of an instrument, which never changes; None where no price was ever declared."""
        way = self.known_way(instrument) or await self._find_way(instrument)
        if way is not None:
            self._ways[instrument] = way
            if len(self._ways) > _MAX_WAYS:
                self._ways.popitem(last=False)
        return way

    async def _find_way(self, instrument: PricedInstrument) -> Way | None:
        anchor = await self._anchors.of(instrument)
        if anchor is None or instrument.asset_type != "option":
            return None if anchor is None else path_of(instrument.asset_type, instrument.symbol, anchor)
        try:
            terms = parse_option(instrument.symbol)
        except ValueError:
            return None
        if instrument.expiry is None:
            return None
        return option_of(terms, instrument.expiry, anchor, await self._underlying(terms, anchor))

    async def _underlying(self, terms: OptionTerms, option: Anchor) -> SimulatedPath | None:
        for asset_type in _UNDERLYINGS:
            anchor = await self._anchors.of(PricedInstrument(asset_type, terms.underlying))
            if anchor is not None and anchor.seconds <= option.seconds:  # a later one must not move the option's past
                return path_of(asset_type, terms.underlying, anchor)
        return None


def path_of(asset_type: AssetType, symbol: str, anchor: Anchor) -> SimulatedPath:
    """Return the way of an instrument that is no option."""
    seed = _seed(asset_type, spelled_alike(symbol, asset_type))
    return SimulatedPath(asset_type, seed, HOURLY_VOLATILITY[asset_type] / math.sqrt(60), anchor)


@functools.lru_cache(maxsize=4096)
def option_of(terms: OptionTerms, expiry: date, anchor: Anchor, underlying: SimulatedPath | None) -> SimulatedOption:
    """Return the way of an option, which is worth its anchor's price then if any volatility allows it.

    Where nothing is known of its underlying, that stands where the option is worth what was declared.
    """
    expires = datetime.combine(expiry, _EXPIRES_AT, _EXCHANGE).timestamp() / 60
    strike, left = float(terms.strike), max(expires - anchor.seconds / 60, 1.0) / _MINUTES_A_YEAR
    volatility = HOURLY_VOLATILITY["stock"] * math.sqrt(_HOURS_A_YEAR)

    def worth(spot: float, deviation: float) -> float:
        return float(_black_scholes(np.array([spot]), strike, terms.is_call, np.array([left]), deviation)[0])

    if underlying is None:
        spot = _solved(lambda each: worth(each, volatility), anchor.price, strike / 1000, 100 * (strike + anchor.price))
        path = path_of("stock", terms.underlying, Anchor(spot, anchor.seconds))
        return SimulatedOption(path, strike, terms.is_call, expires, volatility)
    spot = price_at(underlying, anchor.seconds)
    if worth(spot, _VOLATILITIES[0]) < anchor.price < worth(spot, _VOLATILITIES[1]):
        volatility = _solved(lambda each: worth(spot, each), anchor.price, *_VOLATILITIES)
    return SimulatedOption(underlying, strike, terms.is_call, expires, volatility)


def price_at(way: Way, seconds: float) -> float:
    """Return the price at a Unix time."""
    return float(_valued(way, np.array([_walk.at(seed_of(way), seconds)]), np.array([seconds / 60]))[0])


def seed_of(way: Way) -> int:
    """Return the seed of the path that an instrument moves along."""
    return way.underlying.seed if isinstance(way, SimulatedOption) else way.seed


def quote_at(way: Way, asset_type: AssetType, at: datetime) -> VenueQuote | None:
    """Return the quote at a time: its middle is the price, and half the spread at least one step of the price."""
    mid = _rounded(asset_type, price_at(way, at.timestamp()))
    step = Decimal(1).scaleb(cast(int, mid.as_tuple().exponent))
    half = max(step, (mid * Decimal(HALF_SPREAD_BPS[asset_type]) / 10_000).quantize(step))
    if asset_type == "prediction":
        half = min(half, mid - step, 1 - step - mid)
    elif asset_type == "option":
        half = min(half, mid)
    return VenueQuote.checked(asset_type, mid - half, mid + half, at.astimezone(UTC), SOURCE)


def bars(way: Way, asset_type: AssetType, first: int, count: int, minutes: int = 1) -> list[Bar]:
    """Return `count` candles of so many minutes, from the Unix minute `first` on; a close is the price at its end."""
    rows = candles(way, first, count, minutes)
    found = []
    for place, row in enumerate(rows.T.tolist()):
        opened, high, low, close = (_rounded(asset_type, each) for each in row)
        found.append(Bar((first + place * minutes) * MINUTE_MS, opened, high, low, close, Decimal(0)))
    return found


def candles(way: Way, first: int, count: int, minutes: int) -> Array:
    """Return the same as floats: open, high, low and close, of shape (4, count)."""
    knots = _walk.minutes(seed_of(way), first, count * minutes)
    opens = np.arange(first, first + count * minutes, dtype=np.float64)
    # An option loses value as time passes: each price is taken at the end of the minute that makes the candle widest.
    times = np.stack((opens, opens, opens + 1, opens + 1))
    if isinstance(way, SimulatedOption) and not way.is_call:
        knots = knots[[0, 2, 1, 3]]  # a put is dearest where its underlying is cheapest
    prices = _valued(way, knots, times).reshape(4, count, minutes)
    return np.stack((prices[0, :, 0], prices[1].max(axis=1), prices[2].min(axis=1), prices[3, :, -1]))


def _valued(way: Way, knots: Array, minutes: Array) -> Array:
    """Return the prices at points of the path, at these Unix minutes."""
    if isinstance(way, SimulatedPath):
        return _prices(way, knots, minutes)
    spots = _prices(way.underlying, knots, minutes)
    left = np.maximum(way.expires - minutes, 0.0) / _MINUTES_A_YEAR
    return _black_scholes(spots, way.strike, way.is_call, left, way.volatility)


def _prices(path: SimulatedPath, knots: Array, minutes: Array) -> Array:
    anchor = path.anchor
    moves = path.volatility * (knots - _walk.at(path.seed, anchor.seconds))
    if path.asset_type == "prediction":
        start = min(max(anchor.price, _LEAST_ODDS), _MOST_ODDS)
        odds = np.exp(moves) * start / (1 - start)
        return cast(Array, np.clip(odds / (1 + odds), _LEAST_ODDS, _MOST_ODDS))
    # The mean of an exponential is above the exponential of the mean; without this, everything would rise.
    drift = path.volatility**2 / 2 * (minutes - anchor.seconds / 60)
    return np.clip(anchor.price * np.exp(moves - drift), *_PRICES)


def _black_scholes(spots: Array, strike: float, is_call: bool, years: Array, volatility: float) -> Array:
    """Return what options are worth (Black and Scholes, 1973) without interest; at the end, their intrinsic value."""
    sign = 1.0 if is_call else -1.0
    deviation = np.maximum(volatility * np.sqrt(years), 1e-12)
    ahead = np.log(np.maximum(spots, 1e-300) / strike) / deviation
    gained, paid = (_share_below(sign * (ahead + half)) for half in (deviation / 2, -deviation / 2))
    return cast(Array, np.maximum(sign * (spots * gained - strike * paid), 0.0))


def _share_below(values: Array) -> Array:
    """Return the standard normal distribution. Not SciPy's, which would cost each process of the pipeline 30 MB."""
    return np.asarray(_ERFC(values * -math.sqrt(0.5)), dtype=np.float64) / 2


def _rounded(asset_type: AssetType, price: float) -> Decimal:
    places = _PLACES.get(asset_type)
    if places is None:
        places = _DIGITS - 1 - math.floor(math.log10(price))
    return Decimal(f"{price:.{max(places, 0)}f}")


def _solved(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Return where a monotonic function has the target, by bisection; the nearer end where it never has."""
    rises = function(high) > function(low)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if (function(middle) < target) == rises:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@functools.lru_cache(maxsize=8192)
def _seed(asset_type: AssetType, instrument: str) -> int:
    """Return the path's seed. blake2, as the built-in hash differs from process to process."""
    digest = hashlib.blake2b(f"{asset_type}\x1f{instrument}".encode(), digest_size=8, person=b"walk").digest()
    return int.from_bytes(digest)
