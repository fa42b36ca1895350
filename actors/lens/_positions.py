"""Look up the position that a CLOSE signal closes, for the language models: all pending look-ups in one query."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import asyncpg

from actors._runtime.context import ActorContext
from actors.lens.model import OpenPosition, RawSignal
from actors.lens.publication import provider_candidates
from actors.records.returns import return_of
from config.ids import time_of
from config.tasks import cancel, spawn
from db.lens.positions import opening_prices
from db.providers.outcomes import PositionKey
from db.providers.records import RETURN_UNITS
from schemas._instruments import instrument_of
from schemas._vocabulary import Side
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 500
MOST_WAITING: Final = 5_000  # past it a model is asked without: an answer is worth more than this detail of a prompt
SECONDS: Final = 2.0


class Positions:
    """Find open positions. If Postgres does not answer in time, the result is None, and the signal goes on."""

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._waiting: list[tuple[RawSignal, asyncio.Future[OpenPosition | None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def find(self, signal: RawSignal) -> OpenPosition | None:
        """Return the oldest open position that the signal closes, if any."""
        if len(self._waiting) >= MOST_WAITING:
            return None
        answer: asyncio.Future[OpenPosition | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((signal, answer))
        if self._task is None or self._task.done():
            self._task = spawn(self._look_up(), name="look up positions")
        try:
            async with asyncio.timeout(SECONDS):
                return await answer
        except TimeoutError:
            return None

    async def close(self) -> None:
        """Cancel the look-up in progress."""
        if self._task is not None:
            await cancel(self._task)

    async def _look_up(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # look-ups begun in the same iteration of the event loop join this one
            batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            found: Sequence[OpenPosition | None] = [None] * len(batch)
            try:
                async with asyncio.timeout(SECONDS):
                    found = await self._positions([signal for signal, _ in batch])
            except (Unavailable, asyncpg.PostgresError, OSError) as error:  # a time-out is an OSError, too
                log.warning("%d signals to close are judged without their positions: %r", len(batch), error)
            except Exception:
                log.exception("%d signals to close are judged without their positions", len(batch))
            for (_, answer), position in zip(batch, found, strict=True):
                if not answer.done():
                    answer.set_result(position)

    async def _positions(self, signals: Sequence[RawSignal]) -> list[OpenPosition | None]:
        keys = [(number, key) for number, signal in enumerate(signals) for key in _position_keys(signal)]
        async with self._context.connection() as conn:
            prices = await opening_prices(conn, [key for _, key in keys])
        found: list[OpenPosition | None] = [None] * len(signals)
        for (number, _), price in zip(keys, prices, strict=True):
            if price is not None and found[number] is None:  # the first provider that the source names
                found[number] = _position(signals[number], price)
        return found


def _position_keys(signal: RawSignal) -> list[PositionKey]:
    instrument = instrument_of(signal.symbol, signal.asset_type, signal.asset_data, time_of(signal.event_id))
    direction = signal.signal_direction.removeprefix("close_")
    return [(each, signal.asset_type, instrument, direction) for each in provider_candidates(signal.source)]


def _position(signal: RawSignal, opening_price: Decimal) -> OpenPosition:
    side: Side = "short" if signal.signal_direction.endswith("short") else "long"
    returned = return_of(signal.asset_type, side, opening_price, Decimal(repr(signal.entry_price)))
    return OpenPosition(float(opening_price), returned / RETURN_UNITS)
