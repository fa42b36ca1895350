"""The rules of progress: every achievement at its threshold and once, referrals at their tier."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._runtime.messages import Message
from actors.users.achievements import ACHIEVEMENTS, BY_ID, due, nearest, points
from actors.users.messages import Activity, EditSettings, FirstFollow, ProviderFacts, Qualify
from actors.users.progress import ProgressState, decide
from actors.users.referrals import REFERRALS, TIERS, expected, may_choose_code, tier_after, tier_of
from config.ids import uuid7
from db.achievements import UnlockedRow
from db.referrals import ActedRow, QualifiedRow
from db.streaks import EndedStreakRow
from schemas.errors import Internal

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOBODY = ProgressState(uuid7(), None, {}, frozenset(), frozenset())


def told(progress: ProgressState, *messages: Message[Any]) -> tuple[ProgressState, list[Any]]:
    """Return the progress after these messages, and their events."""
    events: list[Any] = []
    for message in messages:
        effect = decide(progress, message)
        progress = effect.state
        events += effect.events
    return progress, events


def unlocked(changes: list[Any]) -> list[str]:
    return [each.achievement_id for each in changes if isinstance(each, UnlockedRow)]


def facts(**changes: Any) -> ProviderFacts:
    values = {"signals": 0, "wins": 0, "most_followers": 0, "level": "none", "is_provider": True, "at": AT}
    return ProviderFacts(**values | changes)


@pytest.mark.parametrize(
    ("name", "short", "enough"),
    [
        ("first_signal", {"signals": 0, "is_provider": False}, {"signals": 1, "is_provider": False}),
        ("first_win", {"wins": 0}, {"wins": 1}),
        ("win_10", {"wins": 9}, {"wins": 10}),
        ("win_100", {"wins": 99}, {"wins": 100}),
        ("win_1000", {"wins": 999}, {"wins": 1000}),
        ("follower_10", {"most_followers": 9}, {"most_followers": 10}),
        ("follower_100", {"most_followers": 99}, {"most_followers": 100}),
        ("follower_1000", {"most_followers": 999}, {"most_followers": 1000}),
        ("follower_10000", {"most_followers": 9999}, {"most_followers": 10_000}),
        ("provider_first", {"signals": 1, "is_provider": False}, {"signals": 1}),
        ("provider_first", {"signals": 0}, {"signals": 1}),
        ("provider_verified", {"level": "none"}, {"level": "basic"}),
        ("provider_verified", {"level": "none"}, {"level": "elite"}),
    ],
)
def test_a_provider_reaches_it_exactly_at_its_threshold(
    name: str, short: dict[str, Any], enough: dict[str, Any]
) -> None:
    progress, changes = told(NOBODY, facts(**short))
    assert name not in unlocked(changes)
    progress, changes = told(progress, facts(**enough))
    assert name in unlocked(changes)
    assert name in progress.unlocked
    assert told(progress, facts(**enough), facts(**short)) == (progress, [])


@pytest.mark.parametrize("days", [7, 30, 100, 365])
def test_achievements_are_unlocked_by_days_in_a_row(days: int) -> None:
    logins = [Activity("login", AT + timedelta(days=n), "Europe/Vienna") for n in range(days)]
    progress, changes = told(NOBODY, *logins[:-1])
    assert f"streak_{days}" not in unlocked(changes)
    progress, changes = told(progress, logins[-1])
    assert unlocked(changes) == [f"streak_{days}"]
    progress, changes = told(progress, Activity("login", AT + timedelta(days=days + 3), "UTC"))
    assert [each.count for each in changes if isinstance(each, EndedStreakRow)] == [days]
    assert progress.streaks["login"].longest == days
    assert f"streak_{days}" in progress.unlocked


def test_days_with_comments_are_a_streak_of_their_own_and_no_login() -> None:
    progress, changes = told(NOBODY, *(Activity("analysis_post", AT + timedelta(days=n), "UTC") for n in range(8)))
    assert unlocked(changes) == []
    assert list(progress.streaks) == ["analysis_post"]
    assert progress.streaks["analysis_post"].current == 8


def test_facts_told_again_save_nothing() -> None:
    messages = (Activity("login", AT, "UTC"), facts(signals=1), FirstFollow(AT), Qualify(uuid7(), AT))
    progress, _ = told(replace(NOBODY, owes_to=uuid7()), *messages)
    assert told(progress, *messages) == (progress, [])


@pytest.mark.parametrize("act", [FirstFollow(AT), facts(signals=1), facts(signals=1, is_provider=False)])
def test_the_first_act_of_a_referee_is_noted_once(act: Message[None]) -> None:
    referrer = uuid7()
    progress, changes = told(replace(NOBODY, owes_to=referrer), facts(wins=0), act, FirstFollow(AT), facts(signals=2))
    assert [each for each in changes if isinstance(each, ActedRow)] == [ActedRow(NOBODY.user_id, referrer, AT)]
    assert progress.owes_to is None


def test_a_referral_is_worth_what_the_tier_it_leads_to_pays() -> None:
    _, changes = told(NOBODY, *(Qualify(uuid7(), AT) for _ in range(12)))
    rows = [each for each in changes if isinstance(each, QualifiedRow)]
    assert [int(each.reward_amount) for each in rows] == [25] * 4 + [50] * 5 + [75] * 3
    assert [int(each.referee_reward) for each in rows] == [25] * 9 + [50] * 3
    assert [each.tier for each in rows] == ["bronze"] * 4 + ["silver"] * 5 + ["gold"] * 3
    assert unlocked(changes) == ["referral_1", "referral_5", "referral_10"]


def test_a_referral_counts_once_and_at_most_so_many_do() -> None:
    referees = [uuid7() for _ in range(REFERRALS + 10)]
    progress, changes = told(NOBODY, *(Qualify(each, AT) for each in referees for _ in range(2)))
    rows = [each for each in changes if isinstance(each, QualifiedRow)]
    assert [each.referee_id for each in rows] == referees[:REFERRALS]
    assert len(progress.qualified) == REFERRALS == 500


def test_messages_that_are_not_about_progress_are_refused() -> None:
    with pytest.raises(Internal):
        decide(NOBODY, EditSettings({}))


def test_the_tiers_are_the_contracts() -> None:
    assert [tier_of(n).id for n in (0, 4, 5, 9, 10, 500)] == ["bronze", "bronze", "silver", "silver", "gold", "gold"]
    assert [(int(each.referrer_reward), int(each.referee_reward)) for each in TIERS] == [(25, 25), (50, 25), (75, 50)]
    following = [tier_after(n) for n in (0, 4, 5, 9, 10)]
    assert [None if each is None else each.id for each in following] == ["silver", "silver", "gold", "gold", None]
    assert [may_choose_code(n) for n in (0, 4, 5, 10)] == [False, False, True, True]


def test_pending_referrals_are_worth_what_they_would_bring() -> None:
    assert expected(5, 2) == Decimal("100.00")
    assert expected(3, 3) == Decimal("125.00")  # the fourth, the fifth and the sixth
    assert expected(0, 0) == 0
    assert expected(498, 10) == Decimal("150.00")
    assert expected(500, 10) == 0


def test_the_table_is_the_contracts() -> None:
    assert len(ACHIEVEMENTS) == len(BY_ID) == 18
    assert sum(each.points for each in ACHIEVEMENTS) == 11_985
    assert {each.rarity for each in ACHIEVEMENTS} == {"common", "uncommon", "rare", "legendary"}
    assert {each.category for each in ACHIEVEMENTS} == {"trading", "engagement", "social", "provider"}
    assert BY_ID["first_win"].description == "Your first profitable signal"  # the document's example


def test_the_nearest_of_each_requirement_comes_by_how_near_it_is() -> None:
    found = nearest({"wins": 7, "signals": 3, "login_days": 6, "followers": 2}, {"first_signal", "first_win"})
    assert [(each.id, progress) for each, progress in found] == [
        ("streak_7", 6),
        ("win_10", 7),
        ("follower_10", 2),
        ("provider_first", 0),
        ("provider_verified", 0),
        ("referral_1", 0),
    ]
    assert nearest({}, BY_ID) == []
    assert points(["first_win", "streak_7", "gone"]) == 75


@given(st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 1200), st.integers(0, 12_000)), max_size=20))
def test_the_most_of_each_fact_decides_in_any_order(told_facts: list[tuple[int, int, int]]) -> None:
    messages = [facts(signals=s, wins=w, most_followers=f) for s, w, f in told_facts]
    progress, changes = told(NOBODY, *messages)
    most = {
        "signals": max((each.signals for each in messages), default=0),
        "wins": max((each.wins for each in messages), default=0),
        "followers": max((each.most_followers for each in messages), default=0),
    }
    most["first_as_provider"] = min(most["signals"], 1)
    assert progress.unlocked == set(due(most))  # type: ignore[arg-type]
    assert sorted(unlocked(changes)) == sorted(progress.unlocked)


@given(st.lists(st.uuids(version=4), max_size=30))
def test_rewards_depend_on_how_many_not_on_who(referees: list[UUID]) -> None:
    progress, changes = told(NOBODY, *(Qualify(each, AT) for each in referees))
    count = len(set(referees))
    assert len(progress.qualified) == count
    earned = sum(each.reward_amount for each in changes if isinstance(each, QualifiedRow))
    assert earned == expected(0, count)
