"""The track records of providers/{k} over a real Postgres: every signal once, whatever dies, equal to a recomputation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

from actors.providers.messages import PROVIDERS, CatchUp
from actors.providers.providers import Providers
from config.settings import Settings
from db._postgres import connection, transaction
from db.providers.outcomes import load_outcomes
from db.providers.records import load_records
from tests.local_actors import LocalActors, local_actors
from tests.providers_factory import Trade, add_system_provider, publish


@asynccontextmanager
async def tail_of(settings: Settings) -> AsyncIterator[LocalActors]:
    async with local_actors(settings, {PROVIDERS: Providers()}) as actors:
        yield actors


async def test_a_close_takes_up_the_oldest_open_position_on_its_symbol_and_side(settings: Settings) -> None:
    async with tail_of(settings) as actors:
        pool = actors.behaviours[PROVIDERS].room.pool
        async with transaction(pool) as conn:
            who = await add_system_provider(conn)
            signals = await publish(
                conn,
                [
                    Trade(who, price=Decimal(100)),
                    Trade(who, price=Decimal(200)),
                    Trade(who, direction="short", price=Decimal(100)),
                    Trade(who, symbol="ETH", price=Decimal(100)),
                    Trade(who, opens=False, price=Decimal(110)),
                    Trade(who, opens=False, direction="short", price=Decimal(110)),
                    Trade(who, opens=False, symbol="SOL"),
                ],
            )
        assert await actors.mailbox(PROVIDERS).ask("", CatchUp()) == 7
        async with connection(pool) as conn:
            rows = await load_outcomes(conn, who)
            record = (await load_records(conn, [who]))[who]
        assert [row.status for row in rows] == ["PROFIT", "PENDING", "LOSS", "PENDING"]
        assert [row.closed_by for row in rows] == [signals[4].id, None, signals[5].id, None]
        assert [row.returned for row in rows] == [10**11, None, -(10**11), None]
        assert record.total_signals == 7
        assert (record.win_count, record.loss_count, record.return_sum) == (1, 1, 0)
