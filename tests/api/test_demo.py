"""The backfill: only in development and from the internal network, in the feed's order, each signal once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from actors.lens.messages import PUBLISH
from actors.lens.publish import Publish
from actors.providers.messages import PROVIDERS
from actors.providers.providers import Providers
from actors.users.messages import USERS
from actors.users.users import Users
from config.clock import now
from config.settings import Settings
from handlers.demo import instance_name
from server.demo.cast import STRATEGIES, Cast
from server.demo.markets import full_hour, open_markets
from server.demo.signals import imagine
from server.demo.state import State
from server.openapi import build_document
from server.routes import DEVELOPMENT_ROUTES, routes_for
from tests.api.serving import SETTINGS, serving
from tests.support.accounts import gateway_of
from tests.support.local_actors import local_actors

PATH = "/api/v1/demo/signals"
PRODUCTION = SETTINGS.replace(environment="production")


def past(count: int) -> list[dict[str, Any]]:
    """Signals of a strategy, ready to be sent."""
    cast = Cast(providers=(), strategies=STRATEGIES[:1], followers=(), days=20.0)
    anchor = full_hour(now())
    signals = imagine(cast, open_markets(anchor), State(anchor))
    return [document for name, document in signals if name == STRATEGIES[0].name][:count]


async def test_production_has_no_past_to_import() -> None:
    async with serving(PRODUCTION) as client:
        (await client.post(PATH, {"signals": []})).problem(404, "NOT_FOUND")
        (await client.get("/api/v1/demo")).problem(404, "NOT_FOUND")
    assert {route.path for route in DEVELOPMENT_ROUTES} == {PATH, "/api/v1/demo"}
    assert not {route.path for route in routes_for(PRODUCTION)} & {route.path for route in DEVELOPMENT_ROUTES}
    assert "/api/v1/demo" not in build_document(routes_for(PRODUCTION), PRODUCTION).decode()
    assert PATH in orjson.loads(build_document(routes_for(SETTINGS), SETTINGS))["paths"]


async def test_the_backfill_is_closed_to_the_outside() -> None:
    outside = SETTINGS.replace(internal_networks=())
    async with serving(outside) as client:
        (await client.post(PATH, {"signals": []})).problem(403, "FORBIDDEN")
        (await client.get("/api/v1/demo")).problem(403, "FORBIDDEN")


async def test_the_server_tells_on_which_data_it_runs_without_naming_it() -> None:
    async with serving() as client:
        answer = (await client.get("/api/v1/demo")).json
    assert answer == {"instance": instance_name(str(SETTINGS.data_dir.resolve())), "rate_limited": "no"}


async def test_errors_of_a_past_signal_are_named() -> None:
    [signal] = past(1)
    async with serving() as client:
        answer = await client.post(PATH, {"signals": [signal | {"entry_price": 0}]})
        assert answer.problem(400, "VALIDATION_ERROR")["details"][0]["field"] == "signals.0.entry_price"
        # A judgement without its factors was stored, and shown by a detail in a form that is not the document's.
        for factors in ({}, {**signal["score"]["opportunity_factors"], "consensus": {}}):
            bare = signal | {"score": signal["score"] | {"opportunity_factors": factors}}
            problem = (await client.post(PATH, {"signals": [bare]})).problem(400, "VALIDATION_ERROR")
            assert all(each["field"].startswith("signals.0.score.opportunity_factors") for each in problem["details"])
        nothing = (await client.post(PATH, {"signals": []})).problem(400, "VALIDATION_ERROR")
        assert nothing["details"] == [{"field": "signals", "message": "must have 1-100 items"}]


async def test_the_past_is_listed_with_its_own_times_and_judgement_and_stored_once(
    settings: Settings,
) -> None:
    signals = past(30)
    open_settings = settings.replace(rate_limit_enabled=False)
    async with local_actors(open_settings, {PUBLISH: Publish()}) as actors, gateway_of(open_settings, actors) as world:
        first = await world.client.post(PATH, {"signals": signals[:20]})
        again = await world.client.post(PATH, {"signals": signals})
        listed = (await world.client.get("/api/signals?limit=100")).json["signals"]
        detail = (await world.client.get(f"/api/signals/{signals[0]['id']}")).json
        rows = await world.pool.fetch("SELECT * FROM signals ORDER BY feed_seq")
    for row in rows:
        assert (row["way_in"], row["quote_source"]) == ("backfill", "simulated")
        assert row["quote_at"] == row["received_at"] == row["created_at"]
        buys = (row["direction"] == "long") is (row["event_type"] == "OPEN_SIGNAL")
        worse = max(row["entry_price"], row["quote_ask"]) if buys else min(row["entry_price"], row["quote_bid"])
        assert row["record_price"] == worse
    assert abs(rows[0]["quote_mid"] / rows[0]["entry_price"] - 1) < 1e-6, "it starts at its first price"
    assert (first.status, first.json) == (201, {"published": 20, "known": 0})
    assert again.json == {"published": 10, "known": 20}
    assert [each["id"] for each in reversed(listed)] == [each["id"] for each in signals]
    assert [each["created_at"] for each in reversed(listed)] == [each["published_at"] for each in signals]
    score = signals[0]["score"]
    assert detail["opportunity_factors"] == score["opportunity_factors"]
    assert detail["strategy_breakdown"] == list(score["strategy_breakdown"])
    assert detail["market_context"] == score["market_context"]
    assert detail["provider"]["name"] == "strategy_alpha"


async def test_a_provider_with_a_past_has_begun_before_it(settings: Settings) -> None:
    open_settings = settings.replace(rate_limit_enabled=False)
    behaviours = {PUBLISH: Publish(), PROVIDERS: Providers(), USERS: Users()}
    async with local_actors(open_settings, behaviours) as actors, gateway_of(open_settings, actors) as world:
        ana = await world.logged_in("ana@example.com", display_name="Ana")
        ben = await world.logged_in("ben@example.com", display_name="Ben")
        for each in (ana, ben):
            (await each.send("POST", "/api/providers/become", {"display_name": each.claims["name"]})).expect(201)
        await world.execute("UPDATE users SET created_at = now()")
        until = now()
        mine = [{**each, "source": ana.claims["sub"]} for each in past(10)]
        for signals in (mine[5:], mine[:5]):
            assert (await world.client.post(PATH, {"signals": signals})).status == 201
        first = datetime.fromisoformat(mine[0]["published_at"])
        profile = (await world.client.get(f"/api/providers/{ana.claims['sub']}")).json
        began = "SELECT created_at FROM users WHERE id = $1"
        assert datetime.fromisoformat(profile["created_at"]) == first - timedelta(hours=1)
        assert await world.value(began, UUID(ana.claims["sub"])) == first - timedelta(days=1)
        other = (await world.client.get(f"/api/providers/{ben.claims['sub']}")).json
        assert timedelta(0) <= until - datetime.fromisoformat(other["created_at"]) < timedelta(minutes=1)
