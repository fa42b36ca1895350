"""Ask the source of prices, outside of transactions, and keep the answers for those who apply them.

Questions are asked at once, some dozens at a time, and together have a deadline. What was asked and not answered is not
asked again for a while, so that a source that is down delays nothing but what depends on it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final

from actors.ledger.ends import MINUTE
from actors.ledger.log_time import HOUR, full_hour
from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import (
    HOURS_PAGE,
    MINUTE_MS,
    MINUTES_PAGE,
    Bar,
    HourlyPrices,
    PricedInstrument,
    PriceSource,
    Resolution,
)
from config.tasks import cancel, spawn
from db.ledger import Instrument
from schemas._vocabulary import AssetType

log = logging.getLogger(__name__)

AT_ONCE: Final = 64
RETRY_SECONDS: Final = 30.0
LATE: Final = timedelta(minutes=10)
"""A candle that its source has not shown by then does not exist: there was no trade in its minute."""
LIVE: Final = timedelta(minutes=10)
"""An hour is marked by quotes for so long; later, by the candles of its first minute."""


@dataclass(slots=True)
class MinutesWanted:
    """The minute candles of an instrument that are asked for."""

    instrument: PricedInstrument
    since: datetime
    until: datetime


@dataclass(slots=True)
class Question:
    """Questions to the source of prices that are asked together, within so many seconds."""

    seconds: float
    minutes: dict[Instrument, MinutesWanted] = field(default_factory=dict)
    hours: dict[Instrument, MinutesWanted] = field(default_factory=dict)
    mids: dict[Instrument, PricedInstrument] = field(default_factory=dict)
    resolutions: dict[Instrument, PricedInstrument] = field(default_factory=dict)
    hour: datetime | None = None  # that the mids and resolutions are for

    def __bool__(self) -> bool:
        return bool(self.minutes or self.hours or self.mids or self.resolutions)


@dataclass(slots=True)
class _Series:
    """The candles of an instrument from `since` up to `until`, without a gap."""

    since: datetime
    until: datetime
    bars: list[Bar] = field(default_factory=list)


@dataclass(slots=True)
class _CandleAttempt:
    """An attempt to read candles until a time, and when (monotonic seconds) the next one may be made."""

    until: datetime
    not_before: float
    is_answered: bool = False


class Answers:
    """The answers of the source of prices, each until it is no longer needed."""

    def __init__(self, source: PriceSource, now: Callable[[], datetime]) -> None:
        self._source = source
        self._now = now
        self._series: dict[Instrument, _Series] = {}
        self._hours: dict[Instrument, _Series] = {}  # candles of hours, of the past
        self._without_hours: set[AssetType] = set()
        self._tried: dict[Instrument, _CandleAttempt] = {}  # the newest, for candles
        self._hour: datetime | None = None
        self._mids: dict[Instrument, Decimal | None] = {}  # of that hour; None: it has none
        self._resolutions: dict[Instrument, Resolution | None] = {}
        self._fresh: set[Instrument] = set()
        self.failures = 0

    def known_until(self, key: Instrument, since: datetime) -> datetime:
        """Return up to when the candles from `since` on are known."""
        series = self._series.get(key)
        return since if series is None or series.since > since else max(since, series.until)

    def wants(self, key: Instrument, since: datetime, until: datetime) -> bool:
        """Return whether the candles of a time are not known, and may be asked for."""
        if self.known_until(key, since) >= until:
            return False
        tried = self._tried.get(key)
        if tried is None or time.monotonic() >= tried.not_before:
            return True
        return tried.is_answered and until > tried.until

    def take_fresh(self) -> set[Instrument]:
        """Return the instruments whose candles became known since the last call."""
        fresh, self._fresh = self._fresh, set()
        return fresh

    def bars(self, key: Instrument, since: datetime, until: datetime) -> Sequence[Bar]:
        """Return the known candles that opened from `since` on and before `until`."""
        series = self._series.get(key)
        if series is None:
            return ()
        return series.bars[_place(series.bars, since) : _place(series.bars, until)]

    def wants_hours(self, key: Instrument, since: datetime, until: datetime) -> bool:
        """Return whether the candles of hours are not known, and may be asked for."""
        if not isinstance(self._source, HourlyPrices) or key[0] in self._without_hours:
            return False
        series = self._hours.get(key)
        return series is None or not series.since <= since <= until <= series.until

    def reach(self, key: Instrument, since: datetime, until: datetime) -> tuple[Decimal, Decimal] | None:
        """Return the lowest and highest price of the hours that this time is in; None: not all of them are known."""
        series, since = self._hours.get(key), full_hour(since)
        if series is None:
            return None
        bars = series.bars[_place(series.bars, since) : _place(series.bars, until)]
        if not bars or len(bars) < -((since - until) // HOUR):
            return None
        return min(bar.low for bar in bars), max(bar.high for bar in bars)

    def price_at(self, key: Instrument, hour: datetime) -> Decimal | None:
        """Return the open of the candle at an hour, or the close of the last one in the hour before."""
        found = self.bars(key, hour - HOUR, hour + MINUTE)
        if not found:
            series = self._hours.get(key)
            bars = () if series is None else series.bars
            found = bars[_place(bars, hour - HOUR) : _place(bars, hour)]
        if not found:
            return None
        last = found[-1]
        return last.open if last.opened_ms == _milliseconds(hour) else last.close

    def last_price(self, key: Instrument) -> Decimal | None:
        """Return the close of the last known candle."""
        series = self._series.get(key)
        return series.bars[-1].close if series is not None and series.bars else None

    def is_asked(self, question: Question) -> bool:
        """Return whether the mids and resolutions of the question were asked for."""
        return self._hour == question.hour and not (
            question.mids.keys() - self._mids.keys() or question.resolutions.keys() - self._resolutions.keys()
        )

    def mid(self, key: Instrument, hour: datetime) -> Decimal | None:
        """Return the mid that was asked for at an hour."""
        return self._mids.get(key) if self._hour == hour else None

    def resolution(self, key: Instrument, hour: datetime) -> Resolution | None:
        """Return the resolution that was asked for at an hour."""
        return self._resolutions.get(key) if self._hour == hour else None

    def forget(self, before: Mapping[Instrument, datetime]) -> None:
        """Drop the candles before these times, and those of instruments that are not among them."""
        for kept in (self._series, self._hours):
            for key, series in list(kept.items()):
                since = full_hour(before[key]) if key in before else None
                if since is None:
                    del kept[key]
                    self._tried.pop(key, None)
                elif series.since < since:
                    series.since = since
                    del series.bars[: _place(series.bars, since)]

    async def ask(self, question: Question) -> None:
        """Ask; whatever the deadline leaves unanswered counts as not known. Never raises."""
        if question.hour is not None and question.hour != self._hour:
            self._hour, self._mids, self._resolutions = question.hour, {}, {}
        work: list[Callable[[], Awaitable[None]]] = []
        for key, wanted in question.minutes.items():
            self._tried[key] = _CandleAttempt(wanted.until, time.monotonic() + RETRY_SECONDS)
            work.append(partial(self._read_minutes, key, wanted))
        for key, wanted in question.hours.items():
            work.append(partial(self._read_hours, key, wanted))
        for key, instrument in question.mids.items():
            if self._mids.setdefault(key, None) is None:
                work.append(partial(self._read_mid, key, instrument, question.hour))
        for key, instrument in question.resolutions.items():
            if self._resolutions.setdefault(key, None) is None:
                work.append(partial(self._read_resolution, key, instrument))
        await _together(work, question.seconds)

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()

    async def _read_minutes(self, key: Instrument, wanted: MinutesWanted) -> None:
        series = self._series.get(key)
        if series is None or not series.since <= wanted.since <= series.until:
            series = _Series(wanted.since, wanted.since)
        while series.until < wanted.until:
            since = series.until
            try:
                found = await self._source.minutes(wanted.instrument, since)
            except CallFailed as failure:
                self._note(key, failure)
                return
            found = found[_place(found, since) :]
            series.until = max(since, _known_until(found, since, self._now()))
            series.bars += found
            self._series[key] = series
            self._tried[key].is_answered = True
            self._fresh.add(key)
            if series.until == since or len(found) < MINUTES_PAGE:
                return

    async def _read_hours(self, key: Instrument, wanted: MinutesWanted) -> None:
        assert isinstance(self._source, HourlyPrices)
        series = self._hours.get(key)
        if series is None or not series.since <= wanted.since <= series.until:
            series = self._hours[key] = _Series(wanted.since, wanted.since)
        while series.until < wanted.until:
            try:
                found = await self._source.hours(wanted.instrument, series.until)
            except CallFailed as failure:
                self._note(key, failure)
                break
            if found is None:
                self._without_hours.add(key[0])
                break
            series.bars += found
            if len(found) < HOURS_PAGE:
                break
            series.until = _opened(found[-1]) + HOUR
        series.until = max(series.until, wanted.until)  # what is not there is asked for by minutes

    async def _read_mid(self, key: Instrument, instrument: PricedInstrument, hour: datetime | None) -> None:
        try:
            quote = await self._source.quote(instrument)
        except CallFailed as failure:
            self._note(key, failure)
            return
        # A market that is closed still has the quote of its last hour: that is no price of this one.
        if quote is not None and hour is not None and quote.at >= hour - HOUR:
            self._mids[key] = quote.mid

    async def _read_resolution(self, key: Instrument, instrument: PricedInstrument) -> None:
        try:
            self._resolutions[key] = await self._source.resolution(instrument)
        except CallFailed as failure:
            self._note(key, failure)

    def _note(self, key: Instrument, failure: CallFailed) -> None:
        self.failures += 1
        log.info("no prices of %s %s: %s", *key, failure.message)


def _known_until(found: Sequence[Bar], since: datetime, now: datetime) -> datetime:
    """Return up to when a page of candles from `since` on says everything."""
    end = _opened(found[-1]) + MINUTE if found else since
    if len(found) >= MINUTES_PAGE:
        return end
    quiet = (now - LATE).replace(second=0, microsecond=0)
    return max(end, min(since + MINUTES_PAGE * MINUTE, quiet))


async def _together(work: Iterable[Callable[[], Awaitable[None]]], seconds: float) -> None:
    waiting = iter(work)

    async def one_after_another() -> None:
        for each in waiting:
            try:
                await each()
            except Exception:
                log.exception("a source of prices failed")
            await asyncio.sleep(0)  # a source that answers at once must not hold up the process

    tasks = [spawn(one_after_another(), name="ask for prices") for _ in range(AT_ONCE)]
    try:
        await asyncio.wait(tasks, timeout=seconds)
    finally:
        await cancel(*tasks)


def _opened(bar: Bar) -> datetime:
    return datetime.fromtimestamp(bar.opened_ms // 1000, UTC)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1000


def _place(bars: Sequence[Bar], at: datetime) -> int:
    return bisect_left(bars, -(-int(at.timestamp() * 1000) // MINUTE_MS) * MINUTE_MS, key=lambda bar: bar.opened_ms)
