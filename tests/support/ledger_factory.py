"""Feed items and positions for tests of the owner of the log, and a market that moves as it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from actors.ledger.ledger import LogOwner
from actors.ledger.messages import LEDGER
from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import MINUTE_MS, MINUTES_PAGE, Bar, PricedInstrument, Resolution, VenueQuote
from actors.records.entries import AnyEntry, decode
from config.settings import Settings
from db._postgres import Pool, connection, create_pool, transaction
from db.log import read_entries
from db.signals.log_source import FeedEntry
from tests.support.local_actors import LocalActors
from tests.support.providers_factory import Trade, add_system_provider, publish

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
WHO = UUID(int=7)


def item(feed_seq: int, **changes: Any) -> FeedEntry:
    """Return a signal that opens a long position in BTC at 100, half a minute after its number's minute."""
    fields: dict[str, Any] = {
        "feed_seq": feed_seq,
        "signal_id": UUID(int=1000 + feed_seq),
        "provider_id": WHO,
        "asset_type": "crypto",
        "instrument": "BTC",
        "symbol": "BTC",
        "asset_data": {},
        "event_type": "OPEN_SIGNAL",
        "direction": "long",
        "declared_price": Decimal(100),
        "is_ranked": True,
        "received_at": NOON + timedelta(minutes=feed_seq, seconds=30),
        "published_at": NOON + timedelta(minutes=feed_seq, seconds=31),
        "score": 70,
        "way_in": "lens",
        "texts": "ab" * 32,
        "quote_bid": None,
        "quote_ask": None,
        "quote_mid": None,
        "quote_at": None,
        "quote_source": None,
        "record_price": None,
        "order_type": None,
        "take_profit": (),
        "stop_loss": None,
        "liquidation_price": None,
        "valid_until": None,
        "close_fraction": None,
    }
    return FeedEntry(**fields | changes)


def close(feed_seq: int, **changes: Any) -> FeedEntry:
    """Return a signal that closes a long position in BTC at 110."""
    return item(feed_seq, **{"event_type": "CLOSE_SIGNAL", "declared_price": Decimal(110)} | changes)


def retraction(feed_seq: int, of: FeedEntry) -> FeedEntry:
    """Return the retraction of a signal, five seconds after its receipt."""
    fields = {name: getattr(of, name) for name in FeedEntry.__match_args__}
    return FeedEntry(**fields | {"feed_seq": feed_seq, "retracted_at": of.received_at + timedelta(seconds=5)})


def bar(minute: datetime, *prices: float | str) -> Bar:
    """Return a candle: open, high, low and close, or one price for all four."""
    opened, high, low, closed = (Decimal(str(each)) for each in (prices if len(prices) == 4 else prices * 4))
    return Bar(int(minute.timestamp()) * 1000, opened, high, low, closed, Decimal(1))


class ToldMarket:
    """A source of prices that says what it was told: candles, quotes and resolutions by symbol.

    Without candles of its own an instrument stands at 100. `now` is the clock; what comes after it is not shown, and
    `delay` keeps candles back. A symbol in `failing` has no answer.
    """

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.bars: dict[str, list[Bar]] = {}
        self.quotes: dict[str, VenueQuote | None] = {}
        self.resolutions: dict[str, Resolution] = {}
        self.failing: set[str] = set()
        self.absent: set[str] = set()
        self.delay = timedelta()
        self.asked: list[tuple[str, str]] = []

    def clock(self) -> datetime:
        """Return the time."""
        return self.now

    async def quote(self, instrument: PricedInstrument) -> VenueQuote | None:
        """See PriceSource."""
        self._note("quote", instrument)
        if instrument.symbol in self.absent:
            return None
        if instrument.symbol in self.quotes:
            return self.quotes[instrument.symbol]
        price = Decimal(100)
        return VenueQuote(price, price, price, self.now, "told")

    async def minutes(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar]:
        """See PriceSource."""
        self._note("minutes", instrument)
        if instrument.symbol in self.absent:
            return ()
        first, last = -(-int(since.timestamp()) // 60), int((self.now - self.delay).timestamp()) // 60
        if (told := self.bars.get(instrument.symbol)) is not None:
            found = [each for each in told if first * MINUTE_MS <= each.opened_ms < last * MINUTE_MS]
            return found[:MINUTES_PAGE]
        hundred = Decimal(100)
        minutes = range(first, min(last, first + MINUTES_PAGE))
        return [Bar(minute * MINUTE_MS, hundred, hundred, hundred, hundred, Decimal(1)) for minute in minutes]

    async def resolution(self, instrument: PricedInstrument) -> Resolution | None:
        """See PriceSource."""
        self._note("resolution", instrument)
        return self.resolutions.get(instrument.symbol)

    async def close(self) -> None:
        """See PriceSource."""

    def tell(self, symbol: str, moves: Mapping[datetime, Sequence[float]], *, since: datetime, until: datetime) -> None:
        """Let a symbol stand at 100 but for these minutes."""
        minutes = int((until - since) / timedelta(minutes=1))
        times = [since + timedelta(minutes=each) for each in range(minutes)]
        self.bars[symbol] = [bar(at, *moves.get(at, (100,))) for at in times]

    def _note(self, question: str, instrument: PricedInstrument) -> None:
        self.asked.append((question, instrument.symbol))
        if instrument.symbol in self.failing:
            raise CallFailed("TIMEOUT", "told to fail")


class LedgerWorld:
    """The owner of the log, its market and clock, and a connection to their database."""

    def __init__(self, settings: Settings, actors: LocalActors, pool: Pool, who: UUID) -> None:
        self.settings = settings
        self.actors = actors
        self.pool = pool
        self.who = who
        self.market = ToldMarket(NOON)
        self.owner: LogOwner

    async def start(self) -> None:
        """Start the owner, or replace it as after a crash of its process."""
        if LEDGER in self.actors.behaviours:
            await self.actors.kill(LEDGER)
        self.owner = LogOwner(self.market, self.market.clock)
        await self.actors.start(LEDGER, self.owner, self.settings)

    async def publish(self, at: datetime, **changes: Any) -> UUID:
        """Publish a signal that was received at a time; return its id."""
        trade = {
            key: changes.pop(key)
            for key in ("opens", "symbol", "direction", "price", "asset_type", "expiry")
            if key in changes
        }
        async with transaction(self.pool) as conn:
            [row] = await publish(conn, [Trade(changes.pop("who", self.who), **trade)], at=at)
            for name, value in changes.items():
                await conn.execute(f"UPDATE signals SET {name} = $1 WHERE id = $2", value, row.id)
        return row.id

    async def retract(self, signal_id: UUID, at: datetime) -> None:
        """Retract a signal."""
        async with transaction(self.pool) as conn:
            seq = await conn.fetchval("UPDATE feed_counter SET last_seq = last_seq + 1 RETURNING last_seq")
            await conn.execute("INSERT INTO retractions VALUES ($1, $2, $3, $4)", seq, signal_id, self.who, at)

    async def go_on(self, to: datetime | None = None) -> list[AnyEntry]:
        """Move the clock, let the owner look at the market and the feed, and return the whole log."""
        if to is not None:
            self.market.now = to
        await self.owner.keeper.catch_up()
        await self.owner.watch.look()
        await self.owner.keeper.catch_up()
        return await self.log()

    async def log(self) -> list[AnyEntry]:
        """Return the log."""
        async with connection(self.pool) as conn:
            return [decode(row.body) for row in await read_entries(conn, 0, 100_000)]


@asynccontextmanager
async def ledger_world(settings: Settings, data_dir: Path, **replaced: Any) -> AsyncIterator[LedgerWorld]:
    """An owner of the log that does nothing by itself: `go_on` calls it."""
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test")
    actors = LocalActors()
    try:
        async with transaction(pool) as conn:
            who = await add_system_provider(conn)
        world = LedgerWorld(settings.replace(data_dir=data_dir, **replaced), actors, pool, who)
        await world.start()
        yield world
    finally:
        await actors.close()
        pool.terminate()


def of(kind: type, entries: Sequence[AnyEntry]) -> list[Any]:
    """Return the entries of a kind."""
    return [each for each in entries if isinstance(each, kind)]
