"""Providers and the signals of the feed for tests, inserted directly as lens/publish inserts them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from msgspec.structs import asdict

from actors._runtime.context import Behaviour
from actors.ledger.messages import LEDGER
from actors.lens.publication import NO_TERMS
from actors.providers.messages import PROVIDERS
from actors.providers.providers import Providers
from actors.users.messages import USERS
from actors.users.users import Users
from config.clock import rfc3339
from config.ids import uuid7
from config.settings import Settings
from db._postgres import Connection, transaction
from db.signals.writes import PublishedSignal, ensure_system_providers, insert_signals, take_feed_seq
from schemas._instruments import instrument_of, is_expired
from tests.support.accounts import Browser, World, gateway_of
from tests.support.local_actors import local_actors
from tests.support.quiet_ledger import append_feed, quiet_ledger, with_log_key
from tests.support.users_factory import NOON

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Trade:
    """A signal in short: provider, action, instrument, side and price."""

    provider_id: UUID
    opens: bool = True
    symbol: str = "BTC"
    direction: str | None = "long"
    price: Decimal | None = Decimal(100)
    minutes: float = 0  # after noon
    asset_type: str = "crypto"
    expiry: str | None = None  # of an option


async def add_system_provider(conn: Connection, name: str | None = None) -> UUID:
    """Insert a provider without an account; return its id."""
    provider_id = uuid7()
    await ensure_system_providers(conn, {provider_id: name or f"source {next(_numbers)}"})
    return provider_id


async def publish(conn: Connection, trades: Sequence[Trade], *, at: datetime = NOON) -> list[PublishedSignal]:
    """Put signals into the feed, in order; for a transaction's connection."""
    first = await take_feed_seq(conn, len(trades))
    rows = [_signal(trade, first + place, at) for place, trade in enumerate(trades)]
    await insert_signals(conn, rows)
    return rows


def _signal(trade: Trade, feed_seq: int, at: datetime) -> PublishedSignal:
    is_long = trade.direction != "short"
    category = {"crypto": "crypto", "prediction": "prediction"}.get(trade.asset_type, "equities")
    signal_id, created_at = uuid7(), at + timedelta(minutes=trade.minutes)
    asset_data = {} if trade.expiry is None else {"expiry": trade.expiry}
    action = "hold" if trade.direction is None else "buy" if is_long == trade.opens else "sell"
    item = {
        "id": str(signal_id),
        "asset_type": trade.asset_type,
        "asset_category": category,
        "symbol": trade.symbol,
        "action": action,
        "score": 70,
        "reasoning": "because",
        "provider": {"id": str(trade.provider_id)},
        "asset_data": asset_data,
        "reactions": {},
        "comment_count": 0,
        "created_at": rfc3339(created_at),
    }
    return PublishedSignal(
        id=signal_id,
        feed_seq=feed_seq,
        provider_id=trade.provider_id,
        asset_type=trade.asset_type,
        asset_category=category,
        symbol=trade.symbol,
        action=action,
        event_type="OPEN_SIGNAL" if trade.opens else "CLOSE_SIGNAL",
        direction=trade.direction,
        entry_price=trade.price,
        size=None,
        score=70,
        tier="GOOD",
        confidence=0.7,
        factors=None,
        strategy_breakdown=None,
        market_context=None,
        reasoning="because",
        commentary=None,
        asset_data=asset_data,
        feed_data=orjson.dumps(item).decode(),
        created_at=created_at,
        received_at=created_at,
        way_in="lens",
        instrument=instrument_of(trade.symbol, trade.asset_type, asset_data, created_at),
        is_ranked=not is_expired(trade.symbol, trade.asset_type, asset_data, created_at),
        **asdict(NO_TERMS),
    )


@asynccontextmanager
async def providers_world(settings: Settings, **replaced: Any) -> AsyncIterator[World]:
    """One gateway, the owners of providers and of users; without rate limits."""
    settings = settings.replace(**{"rate_limit_enabled": False} | replaced)
    behaviours: dict[str, Behaviour] = {PROVIDERS: Providers(), USERS: Users(), LEDGER: quiet_ledger()}
    with with_log_key(settings) as settings:
        async with local_actors(settings, behaviours) as actors, gateway_of(settings, actors) as world:
            yield world


async def catch_up(world: World) -> None:
    """Wait until every published signal is in its provider's record."""
    await append_feed(world.actors)
    owner = world.actors.behaviours[PROVIDERS]
    assert isinstance(owner, Providers)
    await owner.log_consumer.catch_up()


async def post_trades(world: World, trades: Sequence[Trade], *, at: datetime = NOON) -> list[PublishedSignal]:
    """Publish signals, and let the records take them in."""
    async with transaction(world.pool) as conn:
        rows = await publish(conn, trades, at=at)
    await catch_up(world)
    return rows


async def new_provider(world: World, address: str, name: str, **profile: Any) -> Browser:
    """Return the browser of a user who has become a provider."""
    browser = await world.logged_in(address, display_name=name)
    (await browser.send("POST", "/api/providers/become", {"display_name": name} | profile)).expect(201)
    return browser


def id_of(browser: Browser) -> UUID:
    """Return the id of the browser's user."""
    return UUID(browser.claims["sub"])
