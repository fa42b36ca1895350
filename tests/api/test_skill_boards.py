"""The boards of skill over HTTP, pages of boards that move, and what is said to whoever is not listed."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from actors.leaderboards.leaderboards import Leaderboards
from actors.leaderboards.messages import LEADERBOARDS
from config.clock import now
from config.settings import Settings
from handlers._skill_boards import NOT_KEPT
from schemas._vocabulary import SKILL_BOARDS
from tests.api.test_leaderboards import Gone, board, boards_world, leads
from tests.support.accounts import World
from tests.support.progress import until
from tests.support.providers_factory import Trade, add_system_provider, id_of, new_provider, post_trades
from tests.support.records_factory import DAY, RecordStats, add_stats, end_day


async def night(world: World, *stats: RecordStats, days: int = 1) -> None:
    """Let days end with these records, among forty without skill; the boards follow."""
    crowd = [RecordStats(mean=0.0005 * (place / 40 - 0.5)) for place in range(40)]
    async with world.pool.acquire() as conn:
        await add_stats(conn, [*stats, *crowd])  # type: ignore[arg-type]
    for number in range(days):
        await end(world, DAY + timedelta(days=number))


async def end(world: World, day: date) -> None:
    """End a day, and compute its boards, though the providers' owner may set its own offset meanwhile."""

    async def is_computed() -> bool:
        await world.actors.behaviours[LEADERBOARDS]._look_after_night()  # type: ignore[attr-defined]
        return bool(await world.value("SELECT max(day) = $1 FROM board_nights", day))

    async with world.pool.acquire() as conn:
        await end_day(conn, day)  # type: ignore[arg-type]
    await until(is_computed)


async def providers(world: World, count: int) -> list[RecordStats]:
    """Skilled providers, the best first."""
    async with world.pool.acquire() as conn:
        ids = [await add_system_provider(conn, f"ace {number}") for number in range(count)]  # type: ignore[arg-type]
    return [RecordStats(each, mean=0.008 - 0.001 * number) for number, each in enumerate(ids)]


async def test_the_board_of_skill_shows_what_its_order_rests_on(settings: Settings) -> None:
    async with boards_world(settings) as world:
        [first, second] = await providers(world, 2)
        await night(world, second, first, days=8)
        found = await board(world.browser(), "skill")
        assert (found["leaderboard"], found["period"], found["reason"], found["as_of"]) == ("skill", "all", None, 0)
        assert [each["provider"]["display_name"] for each in found["entries"]] == ["ace 0", "ace 1"]
        [best, _] = found["entries"]
        assert best["value"] == best["interval"]["low"] < 0.8 < best["interval"]["high"] + 0.1
        assert best["luck"] == 0
        assert (best["change"], best["change_period"]) == (0, "week")
        assert (best["n"], best["days"], best["drawdown"], best["open_result"]) == (200, 200, 0.0456, 0.0123)
        assert best["share_verified"] == 1
        steady = await board(world.browser(), "steady")
        assert [each["value"] for each in steady["entries"]] == [0.8, 0.7]


async def test_both_boards_are_paged_and_have_no_other_period(settings: Settings) -> None:
    async with boards_world(settings) as world:
        await night(world, *await providers(world, 5))
        browser = world.browser()
        for name in ("skill", "steady"):
            whole = (await board(browser, name))["entries"]
            pages = [(await board(browser, name, f"?limit=2&offset={offset}"))["entries"] for offset in (0, 2, 4)]
            assert [each for page in pages for each in page] == whole
            assert [each["rank"] for each in whole] == [1, 2, 3, 4, 5]
            assert (await board(browser, name, "?offset=5"))["reason"] == "The board ends after 5 places"
            problem = (await browser.send("GET", f"/api/leaderboards/{name}?period=week")).problem(
                400, "VALIDATION_ERROR"
            )
            assert [each["field"] for each in problem["details"]] == ["period"]


async def test_an_earlier_night_is_read_by_its_as_of(settings: Settings) -> None:
    async with boards_world(settings) as world:
        await post_trades(world, [Trade(await _source(world)) for _ in range(9)], at=now())
        [ace, rival] = await providers(world, 2)
        ace.as_of_seq = 4
        await night(world, ace, rival)
        browser = world.browser()
        before = await board(browser, "skill")
        assert before["as_of"] == 4
        async with world.pool.acquire() as conn:
            worse = "UPDATE record_stats SET as_of_seq = 7, bets = 0 WHERE provider_id = $1"
            await conn.execute(worse, ace.provider_id)
        await end(world, DAY + timedelta(days=1))
        after = await board(browser, "skill", "?limit=99")
        assert (after["as_of"], len(after["entries"])) == (7, 1)
        for as_of in (4, 6):
            pinned = await board(browser, "skill", f"?as_of={as_of}")
            assert (pinned["entries"], pinned["as_of"]) == (before["entries"], 4)
        (await browser.send("GET", "/api/leaderboards/skill?as_of=3")).problem(400, "VALIDATION_ERROR")
        (await browser.send("GET", "/api/leaderboards/skill?as_of=10")).problem(400, "VALIDATION_ERROR")


async def _source(world: World) -> UUID:
    async with world.pool.acquire() as conn:
        return await add_system_provider(conn)  # type: ignore[arg-type]


async def test_who_is_not_listed_is_told_what_is_missing(settings: Settings) -> None:
    async with boards_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        await king.refresh()
        missing = [
            {"gate": "bets", "have": 0, "need": 30},
            {"gate": "days", "have": 0, "need": 30},
            {"gate": "age_days", "have": 0, "need": 60},
        ]
        found = await board(king, "skill")
        assert found["me"] == {"rank": None, "value": None, "missing": missing}
        assert found["reason"].startswith("No day has ended yet")
        lucky = RecordStats(id_of(king), mean=0.001, positions=100, unverified=30)
        await night(world, lucky)
        assert (await board(king, "skill", "?limit=9"))["me"]["missing"] == [
            {"gate": "unverified_share", "have": 0.3, "need": 0.2}
        ]
        await world.execute("UPDATE record_stats SET unverified = 0")
        await night(world)
        async with world.pool.acquire() as conn:
            await end_day(conn, DAY + timedelta(days=1))  # type: ignore[arg-type]
        await world.actors.behaviours[LEADERBOARDS]._look_after_night()  # type: ignore[attr-defined]
        found = await board(king, "steady", "?limit=8")
        [luck] = found["me"]["missing"]
        assert (luck["gate"], luck["need"]) == ("luck", 0.1)
        assert luck["have"] > 0.1
        assert found["entries"] == []
        assert found["reason"].startswith("None of the 81 providers that were ever eligible passes")


async def test_a_provider_whose_account_is_gone_keeps_its_place_under_a_pseudonym(settings: Settings) -> None:
    async with boards_world(settings) as world:
        gone = RecordStats()
        await night(world, gone)
        [entry] = (await board(world.browser(), "skill"))["entries"]
        assert entry["provider"] == {
            "user_id": str(gone.provider_id),
            "display_name": f"Former provider {gone.provider_id.hex[-6:]}",
            "avatar_url": None,
            "is_verified": False,
        }


async def test_a_page_shows_the_board_as_it_was_while_it_moves(settings: Settings) -> None:
    async with boards_world(settings) as world:
        kings = [await new_provider(world, f"{name}@example.com", name.title()) for name in ("ann", "bob", "cleo")]
        for place, king in enumerate(kings):
            price = Decimal(130 - 10 * place)
            trades = [Trade(id_of(king)), Trade(id_of(king), opens=False, price=price)]
            await post_trades(world, trades, at=now())
            await leads(world.browser(), "return", 0.3)
        browser = world.browser()

        async def names(query: str) -> list[str]:
            return [each["provider"]["display_name"] for each in (await board(browser, "return", query))["entries"]]

        first = await board(browser, "return", "?limit=1")
        assert first["as_of"] == 6
        trades = [Trade(id_of(kings[2])), Trade(id_of(kings[2]), opens=False, price=Decimal(300))]
        await post_trades(world, trades, at=now())
        await leads(browser, "return", 1.05)
        assert await names("?limit=3") == ["Cleo", "Ann", "Bob"]
        assert await names("?limit=3&as_of=6") == ["Ann", "Bob", "Cleo"]
        assert await names("?limit=2&offset=1&as_of=6") == ["Bob", "Cleo"]
        await kings[2].refresh()
        mine = (await board(kings[2], "return", "?limit=1&as_of=6"))["me"]
        assert mine == {"rank": 3, "value": 0.1, "missing": []}
        problem = (await browser.send("GET", "/api/leaderboards/return?as_of=9")).problem(400, "VALIDATION_ERROR")
        assert problem["details"] == [{"field": "as_of", "message": "must not be after the newest signal, 8"}]


async def test_pages_of_before_a_restart_are_not_kept(settings: Settings) -> None:
    async with boards_world(settings) as world:
        king = await new_provider(world, "king@example.com", "King")
        trades = [Trade(id_of(king)), Trade(id_of(king), opens=False, price=Decimal(110))]
        await post_trades(world, trades, at=now())
        await leads(king, "return", 0.1)
        await world.actors.kill(LEADERBOARDS)
        await world.actors.start(LEADERBOARDS, Leaderboards(), world.settings)
        problem = (await king.send("GET", "/api/leaderboards/return?as_of=1")).problem(400, "VALIDATION_ERROR")
        assert problem["details"][0]["message"] == NOT_KEPT
        assert len((await board(king, "return", "?as_of=2"))["entries"]) == 1
        world.actors.refs[LEADERBOARDS] = Gone()  # type: ignore[assignment]
        (await king.send("GET", "/api/leaderboards/return?as_of=2&limit=7")).problem(503, "SERVICE_UNAVAILABLE")


@pytest.mark.parametrize(
    ("name", "query", "reason"),
    [
        ("followers", "", "No provider is registered"),
        ("win_rate", "?period=month", "No provider has closed 10 signals in the last 30 days"),
        ("return", "", "No provider has closed a signal"),
        ("streak", "?period=week", "No provider has a run of profits in the last 7 days"),
        ("rising", "?offset=5", "The board ends before place 6"),
        ("skill", "", "No day has ended yet for all records: the next one ends at 00:00 UTC"),
    ],
)
async def test_an_empty_board_says_why(settings: Settings, name: str, query: str, reason: str) -> None:
    async with boards_world(settings) as world:
        assert (await board(world.browser(), name, query))["reason"] == reason


async def test_the_account_of_twelve_seconds_is_on_no_board_of_ours(settings: Settings) -> None:
    """Opened at 0.0001 and closed at 1 000 000, it was verified and first on three boards in twelve seconds."""
    async with boards_world(settings) as world:
        cheat = await new_provider(world, "cheat@example.com", "Cheat")
        trades = [
            Trade(id_of(cheat), price=Decimal("0.0001")),
            Trade(id_of(cheat), opens=False, price=Decimal(1_000_000)),
        ]
        await post_trades(world, trades, at=now())
        await leads(cheat, "return", 10**10 - 1)
        await cheat.refresh()
        await night(world, *await providers(world, 1))
        for name in SKILL_BOARDS:
            found = await board(cheat, name)
            assert [each["provider"]["display_name"] for each in found["entries"]] == ["ace 0"]
            assert (found["me"]["rank"], found["me"]["value"]) == (None, None)
            missing = {each["gate"]: (each["have"], each["need"]) for each in found["me"]["missing"]}
            assert {"bets": (0, 30), "days": (0, 30), "age_days": (0, 60)}.items() <= missing.items()
        page = (await cheat.send("GET", f"/api/providers/{id_of(cheat)}")).json
        shown = {each["gate"]: (each["have"], each["need"]) for each in page["record"]["missing"]}
        unquoted = {"unverified_share": (1.0, 0.2)}  # the market of this test is shut
        assert shown == {"bets": (0, 30), "days": (0, 30), "age_days": (0, 60)} | unquoted, "its page says why"
