"""Signals that are retracted: by whom, how long, how often, and not as a free way out of a position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest

from actors.lens import retraction
from actors.lens.market.quotes import Declaration, PricedInstrument
from actors.lens.market.source import open_prices
from actors.lens.messages import PUBLISH, Retract, Retracted
from actors.lens.publish import Publish
from actors.lens.quote import VenueQuote
from config.clock import now, rfc3339
from config.ids import uuid7
from config.settings import Settings
from db._postgres import Pool, connection, create_pool
from db.signals.feed import fetch_after, fetch_latest, last_seq
from schemas.errors import AppError, Conflict, Forbidden, NotFound
from schemas.feed import RETRACTION
from tests.support.local_actors import LocalActors
from tests.support.signals_factory import publish

PRICE = Decimal("1.085")
EURO = PricedInstrument("forex", "EUR/USD")  # of the simulated market's instruments it moves the least in a second
FOREX = {"asset_type": "forex", "symbol": "EUR/USD"}


class Feed:
    """Two shards of lens/publish, and what the tests do to their database."""

    def __init__(self, actors: LocalActors, settings: Settings, pool: Pool) -> None:
        self.actors = actors
        self.pool = pool
        self.prices = open_prices(settings, pool)

    async def signal(self, provider_id: UUID, *, age: float = 0.0, moved: Decimal = Decimal(0), **draft: Any) -> UUID:
        """Publish a signal received `age` seconds ago, at whose receipt the mid was higher by `moved` of itself."""
        quote = await self.quote()
        received_at = now() - timedelta(seconds=age)
        [row] = await publish(self.pool, [{"provider_id": provider_id, "at": now(), **FOREX} | draft])
        shift = quote.mid * moved
        await self.pool.execute(
            "UPDATE signals SET received_at = $2, quote_bid = $3, quote_ask = $4, quote_mid = $5, quote_at = $2,"
            " quote_source = 'simulated' WHERE id = $1",
            row.id,
            received_at,
            quote.bid + shift,
            quote.ask + shift,
            quote.mid + shift,
        )
        return row.id

    async def quote(self) -> VenueQuote:
        """Return the market's quote of now."""
        await self.prices.declare([Declaration(EURO, PRICE, now())])
        quote = await self.prices.quote(EURO)
        assert quote is not None
        return quote

    async def ask(self, signal_id: UUID, provider_id: UUID, *, shard: int = 0, at: datetime | None = None) -> Any:
        """Ask a shard to retract; an error is a value."""
        try:
            return await self.actors.ref_to(PUBLISH, shard).ask("", Retract(signal_id, provider_id, at or now()))
        except AppError as error:
            return error


@asynccontextmanager
async def feed(settings: Settings) -> AsyncIterator[Feed]:
    """Two shards of the publish stage, whichever is asked."""
    actors = LocalActors()
    async with await create_pool(settings.database_url or "", 4, name="test") as pool:
        try:
            for shard in range(2):
                await actors.start(PUBLISH, Publish(), settings, shard=shard, shards=2)
            world = Feed(actors, settings, pool)
            yield world
            await world.prices.close()
        finally:
            await actors.close()


async def test_a_retraction_takes_its_place_in_the_feed_and_the_signal_says_so(settings: Settings) -> None:
    async with feed(settings) as world:
        provider = uuid7()
        signal_id = await world.signal(provider)
        replied = await world.ask(signal_id, provider)
        assert isinstance(replied, Retracted), replied
        later = await world.signal(uuid7())
        async with connection(world.pool) as conn:
            found = await fetch_after(conn, 0, 10)
            assert [each.feed_seq for each in found] == [1, 2, 3]
            assert await last_seq(conn) == 3
            assert await fetch_latest(conn, 2) == found[1:]
            assert await fetch_after(conn, 1, 1) == found[1:2]
        signal, retracted, other = found
        shown = rfc3339(replied.retracted_at)
        assert orjson.loads(signal.data)["retracted_at"] == shown
        assert orjson.loads(other.data) | {"id": str(later)} == orjson.loads(other.data)
        assert retracted.event == RETRACTION
        document = {"signal_id": str(signal_id), "provider_id": str(provider), "retracted_at": shown}
        assert orjson.loads(retracted.data) == document
        filtered = ("asset_category", "asset_type", "score", "provider_id")
        assert [getattr(retracted, name) for name in filtered] == [getattr(signal, name) for name in filtered]


async def test_repeated_it_answers_the_same_however_late_and_in_whatever_shard(settings: Settings) -> None:
    async with feed(settings) as world:
        provider = uuid7()
        signal_id = await world.signal(provider)
        first = await world.ask(signal_id, provider)
        late = now() + timedelta(days=40)
        assert [await world.ask(signal_id, provider, shard=shard, at=late) for shard in (0, 1)] == [first, first]
        assert await world.pool.fetchval("SELECT count(*) FROM retractions") == 1


async def test_of_many_requests_at_once_one_counts_and_all_are_answered_alike(settings: Settings) -> None:
    async with feed(settings) as world:
        provider = uuid7()
        signal_id = await world.signal(provider)
        asked = [world.ask(signal_id, provider, shard=number % 2) for number in range(12)]
        answers = await asyncio.gather(*asked)
        assert {type(each) for each in answers} == {Retracted}, answers
        assert len(set(answers)) == 1
        assert await world.pool.fetchval("SELECT count(*) FROM retractions") == 1
        assert await world.pool.fetchval("SELECT last_seq FROM feed_counter") == 2


async def test_three_in_thirty_days_also_when_four_are_asked_for_at_once(settings: Settings) -> None:
    async with feed(settings) as world:
        provider = uuid7()
        signals = [await world.signal(provider) for _ in range(5)]
        answers = await asyncio.gather(*(world.ask(each, provider, shard=n % 2) for n, each in enumerate(signals)))
        refused = [each for each in answers if not isinstance(each, Retracted)]
        assert refused == [Conflict(retraction.TOO_MANY)] * 2
        assert isinstance(await world.ask(await world.signal(other := uuid7()), other), Retracted)
        await world.pool.execute("UPDATE retractions SET retracted_at = retracted_at - interval '30 days'")
        assert isinstance(await world.ask(await world.signal(provider), provider), Retracted)


@pytest.mark.parametrize(("age", "is_retracted"), [(9.0, True), (10.5, False), (3600.0, False)])
async def test_it_is_possible_within_ten_seconds_of_the_receipt(
    settings: Settings, age: float, is_retracted: bool
) -> None:
    async with feed(settings) as world:
        provider = uuid7()
        answer = await world.ask(await world.signal(provider, age=age), provider)
        assert isinstance(answer, Retracted) if is_retracted else answer == Conflict(retraction.TOO_LATE)


@pytest.mark.parametrize("moved", [Decimal("0.01"), Decimal("-0.01"), Decimal(9)])
async def test_what_the_market_has_moved_away_from_stays(settings: Settings, moved: Decimal) -> None:
    """The attack: an entry that is taken back when it has gone wrong, an option that would cost nothing."""
    async with feed(settings) as world:
        provider = uuid7()
        signal_id = await world.signal(provider, moved=moved)
        assert await world.ask(signal_id, provider) == Conflict(retraction.MOVED)
        assert await world.pool.fetchval("SELECT retracted_at FROM signals WHERE id = $1", signal_id) is None
        assert await world.pool.fetchval("SELECT last_seq FROM feed_counter") == 1


async def test_without_a_quote_nothing_tells_that_the_market_has_not_moved(settings: Settings) -> None:
    async with feed(settings) as world:
        provider = uuid7()
        unquoted, unpriced = await world.signal(provider), await world.signal(provider, symbol="XXX/YYY")
        await world.pool.execute("UPDATE signals SET quote_mid = NULL, quote_bid = NULL WHERE id = $1", unquoted)
        assert await world.ask(unquoted, provider) == Conflict(retraction.UNQUOTED)
        assert await world.ask(unpriced, provider) == Conflict(retraction.NO_QUOTE)


async def test_nobody_else_retracts_it_and_what_is_not_there_is_not_found(settings: Settings) -> None:
    async with feed(settings) as world:
        provider = uuid7()
        signal_id = await world.signal(provider)
        assert isinstance(await world.ask(signal_id, uuid7()), Forbidden)
        assert isinstance(await world.ask(uuid7(), provider), NotFound)
        assert isinstance(await world.ask(signal_id, provider), Retracted)
        assert isinstance(await world.ask(signal_id, uuid7()), Forbidden)


async def test_a_provider_that_is_refused_has_not_used_up_a_retraction(settings: Settings) -> None:
    async with feed(settings) as world:
        provider = uuid7()
        for _ in range(5):
            await world.ask(await world.signal(provider, moved=Decimal("0.01")), provider)
        assert isinstance(await world.ask(await world.signal(provider), provider), Retracted)


async def test_it_survives_the_death_of_its_owner(settings: Settings) -> None:
    """The kind: what was acknowledged and is gone; a reply that was lost is asked for again."""
    async with feed(settings) as world:
        provider = uuid7()
        signal_id = await world.signal(provider)
        first = await world.ask(signal_id, provider)
        for shard in range(2):
            await world.actors.kill(f"{PUBLISH}/{shard}")
        await world.actors.start(PUBLISH, Publish(), settings, shard=1, shards=2)
        assert await world.ask(signal_id, provider, shard=1) == first
