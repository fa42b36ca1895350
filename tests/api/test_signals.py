"""The public signals over HTTP: lists with every filter, one in full, publishing."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
import pytest

from actors.lens.messages import PUBLISH, PublishScored, Scored
from actors.lens.publish import Publish
from actors.users.messages import USERS
from actors.users.users import Users
from config.clock import rfc3339
from config.ids import time_of, uuid7
from config.settings import Settings
from db.signals.reads import FRESH
from db.signals.writes import PublishedSignal
from schemas.ingest import load_scored
from schemas.signals import PageOfSignals, Signal
from tests.support.accounts import World, accounts_world, gateway_of, token_of
from tests.support.local_actors import local_actors
from tests.support.scored import LIST_ITEM, scored
from tests.support.signals_factory import CONTEXT, FACTORS, publish
from tests.support.users_factory import NOON

KEYS = [
    "id",
    "asset_type",
    "asset_category",
    "symbol",
    "action",
    "score",
    "reasoning",
    "provider",
    "asset_data",
    "reactions",
    "comment_count",
    "created_at",
    "event_type",
    "direction",
    "entry_price",
    "record_price",
    "verified",
    "commentary",
    "received_at",
    "retracted_at",
]
ALICE, BOB = uuid7(), uuid7()
DRAFTS: list[dict[str, Any]] = [
    {"symbol": "BTC", "provider_id": ALICE, "score": 87, "asset_data": {"price": 67420.0, "price_change_24h": 0.032}},
    {"symbol": "BTC/USD", "provider_id": BOB, "score": 40, "signal_direction": "short"},
    {"symbol": "BTC/EUR", "provider_id": BOB, "score": 60},
    {"symbol": "EUR/USD", "provider_id": ALICE, "asset_type": "forex", "score": 79},
    {"symbol": "AAPL", "provider_id": ALICE, "asset_type": "stock", "score": 80, "signal_direction": "short"},
    {"symbol": "QQQ", "provider_id": BOB, "asset_type": "etf", "score": 0},
    {
        "symbol": "AAPL 195C 3/15",
        "provider_id": BOB,
        "asset_type": "option",
        "score": 84,
        "asset_data": {"underlying": "AAPL", "strike": 195.0, "expiry": "2026-03-15", "greeks": {"delta": 0.45}},
    },
    {
        "symbol": "Fed Rate Cut March",
        "provider_id": ALICE,
        "asset_type": "prediction",
        "score": 100,
        "asset_data": {"platform": "polymarket", "probability": 0.68},
    },
    {"symbol": "Snow?", "provider_id": BOB, "asset_type": "prediction", "score": 80, "signal_direction": "short"},
    {"symbol": "BTC", "provider_id": ALICE, "event_type": "CLOSE_SIGNAL", "signal_direction": "close_long"},
]


async def page(world: World, **query: Any) -> dict[str, Any]:
    answer = await world.client.get(f"/api/signals?{urlencode(query)}")
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert not PageOfSignals().validate(answer.json), answer.json
    found: dict[str, Any] = answer.json
    return found


async def test_an_item_is_the_documents_and_the_newest_comes_first(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        rows = await publish(world.pool, DRAFTS)
        found = await page(world)
        assert [each["id"] for each in found["signals"]] == [str(row.id) for row in rows[::-1]]
        assert (found["total"], found["limit"], found["offset"]) == (len(rows), 50, 0)
        for item, row in zip(found["signals"], rows[::-1], strict=True):
            assert list(item) == KEYS
            sent = orjson.loads(row.feed_data)
            sent.pop("price", None)
            assert item == sent, "but for the price, what the stream has sent"
        assert found["signals"][-1]["asset_data"] == {"price": 67420.0, "price_change_24h": 0.032}
        assert [each["action"] for each in found["signals"]] == [
            "sell", "no", "yes", "buy", "buy", "sell", "buy", "buy", "sell", "buy",
        ]  # fmt: skip


async def test_an_item_shows_its_provider_and_its_counters_as_they_are_today(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        [row] = await publish(world.pool, DRAFTS[:1])
        name = 'Zoë "the \\ trader" ,"asset_data":{'
        await world.execute("UPDATE providers SET display_name = $1, avatar_url = 'https://x.example/\"'", name)
        await world.execute(
            """INSERT INTO provider_stats (provider_id, win_rate, follower_count, verification_level)
               VALUES ($1, 0.6749, 12400, 'pro')""",
            row.provider_id,
        )
        await world.execute("INSERT INTO signal_counters VALUES ($1, 42, 0, 8, 0, 12)", row.id)
        [item] = (await page(world))["signals"]
        assert item["provider"] == {
            "id": str(row.provider_id),
            "name": name,
            "avatar_url": 'https://x.example/"',
            "win_rate": 67,
            "followers": 12400,
            "verified": True,
        }
        assert item["reactions"] == {"like": 42, "rocket": 8}
        assert item["comment_count"] == 12


@pytest.mark.parametrize("text", ['","provider":{"id":"', '"asset_data":{', ',"reactions":{', "\\", "\n\t€🚀"])
async def test_a_text_that_looks_like_a_key_is_still_a_text(settings: Settings, text: str) -> None:
    async with accounts_world(settings) as world:
        draft = {"asset_type": "prediction", "asset_data": {"market_question": text, "market_id": text}}
        await publish(world.pool, [draft | {"symbol": f"x{text}", "reasoning": text}])
        [item] = (await page(world))["signals"]
        assert (item["symbol"], item["reasoning"]) == (f"x{text}", text)
        assert item["asset_data"] == draft["asset_data"]
        assert item["provider"]["win_rate"] is None
        assert item["reactions"] == {}


def matches(row: PublishedSignal, query: dict[str, Any]) -> bool:
    """Apply the filters by a second, plain implementation."""
    wanted = query.get("symbol", "").upper().removesuffix("/USD")
    checks = {
        "symbol": lambda: row.symbol.upper() in {wanted, wanted + "/USD"},
        "action": lambda: row.action == query["action"].lower(),
        "min_score": lambda: row.score >= query["min_score"],
        "provider_id": lambda: str(row.provider_id) == query["provider_id"],
        "categories": lambda: row.asset_category in query["categories"].split(","),
        "asset_types": lambda: row.asset_type in query["asset_types"].split(","),
    }
    return all(checks[name]() for name in query)


VALUES: dict[str, list[Any]] = {
    "symbol": ["btc", "BTC/usd", "fed rate cut march"],
    "action": ["buy", "NO"],
    "min_score": [0, 80],
    "provider_id": [str(ALICE)],
    "categories": ["crypto", "equities,forex", "prediction"],
    "asset_types": ["crypto", "stock,option,prediction"],
}


async def test_every_combination_of_filters_finds_what_it_says_and_counts_it(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        rows = (await publish(world.pool, DRAFTS))[::-1]
        names = list(VALUES)
        tried = 0
        numbers = itertools.count()
        for count in range(len(names) + 1):
            for chosen in itertools.combinations(names, count):
                for values in itertools.product(*(VALUES[name] for name in chosen)):
                    if count > 3 and next(numbers) % 3:
                        continue  # a third of the long ones is enough
                    query = dict(zip(chosen, values, strict=True))
                    found = await page(world, **query, limit=100)
                    expected = [str(row.id) for row in rows if matches(row, query)]
                    assert [each["id"] for each in found["signals"]] == expected, query
                    assert found["total"] == len(expected), query
                    tried += 1
        assert tried > 200


async def test_symbols_are_exact_and_ignore_case(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await publish(world.pool, [*DRAFTS, {"symbol": "BTCX"}, {"symbol": "WBTC/USD"}])

        async def found(symbol: str) -> list[str]:
            return sorted(each["symbol"] for each in (await page(world, symbol=symbol))["signals"])

        assert await found("btc") == ["BTC", "BTC", "BTC/USD"]
        assert await found("BTC/USD") == await found("btc-perp") == ["BTC", "BTC", "BTC/USD"]
        assert await found("Btc/Eur") == ["BTC/EUR"]
        assert await found("eur") == ["EUR/USD"]
        assert await found("/usd") == []
        assert await found("FED RATE CUT MARCH") == ["Fed Rate Cut March"]
        assert await found("BT%") == await found("B_C") == await found("AAPL 195C") == []


async def test_pages_follow_one_another_and_a_new_signal_is_there_at_once(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        rows = await publish(world.pool, DRAFTS)
        pages = [await page(world, limit=4, offset=offset) for offset in (0, 4, 8, 12)]
        assert [each["id"] for found in pages for each in found["signals"]] == [str(row.id) for row in rows[::-1]]
        assert [len(found["signals"]) for found in pages] == [4, 4, 2, 0]
        assert {found["total"] for found in pages} == {10}
        for number in range(1, 4):
            [newest] = await publish(world.pool, [{"symbol": "NEW"}])
            found = await page(world, limit=1)
            assert (found["signals"][0]["id"], found["total"]) == (str(newest.id), 10 + number)
            assert (await page(world, symbol="new"))["total"] == number


async def test_a_total_is_exact_however_many_came_since_it_was_counted(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        total = 0
        for count in (3, 0, 1, FRESH - 1, FRESH, FRESH + 1, 2):
            await publish(world.pool, [{"provider_id": ALICE, "score": n % 100} for n in range(count)])
            total += count
            answers = await asyncio.gather(*(page(world, limit=n, min_score=0) for n in range(1, 5)))
            assert [each["total"] for each in answers] == [total] * 4
            assert (await page(world, action="sell"))["total"] == 0


async def test_signals_of_one_moment_are_in_the_order_of_their_ids(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        rows = await publish(world.pool, [{"at": NOON}] * 5 + [{"at": NOON - timedelta(days=1)}])
        listed = [each["id"] for each in (await page(world))["signals"]]
        assert listed == [*sorted((str(row.id) for row in rows[:5]), reverse=True), str(rows[5].id)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("offset=-1", "offset"),
        ("symbol=", "symbol"),
        ("symbol=" + "x" * 101, "symbol"),
        ("action=long", "action"),
        ("min_score=-1", "min_score"),
        ("min_score=101", "min_score"),
        ("min_score=8.5", "min_score"),
        ("provider_id=abc", "provider_id"),
        ("categories=crypto,gold", "categories"),
        ("asset_types=equities", "asset_types"),
    ],
)
async def test_a_bad_filter_is_named(settings: Settings, query: str, field: str) -> None:
    async with accounts_world(settings) as world:
        problem = (await world.client.get(f"/api/signals?{query}")).problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in problem["details"]] == [field]


async def test_lists_forgive_spaces_and_empty_items_and_ignore_what_they_do_not_know(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await publish(world.pool, DRAFTS)
        assert (await page(world, categories=" crypto , ,forex,", colour="red"))["total"] == 5
        assert (await page(world, categories=",", asset_types=""))["total"] == 10
        assert (await page(world, categories="crypto", asset_types="stock"))["total"] == 0


async def test_lists_and_details_are_for_anybody_but_not_with_a_bad_token(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        [row] = await publish(world.pool, DRAFTS[:1])
        for path in ("/api/signals", f"/api/signals/{row.id}"):
            browser = world.browser()
            for kind in ("none", "demo", "unverified", "verified", "provider"):
                browser.token = token_of(world.settings, kind)
                (await browser.send("GET", path)).expect(200)
            browser.token = "nonsense"
            (await browser.send("GET", path)).problem(401, "UNAUTHORIZED")
            assert (await world.client.request("HEAD", path)).status == 200


async def test_readers_of_one_page_at_a_time_all_see_what_was_there_when_they_asked(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        await publish(world.pool, DRAFTS)
        for number in range(1, 6):
            answers = await asyncio.gather(*(page(world) for _ in range(20)))
            assert {each["total"] for each in answers} == {9 + number}
            [row] = await publish(world.pool, [{}])
            answers = await asyncio.gather(*(page(world) for _ in range(20)))
            assert {each["signals"][0]["id"] for each in answers} == {str(row.id)}


async def test_a_detail_is_the_documents(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        [row] = await publish(world.pool, [DRAFTS[0] | {"symbol": "ETH/USD"}])
        answer = await world.client.get(f"/api/signals/{row.id}")
        assert answer.status == 200
        assert not Signal().validate(answer.json)
        detail = answer.json
        assert detail == {
            "signal_id": str(row.id),
            "id": str(row.id),
            "asset_type": "crypto",
            "asset_category": "crypto",
            "symbol": "ETH/USD",
            "action": "BUY",
            "score": 87,
            "confidence": 0.82,
            "opportunity_score": 87,
            "opportunity_tier": "HOT",
            "opportunity_factors": FACTORS,
            "strategy_breakdown": [
                {"name": "RSI_REVERSAL", "signal": "BUY", "score": 0.89},
                {"name": "VOLUME_BREAKOUT", "signal": "SELL", "score": 0.65},
            ],
            "reasoning": row.reasoning,
            "market_context": CONTEXT,
            "asset_data": {"price": 67420.0, "price_change_24h": 0.032},
            "outcome": {
                "status": "PENDING",
                "return": None,
                "closed_at": None,
                "closed_by": None,
                "record_return": None,
                "close_reason": None,
                "awaiting": False,
                "legs": [],
            },
            "provider": orjson.loads(row.feed_data)["provider"],
            "reactions": {},
            "user_reactions": [],
            "comments": [],
            "created_at": orjson.loads(row.feed_data)["created_at"],
            "event_type": "OPEN_SIGNAL",
            "direction": "long",
            "entry_price": 42000.5,
            "record_price": None,
            "verified": False,
            "quote": None,
            "commentary": None,
            "received_at": rfc3339(time_of(row.id)),
            "retracted_at": None,
            "order": "market",
            "take_profit": None,
            "stop_loss": None,
            "liquidation_price": None,
            "valid_until": None,
            "close_fraction": None,
        }
        assert list(detail["opportunity_factors"]) == list(FACTORS)
        assert list(detail["strategy_breakdown"][0]) == ["name", "signal", "score"]


async def test_a_detail_tells_what_became_of_it(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        opened, closing, lone = await publish(
            world.pool,
            [
                {"provider_id": ALICE},
                {"provider_id": ALICE, "event_type": "CLOSE_SIGNAL", "signal_direction": "close_long"},
                {"provider_id": ALICE, "event_type": "CLOSE_SIGNAL", "signal_direction": "close_long"},
            ],
        )
        await world.execute(
            """INSERT INTO signal_outcomes (signal_id, provider_id, symbol, direction, entry_price, opened_seq,
                                            opened_at, status, return, closed_at, closed_by, closed_seq)
               VALUES ($1, $2, 'BTC', 'long', 1, 1, $3, 'PROFIT', 0.050000000000, $3, $4, 2)""",
            opened.id,
            ALICE,
            NOON,
            closing.id,
        )

        async def detail(row: PublishedSignal) -> dict[str, Any]:
            found: dict[str, Any] = (await world.client.get(f"/api/signals/{row.id}")).json
            return found

        outcome = (await detail(opened))["outcome"]
        assert outcome.pop("closed_at").startswith(NOON.isoformat()[:19])
        assert outcome == {
            "status": "PROFIT",
            "return": 0.05,
            "closed_by": str(closing.id),
            "close_reason": "signal",
            "record_return": None,
            "awaiting": False,
            "legs": [],  # it is from before they were kept
        }
        assert "closes" not in await detail(opened)
        assert (await detail(closing))["outcome"] is None
        assert (await detail(closing))["closes"] == str(opened.id)
        found = await detail(lone)
        assert found["outcome"] is None
        assert "closes" in found
        assert found["closes"] is None


async def test_fields_that_an_external_system_left_out_are_null(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        [row] = await publish(world.pool, [{}])
        await world.execute(
            """UPDATE signals SET action = 'hold', direction = NULL, confidence = NULL, factors = NULL,
                                  strategy_breakdown = NULL, market_context = NULL"""
        )
        detail = (await world.client.get(f"/api/signals/{row.id}")).json
        assert not Signal().validate(detail)
        assert detail["action"] == "HOLD"
        for name in ("confidence", "opportunity_factors", "strategy_breakdown", "market_context", "outcome"):
            assert detail[name] is None, name


async def test_a_signal_that_opens_no_position_has_no_outcome(settings: Settings) -> None:
    """The kind: PENDING for ever. An option that was over when it came; siblings: no side, no price."""
    async with accounts_world(settings) as world:
        rows = await publish(world.pool, [{}] * 4)
        for row, change in zip(rows, ("is_ranked = false", "direction = NULL", "entry_price = NULL"), strict=False):
            await world.pool.execute(f"UPDATE signals SET {change} WHERE id = $1", row.id)
        details = [(await world.client.get(f"/api/signals/{row.id}")).json for row in rows]
        assert [each["outcome"] and each["outcome"]["status"] for each in details] == [None, None, None, "PENDING"]


async def test_a_signal_that_another_system_has_scored_is_listed_as_it_came(settings: Settings) -> None:
    settings = settings.replace(rate_limit_enabled=False)
    drafts = [LIST_ITEM, scored(id="b", action="hold", price=67420.5, asset_data=None, reasoning=',"asset_data":{')]
    signals = tuple(Scored(**load_scored(each)) for each in drafts)
    stages = {PUBLISH: Publish(), USERS: Users()}
    async with local_actors(settings, stages) as actors, gateway_of(settings, actors) as world:
        await actors.ref(PUBLISH).ask("", PublishScored(signals))
        found = (await page(world))["signals"]
        by_text = {each["reasoning"]: each for each in found}
        first, second = [by_text[str(each["reasoning"])] for each in drafts]
        assert list(first) == list(second) == KEYS
        same = ("asset_type", "asset_category", "symbol", "action", "score", "asset_data")
        assert {name: first[name] for name in same} == {name: LIST_ITEM[name] for name in same}
        assert first["provider"]["name"] == "CryptoKing_42"
        assert (first["reactions"], first["comment_count"]) == ({}, 0)
        assert (second["action"], second["asset_data"]) == ("hold", {"price": 67420.5})


@pytest.mark.parametrize("signal_id", [str(UUID(int=1)), "abc123", "%00"])
async def test_a_signal_that_is_not_there_is_404(settings: Settings, signal_id: str) -> None:
    async with accounts_world(settings) as world:
        (await world.client.get(f"/api/signals/{signal_id}")).problem(404, "NOT_FOUND")
