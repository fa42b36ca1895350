"""Read corporate splits from a file, and apply one to positions.

A split counts from the midnight of its day in New York: after the last trade at the old price, and before the first at
the new one, which may be before the market opens.
"""

from __future__ import annotations

import asyncio
import csv
import json
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import Final, cast
from zoneinfo import ZoneInfo

from actors.ledger.ends import set_levels
from config.values import Value
from db.ledger import PositionRow
from schemas._instruments import spelled_alike
from schemas._vocabulary import AssetType

log = logging.getLogger(__name__)

FIELDS: Final = ("date", "asset_type", "symbol", "new", "old")
_SPLIT_TYPES: Final = ("stock", "etf")
_MOST_SHARES: Final = 1_000_000
_PRICES: Final = Context(prec=28, rounding=ROUND_HALF_EVEN)
_EXCHANGE: Final = ZoneInfo("America/New_York")


class Split(Value):
    """Each share of an instrument became `new` for `old` on a day."""

    asset_type: AssetType
    instrument: str
    day: date
    new: int
    old: int

    @property
    def at(self) -> datetime:
        """Return the time from which prices are new ones."""
        return datetime.combine(self.day, time(), _EXCHANGE).astimezone(UTC)


class SplitsFile:
    """The splits of the file that the setting names, read again when it changes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self.splits: Sequence[Split] = ()

    async def refresh(self) -> None:
        """Read the file if it has changed; one that cannot be read leaves what was read before."""
        if self._path is None:
            return
        try:
            stat = await asyncio.to_thread(self._path.stat)
            stamp = stat.st_mtime_ns, stat.st_size
            if stamp == self._stamp:
                return
            text = await asyncio.to_thread(self._path.read_text)
        except (OSError, UnicodeDecodeError) as error:
            if self._stamp is not None or not self.splits:
                log.error("SPLITS_FILE cannot be read: %s", error)
            self._stamp = None
            return
        self._stamp = stamp
        self.splits, problems = parse_splits(text)
        for problem in problems:
            log.error("SPLITS_FILE, %s", problem)


def parse_splits(text: str) -> tuple[list[Split], list[str]]:
    """Return the splits of a file, each line CSV or a JSON object with FIELDS, and what is wrong with other lines."""
    found: dict[tuple[str, str, date], Split] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#") or line.replace(" ", "") == ",".join(FIELDS):
            continue
        try:
            split = _split_of(_values(line))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        key = split.asset_type, split.instrument, split.day
        if found.setdefault(key, split) != split:
            problems.append(f"line {number}: another split of the same instrument on the same day")
    return sorted(found.values(), key=lambda each: each.day), problems


def split_price(price: Decimal, new: int, old: int) -> Decimal:
    """Return a price from before a split as one of after it: times old/new, to 28 digits, half to even."""
    return _PRICES.divide(_PRICES.multiply(price, Decimal(old)), Decimal(new))


def split_positions(positions: Iterable[PositionRow], split: Split) -> None:
    """Convert the prices and levels of positions from before a split."""

    def after(price: Decimal | None) -> Decimal | None:
        return None if price is None else split_price(price, split.new, split.old)

    for each in positions:
        each.declared_price = split_price(each.declared_price, split.new, split.old)
        each.record_price, each.stop_loss = after(each.record_price), after(each.stop_loss)
        each.liquidation_price, each.floor_price = after(each.liquidation_price), after(each.floor_price)
        each.take_profit = [split_price(target, split.new, split.old) for target in each.take_profit]
        set_levels(each)


def _values(line: str) -> dict[str, str]:
    if line.lstrip().startswith("{"):
        document = json.loads(line)
        if not isinstance(document, dict) or set(document) != set(FIELDS):
            raise ValueError(f"must have {', '.join(FIELDS)}")
        return {name: str(value) for name, value in document.items()}
    [row] = csv.reader([line])
    if len(row) != len(FIELDS):
        raise ValueError(f"must have {', '.join(FIELDS)}")
    return {name: value.strip() for name, value in zip(FIELDS, row, strict=True)}


def _split_of(values: dict[str, str]) -> Split:
    asset_type = values["asset_type"]
    if asset_type not in _SPLIT_TYPES:
        raise ValueError(f"asset_type must be one of {', '.join(_SPLIT_TYPES)}")
    if not values["symbol"]:
        raise ValueError("symbol is empty")
    try:
        day = date.fromisoformat(values["date"])
    except ValueError:
        raise ValueError("date must be a date, as in 2026-03-15") from None
    new, old = (_shares(values[name], name) for name in ("new", "old"))
    if new == old:
        raise ValueError("new and old are the same")
    return Split(cast(AssetType, asset_type), spelled_alike(values["symbol"], asset_type), day, new, old)


def _shares(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= _MOST_SHARES):
        raise ValueError(f"{name} must be a whole number from 1 to {_MOST_SHARES}")
    return int(text)
