"""A provider's curve and record over HTTP: by hand, over two days of the log, and what is open now."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from actors.ledger.log_writer import LogWriter
from actors.providers.messages import PROVIDERS
from actors.providers.providers import Providers
from actors.records.entries import AnyEntry, EndEntry, MarkEntry, RetractionEntry, SignalEntry
from actors.records.returns import UNIT
from config.clock import now
from config.settings import Settings
from db._postgres import transaction
from tests.support.accounts import World
from tests.support.providers_factory import add_system_provider, providers_world
from tests.support.signals_factory import publish

MIDNIGHT = now().replace(hour=0, minute=0, second=0, microsecond=0)
BEFORE = MIDNIGHT - timedelta(hours=36)  # at noon of the day before yesterday
FREE = "crypto:0,stock:0,option:0,etf:0,forex:0,prediction:0"


def signal(who: UUID, number: int, price: int | None, **terms: Any) -> SignalEntry:
    known: dict[str, Any] = {
        "feed_seq": number,
        "signal_id": UUID(int=number),
        "provider_id": who,
        "asset_type": "crypto",
        "instrument": "BTC",
        "event_type": "OPEN_SIGNAL",
        "direction": "long",
        "declared_price": Decimal(100 if price is None else price),
        "received_at": BEFORE,
        "published_at": BEFORE,
        "score": 70,
        "texts": "",
        "way_in": "lens",
        "record_price": None if price is None else Decimal(price),
        "opens": "closes" not in terms,
    }
    return SignalEntry(**known | terms)


def mark(at: datetime, btc: int, eth: int) -> MarkEntry:
    return MarkEntry(at, {"crypto": {"BTC": Decimal(btc), "ETH": Decimal(eth)}})


async def read(world: World, entries: list[AnyEntry]) -> None:
    async with transaction(world.pool) as conn:
        await LogWriter().append(conn, entries)
    owner = world.actors.behaviours[PROVIDERS]
    assert isinstance(owner, Providers)
    await owner.log_consumer.catch_up()


async def test_a_curve_is_what_the_market_made_of_all_positions_open_ones_too(settings: Settings) -> None:
    async with providers_world(settings, record_costs_bps=FREE) as world:
        async with transaction(world.pool) as conn:
            who = await add_system_provider(conn)
        path = f"/api/providers/{who}"
        empty = (await world.client.get(f"{path}/equity")).json
        assert [each["equity"] for each in empty["points"]] == [1.0]
        eth = {"instrument": "ETH", "direction": "short"}
        await read(world, [
            signal(who, 1, 100),
            signal(who, 2, 50, **eth),
            signal(who, 3, None),
            mark(MIDNIGHT - timedelta(days=1), 110, 60),
            signal(who, 4, 60, closes=UUID(int=2), part=UNIT, event_type="CLOSE_SIGNAL", **eth),
            mark(MIDNIGHT, 110, 60),
        ])  # fmt: skip
        found = (await world.client.get(f"{path}/equity?period=all")).json
        assert found["basis"] == "marked_daily"
        assert (found["as_of_seq"], found["cost_bps"]["crypto"]) == (4, 0.0)
        shown = [tuple(each[name] for name in ("equity", "realised", "open", "exposure")) for each in found["points"]]
        # (+10 % − 20 %) over two units; then the loser is closed.
        assert shown == [(0.95, 0.0, -0.05, 1.0), (0.95, -0.1, 0.05, 0.5), (0.95, -0.1, 0.05, 0.5)]
        assert [each["t"][:19] for each in found["points"][:2]] == [
            (MIDNIGHT - timedelta(days=1)).isoformat()[:19],
            MIDNIGHT.isoformat()[:19],
        ]
        assert found["points"][-1]["t"] == found["as_of"]
        assert (found["max_drawdown"], found["ruined"]) == (0.05, False)
        record = (await world.client.get(path)).json["record"]
        assert (record["open"], record["closed"], record["breakeven"], record["days"]) == (1, 1, 0, 3)
        assert (record["profit_factor"], record["payoff"], record["expectancy"]) == (0.5, 0.5, -0.05)
        assert (record["share_open"], record["share_verified"], record["worst_day"]) == (0.5, 0.6667, -0.05)
        assert record["win_rate_interval"] == {"lower": 0.0945, "upper": 0.9055}
        assert record["median_holding_seconds"] == 0
        assert record["oldest_open_seconds"] >= 36 * 3600
        # What came since the last day is in it before the day has ended, at the last mids.
        await read(world, [signal(who, 5, 100), mark(MIDNIGHT + timedelta(hours=1), 55, 60)])
        point = (await world.client.get(f"{path}/equity?period=week")).json["points"][-1]
        assert (point["equity"], point["open"]) == (0.475, -0.425)  # 0.95 · (1 − (0.55 + 0.45)/2)
        assert (await world.client.get(f"{path}/equity?points=1")).status == 400
        assert (await world.client.get(f"/api/providers/{UUID(int=9)}/equity")).status == 404


async def test_an_outcome_has_its_legs_and_what_ended_it(settings: Settings) -> None:
    async with providers_world(settings) as world:
        async with transaction(world.pool) as conn:
            who = await add_system_provider(conn)
        opened, half, gone = await publish(
            world.pool,
            [
                {"provider_id": who},
                {"provider_id": who, "event_type": "CLOSE_SIGNAL", "signal_direction": "close_long"},
                {"provider_id": who},
            ],
        )
        end = EndEntry(opened.id, who, "stop_loss", UNIT // 2, Decimal(80), BEFORE)
        await read(world, [
            signal(who, 1, 100, signal_id=opened.id),
            signal(who, 2, 110, signal_id=half.id, closes=opened.id, part=UNIT // 2, declared_price=Decimal(130)),
            signal(who, 3, 100, signal_id=gone.id),
            RetractionEntry(4, gone.id, who, BEFORE),
        ])  # fmt: skip

        async def detail(signal_id: UUID) -> Any:
            return (await world.client.get(f"/api/signals/{signal_id}")).json

        outcome = (await detail(opened.id))["outcome"]
        assert (outcome["status"], outcome["return"], outcome["closed_by"]) == ("PENDING", None, None)
        assert [(each["fraction"], each["return"], each["reason"]) for each in outcome["legs"]] == [
            (0.5, 0.3, "signal")
        ]
        assert (await detail(half.id))["closes"] == str(opened.id)
        assert (await detail(gone.id))["outcome"] is None
        await read(world, [end])
        outcome = (await detail(opened.id))["outcome"]
        assert (outcome["status"], outcome["close_reason"], outcome["closed_by"]) == ("PROFIT", "stop_loss", None)
        assert (outcome["return"], outcome["record_return"]) == (0.05, -0.05)
        assert outcome["legs"][1]["price"] == 80.0
        stats = (await world.client.get(f"/api/providers/{who}")).json["stats"]
        assert (stats["total_signals"], stats["win_count"]) == (3, 1)
