"""Settings, the watchlist and saved views, as a browser uses them."""

from __future__ import annotations

import asyncio
import zoneinfo
from typing import Any
from urllib.parse import quote

import pytest

from config.ids import uuid7
from config.settings import Settings
from tests.support.accounts import Browser, accounts_world

ADDRESS = "trader@example.com"
SETTINGS = "/api/user/settings"
WATCHLIST = "/api/user/watchlist"
VIEWS = "/api/user/saved-views"
DEFAULTS = {
    "risk_tolerance": "moderate",
    "min_opportunity_score": 0.60,
    "default_action_filter": ["BUY", "SELL", "HOLD"],
    "theme": "dark",
    "timezone": "UTC",
    "onboarding_completed": False,
    "onboarding_step": 0,
}


async def refused_fields(browser: Browser, method: str, path: str, body: Any) -> list[str]:
    problem = (await browser.send(method, path, body)).problem(400, "VALIDATION_ERROR")
    return [each["field"] for each in problem["details"]]


async def test_settings_have_defaults_and_change_by_name(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        assert (await browser.send("GET", SETTINGS)).expect(200).json == DEFAULTS
        documented = {"risk_tolerance": "aggressive", "min_opportunity_score": 0.70, "theme": "dark"}
        changed = (await browser.send("PUT", SETTINGS, documented)).expect(200).json
        assert changed == DEFAULTS | documented
        onboarding = {"onboarding_completed": True, "onboarding_step": 5, "timezone": "America/New_York"}
        changed = (await browser.send("PUT", SETTINGS, onboarding)).expect(200).json
        assert changed == DEFAULTS | documented | onboarding
        await world.forget()
        assert (await browser.send("GET", SETTINGS)).json == changed
        assert (await browser.send("PUT", SETTINGS, {})).expect(200).json == changed


async def test_every_setting_is_checked(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        bad: dict[str, list[Any]] = {
            "risk_tolerance": ["reckless", None, 1],
            "min_opportunity_score": [-0.01, 1.01, "0.5", None, True],
            "default_action_filter": ["BUY", [7], None],
            "theme": ["blue", None],
            "timezone": ["Mars/Olympus", "", "america/new_york", "../etc/passwd", "localtime", "+02:00", None],
            "onboarding_completed": ["yes", 1, None],
            "onboarding_step": [-1, 1.5, "3", None],
            "colour": ["red"],
        }
        for name, values in bad.items():
            for value in values:
                [field] = await refused_fields(browser, "PUT", SETTINGS, {name: value})
                assert field.split(".")[0] == name, (name, value)
        assert await refused_fields(browser, "PUT", SETTINGS, {"default_action_filter": ["BUY", "MAYBE"]}) == [
            "default_action_filter.1"
        ]
        assert (await browser.send("GET", SETTINGS)).json == DEFAULTS


async def test_every_zone_of_the_iana_database_is_accepted(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        zones = sorted(zoneinfo.available_timezones() - {"localtime", "Factory", "posixrules"})
        assert len(zones) > 400
        for zone in [*zones[::25], "Europe/Vienna", "Asia/Kolkata", "America/Argentina/Ushuaia"]:
            assert (await browser.send("PUT", SETTINGS, {"timezone": zone})).expect(200).json["timezone"] == zone


async def test_concurrent_edits_of_different_settings_are_all_kept(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        edits: list[dict[str, Any]] = [{"theme": "light"}, {"onboarding_step": 4}, {"timezone": "Asia/Tokyo"}]
        await asyncio.gather(*(browser.send("PUT", SETTINGS, each) for each in edits * 5))
        kept = (await browser.send("GET", SETTINGS)).json
        assert all(kept.items() >= each.items() for each in edits)


async def test_a_watchlist_as_the_document_shows_it(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        assert (await browser.send("GET", WATCHLIST)).expect(200).json == {"watchlist": []}
        body = {"symbol": "SOL/USD", "notes": "Watching for entry", "alert_enabled": True}
        item = (await browser.send("POST", WATCHLIST, body)).expect(201).json
        assert item == body | {"position_size": None, "entry_price": None, "added_at": item["added_at"]}
        assert item["added_at"].endswith("Z")
        (await browser.send("POST", WATCHLIST, {"symbol": "btc"})).expect(201)
        more = {"symbol": "sol/usd", "position_size": 0.5, "entry_price": 42000.00}
        updated = (await browser.send("POST", WATCHLIST, more)).expect(200).json
        assert updated == item | {"position_size": 0.5, "entry_price": 42000.00}
        listed = (await browser.send("GET", WATCHLIST)).json["watchlist"]
        assert [each["symbol"] for each in listed] == ["SOL/USD", "BTC"]
        assert listed[0] == updated
        cleared = {"symbol": "SOL/USD", "notes": None, "position_size": None}
        assert (await browser.send("POST", WATCHLIST, cleared)).expect(200).json["notes"] is None


@pytest.mark.parametrize(
    ("symbol", "stored"),
    [
        ("BTC", "BTC"),
        ("eur/usd", "EUR/USD"),
        ("AAPL 195c 3/15", "AAPL 195C 3/15"),
        ("Fed Rate Cut March?", "Fed Rate Cut March?"),
        ("100% / year", "100% / year"),
        ("Wird es Schnee geben – in Köln", "Wird es Schnee geben – in Köln"),
        ("..", ".."),
        ("a/../b", "a/../b"),
    ],
)
async def test_any_symbol_is_removed_however_its_slash_is_written(settings: Settings, symbol: str, stored: str) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        for safe in ("", "/"):
            (await browser.send("POST", WATCHLIST, {"symbol": symbol})).expect(201)
            removed = (await browser.send("DELETE", f"{WATCHLIST}/{quote(symbol, safe=safe)}")).expect(200)
            assert removed.json == {"symbol": stored, "removed": True}
            assert (await browser.send("GET", WATCHLIST)).json == {"watchlist": []}
            (await browser.send("DELETE", f"{WATCHLIST}/{quote(stored, safe=safe)}")).expect(200)


async def test_removing_what_never_was_there_is_an_error(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        for symbol in ("DOGE", "x" * 101, "%01", "%20"):
            (await browser.send("DELETE", f"{WATCHLIST}/{symbol}")).problem(404, "NOT_FOUND")
        (await browser.send("DELETE", f"{WATCHLIST}/")).problem(404, "NOT_FOUND")


async def test_every_field_of_a_watchlist_is_checked(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        bad: dict[str, list[Any]] = {
            "symbol": ["", "  ", "x" * 101, "a\tb", None, 7],
            "notes": ["x" * 501, "a\x07", 7],
            "alert_enabled": ["yes", None],
            "position_size": [0, -1, "1", True, 1e16],
            "entry_price": [0, -1, "1", 1e-19],
            "colour": ["red"],
        }
        for name, values in bad.items():
            for value in values:
                assert await refused_fields(browser, "POST", WATCHLIST, {"symbol": "BTC", name: value}) == [name]
        assert await refused_fields(browser, "POST", WATCHLIST, {}) == ["symbol"]


async def test_a_hundred_symbols_fit_exactly_whoever_adds_them_at_once(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        answers = await asyncio.gather(*(browser.send("POST", WATCHLIST, {"symbol": f"S{n}"}) for n in range(120)))
        assert sorted(each.status for each in answers) == [201] * 100 + [409] * 20
        for each in answers:
            if each.status == 409:
                each.problem(409, "CONFLICT")
        listed = (await browser.send("GET", WATCHLIST)).json["watchlist"]
        assert len(listed) == 100
        (await browser.send("POST", WATCHLIST, {"symbol": listed[0]["symbol"], "notes": "full"})).expect(200)


async def test_a_view_is_saved_renamed_and_deleted(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        body = {"name": "High Confidence BUY", "filters": {"minOpportunityScore": 0.80, "actions": ["BUY"]}}
        view = (await browser.send("POST", VIEWS, body)).expect(201).json
        assert view == body | {
            "id": view["id"],
            "description": None,
            "is_default": False,
            "created_at": view["created_at"],
        }
        assert (await browser.send("GET", VIEWS)).expect(200).json == {"saved_views": [view]}
        path = f"{VIEWS}/{view['id']}"
        renamed = (await browser.send("PUT", path, {"name": "B", "description": "why", "is_default": True})).expect(200)
        assert renamed.json == view | {"name": "B", "description": "why", "is_default": True}
        await world.forget()
        [stored] = (await browser.send("GET", VIEWS)).json["saved_views"]
        assert stored == renamed.json
        assert list(stored["filters"]) == ["minOpportunityScore", "actions"]
        assert (await browser.send("DELETE", path)).expect(200).json == {"id": view["id"], "deleted": True}
        (await browser.send("DELETE", path)).expect(200)
        (await browser.send("PUT", path, {"name": "C"})).problem(404, "NOT_FOUND")
        for unknown in (str(uuid7()), "nonsense"):
            (await browser.send("DELETE", f"{VIEWS}/{unknown}")).problem(404, "NOT_FOUND")
            (await browser.send("PUT", f"{VIEWS}/{unknown}", {})).problem(404, "NOT_FOUND")


async def test_views_are_listed_newest_first_and_edits_move_none(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        made = [(await browser.send("POST", VIEWS, {"name": name, "filters": {}})).json for name in ("a", "b", "c")]
        await browser.send("PUT", f"{VIEWS}/{made[0]['id']}", {"name": "z", "is_default": True})
        for _ in range(2):
            listed = (await browser.send("GET", VIEWS)).json["saved_views"]
            assert [each["name"] for each in listed] == ["c", "b", "z"]
            await world.forget()
        # Views of the same moment are told apart by their ids.
        await world.execute("UPDATE saved_views SET created_at = now()")
        listed = (await browser.send("GET", VIEWS)).json["saved_views"]
        assert [each["id"] for each in listed] == sorted((each["id"] for each in made), reverse=True)


async def test_the_watchlist_is_in_the_order_of_the_documents_example(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        for symbol in ("BTC/USD", "ETH/USD", "AAA"):
            await browser.send("POST", WATCHLIST, {"symbol": symbol})
        await browser.send("POST", WATCHLIST, {"symbol": "BTC/USD", "notes": "Long-term hold"})
        await world.execute("UPDATE watchlist_items SET added_at = '2025-01-15T10:00:00Z' WHERE symbol = 'BTC/USD'")
        await world.execute("UPDATE watchlist_items SET added_at = '2025-01-20T14:30:00Z' WHERE symbol = 'ETH/USD'")
        listed = (await browser.send("GET", WATCHLIST)).json["watchlist"]
        assert [each["symbol"] for each in listed] == ["BTC/USD", "ETH/USD", "AAA"]
        assert listed[1]["added_at"] == "2025-01-20T14:30:00.000Z"


async def test_the_name_of_a_view_is_taken_once(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        answers = await asyncio.gather(
            *(browser.send("POST", VIEWS, {"name": " Mine ", "filters": {}}) for _ in range(10))
        )
        assert sorted(each.status for each in answers) == [201] + [409] * 9
        other = (await browser.send("POST", VIEWS, {"name": "Other", "filters": {}})).expect(201).json
        (await browser.send("PUT", f"{VIEWS}/{other['id']}", {"name": "Mine"})).problem(409, "CONFLICT")
        (await browser.send("POST", VIEWS, {"name": "mine", "filters": {}})).expect(201)
        stranger = await world.logged_in("stranger@example.com")
        (await stranger.send("POST", VIEWS, {"name": "Mine", "filters": {}})).expect(201)


async def test_the_views_of_another_user_are_out_of_reach(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        stranger = await world.logged_in("stranger@example.com")
        view = (await browser.send("POST", VIEWS, {"name": "Mine", "filters": {}})).json
        (await stranger.send("PUT", f"{VIEWS}/{view['id']}", {"name": "Yours"})).problem(404, "NOT_FOUND")
        (await stranger.send("DELETE", f"{VIEWS}/{view['id']}")).problem(404, "NOT_FOUND")
        assert (await stranger.send("GET", VIEWS)).json == {"saved_views": []}
        assert (await browser.send("GET", VIEWS)).json == {"saved_views": [view]}


async def test_fifty_views_fit_exactly(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        answers = await asyncio.gather(
            *(browser.send("POST", VIEWS, {"name": f"view {n}", "filters": {}}) for n in range(60))
        )
        assert sorted(each.status for each in answers) == [201] * 50 + [409] * 10
        assert len((await browser.send("GET", VIEWS)).json["saved_views"]) == 50


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else {}


async def test_every_field_of_a_view_is_checked(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        bad: dict[str, list[Any]] = {
            "name": ["", "  ", "x" * 101, "a\nb", None, 7],
            "description": ["x" * 501, 7],
            "filters": [None, [], "x", {"a": "x" * 8200}, nested(17), {"a": 2**64 - 1}],
            "is_default": ["yes", None],
            "colour": ["red"],
        }
        for name, values in bad.items():
            for value in values:
                body = {"name": "A", "filters": {}} | {name: value}
                assert await refused_fields(browser, "POST", VIEWS, body) == [name], value
        (await browser.send("POST", VIEWS, {"name": "A", "filters": {"a": "x" * 8182}})).expect(201)
        (await browser.send("POST", VIEWS, {"name": "B", "filters": nested(16)})).expect(201)


async def test_filters_come_back_as_they_were_sent(settings: Settings) -> None:
    async with accounts_world(settings) as world:
        browser = await world.logged_in(ADDRESS)
        filters = {"z": 0.1, "a": [1, 2.5, None, True, "é🐎"], "": {"nested": {}}, "big": 2**53, "small": 1e-7}
        view = (await browser.send("POST", VIEWS, {"name": "A", "filters": filters})).expect(201).json
        assert view["filters"] == filters
        await world.forget()
        [stored] = (await browser.send("GET", VIEWS)).json["saved_views"]
        assert stored["filters"] == filters
        assert list(stored["filters"]) == list(filters)
