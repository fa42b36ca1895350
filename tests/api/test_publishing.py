"""`POST /api/signals`: a provider's own signals, through the whole pipeline to the public list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors._runtime.context import Behaviour
from actors.lens.enrich import Enrich
from actors.lens.evaluate import Evaluate
from actors.lens.intake import Intake
from actors.lens.messages import ENRICH, EVALUATE, INTAKE, PUBLISH
from actors.lens.publish import Publish
from actors.users.messages import USERS
from actors.users.users import Users
from config.settings import Settings
from schemas.lens import SignalAccepted
from schemas.signals import PageOfSignals
from tests.api.serving import SIGNAL
from tests.support.accounts import Browser, World, gateway_of, token_of
from tests.support.lens_factory import until
from tests.support.local_actors import local_actors

BTC = {"symbol": "btc", "action": "buy", "asset_type": "crypto", "entry_price": 42000.50}
OPTION = {
    "symbol": "AAPL 195C 3/15",
    "action": "sell",
    "asset_type": "option",
    "entry_price": 4.2,
    "size": 3,
    "commentary": "Unusual call volume.",
    "asset_data": {
        "underlying": "AAPL",
        "strike": 195.00,
        "option_type": "call",
        "expiry": "2026-03-15",
        "premium": 4.20,
        "greeks": {"delta": 0.45, "theta": -0.08, "gamma": 0.03, "vega": 0.22, "iv": 0.32},
        "open_interest": 12500,
        "volume": 3400,
    },
}
PREDICTION = {
    "symbol": "Fed Rate Cut March",
    "action": "yes",
    "asset_type": "prediction",
    "entry_price": 0.68,
    "asset_data": {
        "platform": "polymarket",
        "market_id": "0xabc",
        "market_question": "Will the Fed cut rates in March 2026?",
        "probability": 0.68,
        "prob_change_24h": 0.05,
        "volume_usd": 2500000,
        "resolution_date": "2026-03-20",
    },
}


@asynccontextmanager
async def pipeline(settings: Settings) -> AsyncIterator[tuple[World, Browser]]:
    """A gateway with the whole pipeline, and the browser of a provider."""
    settings = settings.replace(rate_limit_enabled=False)
    stages: dict[str, Behaviour] = {INTAKE: Intake(), ENRICH: Enrich(), EVALUATE: Evaluate(), PUBLISH: Publish()}
    async with local_actors(settings, {**stages, USERS: Users()}) as actors, gateway_of(settings, actors) as world:
        browser = world.browser()
        browser.token = token_of(settings, "provider")
        await world.execute(
            "INSERT INTO providers (user_id, display_name) VALUES ($1::text::uuid, 'MacroOracle')",
            browser.claims["sub"],
        )
        yield world, browser


async def published(world: World, accepted: dict[str, Any]) -> dict[str, Any]:
    """Return the list's item once it is published."""

    async def ask() -> dict[str, Any] | None:
        answer = (await world.client.get("/api/signals?limit=100")).json
        assert not PageOfSignals().validate(answer), answer
        return next((each for each in answer["signals"] if each["id"] == accepted["event_id"]), None)

    found = await until(ask)
    assert found is not None
    return found


@pytest.mark.parametrize("body", [BTC, OPTION, PREDICTION], ids=["crypto", "option", "prediction"])
async def test_a_provider_publishes_as_itself(settings: Settings, body: dict[str, Any]) -> None:
    async with pipeline(settings) as (world, browser):
        answer = (await browser.send("POST", "/api/signals", body)).expect(201)
        assert not SignalAccepted().validate(answer.json)
        item = await published(world, answer.json)
        assert item["provider"]["id"] == browser.claims["sub"]
        assert item["provider"]["name"] == "MacroOracle"
        assert (item["action"], item["asset_type"]) == (body["action"], body["asset_type"])
        assert item["symbol"] == (body["symbol"] if body is not BTC else "BTC")
        if "asset_data" in body:
            assert item["asset_data"] == body["asset_data"]
            assert list(item["asset_data"]) == list(body["asset_data"])
        event = (await world.client.get(f"/api/v1/events/{item['id']}")).json
        assert event["source"] == browser.claims["sub"]
        assert (event["size"], event["commentary"]) == (body.get("size", 1), body.get("commentary"))


@pytest.mark.parametrize(
    ("action", "close", "direction", "public"),
    [
        ("buy", False, "long", "BUY"),
        ("SELL", False, "short", "SELL"),
        ("buy", True, "close_long", "SELL"),
        ("sell", True, "close_short", "BUY"),
    ],
)
async def test_an_action_is_a_side_and_closing_names_the_one_that_opened(
    settings: Settings, action: str, close: bool, direction: str, public: str
) -> None:
    async with pipeline(settings) as (world, browser):
        body = BTC | {"action": action, "close": close}
        accepted = (await browser.send("POST", "/api/signals", body)).expect(201).json
        event = (await world.client.get(f"/api/v1/events/{accepted['event_id']}")).json
        assert event["signal_direction"] == direction
        assert event["event_type"] == ("CLOSE_SIGNAL" if close else "OPEN_SIGNAL")
        await published(world, accepted)
        detail = (await browser.send("GET", f"/api/signals/{accepted['event_id']}")).expect(200).json
        assert detail["action"] == public
        assert ("closes" in detail) == close
        assert (detail["outcome"] is None) == close


async def test_a_prediction_keeps_yes_and_no(settings: Settings) -> None:
    async with pipeline(settings) as (world, browser):
        for action, close, public in (("yes", False, "yes"), ("no", False, "no"), ("yes", True, "no")):
            body = PREDICTION | {"action": action, "close": close}
            accepted = (await browser.send("POST", "/api/signals", body)).expect(201).json
            assert (await published(world, accepted))["action"] == public


BAD: list[tuple[dict[str, Any], str]] = [
    ({"action": "hold"}, "action"),
    ({"action": "long"}, "action"),
    ({"action": "yes"}, "action"),
    ({"action": None}, "action"),
    ({"asset_type": "bond"}, "asset_type"),
    ({"symbol": ""}, "symbol"),
    ({"symbol": "B T C"}, "symbol"),
    ({"asset_type": "forex"}, "symbol"),
    ({"asset_type": "forex", "symbol": "EUR/EUR"}, "symbol"),
    ({"asset_type": "option"}, "symbol"),
    ({"asset_type": "option", "symbol": "AAPL 195C 13/45"}, "symbol"),
    ({"entry_price": 0}, "entry_price"),
    ({"entry_price": "1"}, "entry_price"),
    ({"size": -1}, "size"),
    ({"size": None}, "size"),
    ({"commentary": "x" * 501}, "commentary"),
    ({"close": "yes"}, "close"),
    ({"source": "somebody else"}, "source"),
    ({"asset_data": []}, "asset_data"),
]
BAD_DATA: list[tuple[str, str, dict[str, Any], str]] = [
    ("crypto", "BTC", {"strike": 1}, "asset_data.strike"),
    ("crypto", "BTC", {"price": -1}, "asset_data.price"),
    ("stock", "AAPL", {"price": "1"}, "asset_data.price"),
    ("etf", "QQQ", {"probability": 0.5}, "asset_data.probability"),
    ("forex", "EUR/USD", {"price_change_24h": None}, "asset_data.price_change_24h"),
    ("option", "AAPL 195C 3/15", {"option_type": "straddle"}, "asset_data.option_type"),
    ("option", "AAPL 195C 3/15", {"expiry": "3/15"}, "asset_data.expiry"),
    ("option", "AAPL 195C 3/15", {"expiry": "2026-02-30"}, "asset_data.expiry"),
    ("option", "AAPL 195C 3/15", {"strike": "195"}, "asset_data.strike"),
    ("option", "AAPL 195C 3/15", {"greeks": {"delta": 1.5}}, "asset_data.greeks.delta"),
    ("option", "AAPL 195C 3/15", {"greeks": {"rho": 1}}, "asset_data.greeks.rho"),
    ("prediction", "Snow", {"platform": "betfair"}, "asset_data.platform"),
    ("prediction", "Snow", {"probability": 1.01}, "asset_data.probability"),
    ("prediction", "Snow", {"probability": -0.01}, "asset_data.probability"),
    ("prediction", "Snow", {"resolution_date": "soon"}, "asset_data.resolution_date"),
]


async def test_errors_of_a_signal_are_named_and_publish_nothing(settings: Settings) -> None:
    async with pipeline(settings) as (world, browser):
        for changes, field in BAD:
            problem = (await browser.send("POST", "/api/signals", BTC | changes)).problem(400, "VALIDATION_ERROR")
            assert [each["field"] for each in problem["details"]] == [field], changes
        for name in ("symbol", "action", "asset_type", "entry_price"):
            body = {key: value for key, value in BTC.items() if key != name}
            problem = (await browser.send("POST", "/api/signals", body)).problem(400, "VALIDATION_ERROR")
            assert {"field": name, "message": "is required"} in problem["details"]
        several = {"symbol": "EURUSD", "action": "hold", "asset_type": "forex", "asset_data": {"strike": 1}}
        problem = (await browser.send("POST", "/api/signals", several)).problem(400, "VALIDATION_ERROR")
        named = {each["field"] for each in problem["details"]}
        assert named == {"symbol", "action", "entry_price", "asset_data.strike"}
        assert (await world.client.get("/api/v1/events")).json["total"] == 0


async def test_asset_data_is_checked_alike_here_and_in_lens(settings: Settings) -> None:
    async with pipeline(settings) as (world, browser):
        for asset_type, symbol, data, field in BAD_DATA:
            asset = {"asset_type": asset_type, "symbol": symbol, "asset_data": data}
            here = (await browser.send("POST", "/api/signals", BTC | asset)).problem(400, "VALIDATION_ERROR")
            there = (await world.client.post("/api/v1/signals", SIGNAL | asset)).problem(400, "VALIDATION_ERROR")
            assert [each["field"] for each in here["details"]] == [field], asset
            assert here["details"] == there["details"]


async def test_an_idempotency_key_makes_one_signal_of_two_requests(settings: Settings) -> None:
    async with pipeline(settings) as (world, browser):
        key = {"X-Idempotency-Key": "k1"}
        first = (await browser.send("POST", "/api/signals", BTC, headers=key)).expect(201)
        again = (await browser.send("POST", "/api/signals", BTC, headers=key)).expect(201)
        assert again.json == first.json
        assert (first.headers.get("Idempotent-Replayed"), again.headers.get("Idempotent-Replayed")) == (None, "true")
        other = await browser.send("POST", "/api/signals", BTC | {"entry_price": 1}, headers=key)
        other.problem(422, "IDEMPOTENCY_MISMATCH")
        problem = (await browser.send("POST", "/api/signals", BTC, headers={"X-Idempotency-Key": "x" * 256})).problem(
            400, "VALIDATION_ERROR"
        )
        assert problem["details"][0]["field"] == "X-Idempotency-Key"
        assert (await world.client.get("/api/v1/events")).json["total"] == 1
