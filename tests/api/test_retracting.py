"""`POST /api/signals/{id}/retract`, and the terms of orders, through the whole pipeline to lists and details."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from actors.lens import retraction
from config.ids import uuid7
from config.settings import Settings
from schemas.signals import RetractedSignal, Signal
from tests.api.test_publishing import pipeline, published
from tests.support.accounts import token_of

EURO = {"symbol": "EUR/USD", "action": "buy", "asset_type": "forex", "entry_price": 1.085}
ORDER: dict[str, Any] = {
    "order": "limit",
    "take_profit": [1.1, 1.1234567890123457],
    "stop_loss": 1.05,
    "liquidation_price": 0.9,
}


async def test_a_provider_takes_back_its_signal_once(settings: Settings) -> None:
    async with pipeline(settings) as (world, browser):
        accepted = (await browser.send("POST", "/api/signals", EURO)).json
        item = await published(world, accepted)
        assert item["retracted_at"] is None
        path = f"/api/signals/{item['id']}/retract"
        answer = await browser.send("POST", path)
        assert answer.status == 200, answer.json
        assert not RetractedSignal().validate(answer.json)
        assert answer.json["signal_id"] == item["id"]
        assert (await browser.send("POST", path)).json == answer.json
        shown = await published(world, accepted)
        assert shown["retracted_at"] == answer.json["retracted_at"]
        detail = (await world.client.get(f"/api/signals/{item['id']}")).json
        assert not Signal().validate(detail)
        assert detail["retracted_at"] == answer.json["retracted_at"]
        assert shown | {"retracted_at": None} == item


async def test_what_is_refused_says_why(settings: Settings) -> None:
    async with pipeline(settings) as (world, browser):
        item = await published(world, (await browser.send("POST", "/api/signals", EURO)).json)
        path = f"/api/signals/{item['id']}/retract"
        for caller, status in (("none", 401), ("demo", 403), ("verified", 403)):
            other = world.browser()
            other.token = token_of(settings, caller)
            assert (await other.send("POST", path)).status == status, caller
        foreign = world.browser()
        foreign.token = token_of(settings, "provider")
        assert (await foreign.send("POST", path)).problem(403, "FORBIDDEN")
        for unknown in (str(uuid7()), "nothing"):
            assert (await browser.send("POST", f"/api/signals/{unknown}/retract")).problem(404, "NOT_FOUND")
        await world.execute("UPDATE signals SET received_at = received_at - interval '11 seconds'")
        assert (await browser.send("POST", path)).problem(409, "CONFLICT")["message"] == retraction.TOO_LATE
        await world.execute("UPDATE signals SET received_at = now(), quote_mid = quote_mid * 2")
        assert (await browser.send("POST", path)).problem(409, "CONFLICT")["message"] == retraction.MOVED


@pytest.mark.parametrize("terms", [ORDER, {}])
async def test_the_terms_of_an_order_are_kept_exactly_and_shown(settings: Settings, terms: dict[str, Any]) -> None:
    async with pipeline(settings) as (world, browser):
        accepted = (await browser.send("POST", "/api/signals", EURO | terms)).json
        await published(world, accepted)
        detail = (await world.client.get(f"/api/signals/{accepted['event_id']}")).json
        event = (await world.client.get(f"/api/v1/events/{accepted['event_id']}")).json
        for shown in (detail, event):
            for name in ("take_profit", "stop_loss", "liquidation_price"):
                assert shown[name] == terms.get(name), name
        assert detail["order"] == terms.get("order", "market")
        assert detail["close_fraction"] is None
        rows = [
            await world.value(
                f"SELECT (take_profit::text, stop_loss, valid_until - received_at) FROM {table} WHERE {key} = $1",
                accepted["event_id"],
            )
            for table, key in (("signals", "id"), ("lens_events", "event_id"))
        ]
        assert rows[0] == rows[1]
        if terms:
            assert rows[0][0] == "[1.1, 1.1234567890123457]"
            assert rows[0][1] == Decimal("1.05")
            assert rows[0][2] == timedelta(hours=24)
            assert datetime.fromisoformat(detail["valid_until"])
        else:
            assert tuple(rows[0]) == (None, None, None)


async def test_a_part_is_closed(settings: Settings) -> None:
    async with pipeline(settings) as (world, browser):
        for fraction, shown in ((0.25, 0.25), (None, 1)):
            accepted = (
                await browser.send("POST", "/api/signals", EURO | {"close": True, "close_fraction": fraction})
            ).json
            await published(world, accepted)
            detail = (await world.client.get(f"/api/signals/{accepted['event_id']}")).json
            assert (detail["close_fraction"], detail["order"]) == (shown, None)
