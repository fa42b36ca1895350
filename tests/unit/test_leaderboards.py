"""The rankings against sorting everything anew, and a provider's value on each board."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from actors.leaderboards.messages import BoardPosition
from actors.leaderboards.rankings import Rankings
from actors.leaderboards.refreshing import Refreshing
from actors.leaderboards.totals import BOARDS, BoardTotals, value_and_change, values
from db.leaderboards import BoardRecord, TotalsRow

AT = datetime(2026, 1, 1, tzinfo=UTC)
IDS = [UUID(int=number) for number in (5, 1, 9, 3)]
UNIT = 10**12


def a_row(provider_id: UUID = IDS[0], **changes: int) -> TotalsRow:
    names = [name for name in TotalsRow.__slots__ if name != "provider_id"]
    return TotalsRow(provider_id, *[changes.get(name, 0) for name in names])


def record(totals: BoardTotals, **changes: int) -> BoardRecord:
    return totals.record._replace(**changes)


def shown(row: TotalsRow) -> dict[tuple[str, str], tuple[float | None, float | None]]:
    return {key: value_and_change(BoardTotals(row), *key) for key in BOARDS}


def test_all_time_values_change_since_a_week_ago() -> None:
    boards = shown(
        a_row(
            followers=40, week_follows=8, closed=12, wins=9, week_closed=2, week_wins=2, return_sum=UNIT,
            week_returns=UNIT // 2, current_streak=4, week_old_streak=2,
        )
    )  # fmt: skip
    assert boards["followers", "all"] == (40, 8)
    assert boards["win_rate", "all"] == (0.75, 0.05)
    assert boards["return", "all"] == (0.0833, 0.0333)
    assert boards["streak", "all"] == (4, 2)


def test_a_windows_values_are_compared_with_the_window_before() -> None:
    boards = shown(
        a_row(
            followers=60, week_follows=15, two_weeks_follows=20, month_follows=30, two_months_follows=60,
            closed=40, wins=20, week_closed=10, week_wins=7, two_weeks_closed=14, two_weeks_wins=8,
            return_sum=3 * UNIT, week_returns=UNIT, two_weeks_returns=2 * UNIT, week_best=5, week_before_best=1,
        )
    )  # fmt: skip
    assert boards["followers", "week"] == (15, 10)
    assert boards["followers", "month"] == (30, 0)
    assert boards["win_rate", "week"] == (0.7, 0.45)
    assert boards["win_rate", "month"] == (None, None)  # nothing was closed in it
    assert boards["return", "week"] == (0.1, -0.15)
    assert boards["streak", "week"] == (5, 4)
    assert boards["rising", "week"] == (0.3333, 0.2083)  # 15 of 45, after 5 of 40
    assert boards["rising", "month"] == (1.0, -2.0)  # 30 of 30, after 30 of nobody, who count as 10


def test_a_win_rate_counts_from_ten_closed_signals_on() -> None:
    assert shown(a_row(closed=9, wins=9))["win_rate", "all"][0] is None
    assert shown(a_row(closed=10, wins=9))["win_rate", "all"][0] == 0.9


def test_counts_begin_with_none_but_an_average_of_nothing_is_no_value() -> None:
    closed = dict.fromkeys(("closed", "week_closed", "two_weeks_closed", "month_closed", "two_months_closed"), 10)
    wins = dict.fromkeys(("wins", "week_wins", "two_weeks_wins", "month_wins", "two_months_wins"), 10)
    returns = dict.fromkeys(
        ("return_sum", "week_returns", "two_weeks_returns", "month_returns", "two_months_returns"), UNIT
    )
    follows = dict.fromkeys(
        ("followers", "week_follows", "two_weeks_follows", "month_follows", "two_months_follows"), 5
    )
    runs = dict.fromkeys(("current_streak", "week_best", "month_best"), 10)
    boards = shown(a_row(**closed, **wins, **returns, **follows, **runs))  # of one who began this week
    for (board, _), (value, change) in boards.items():
        assert value is not None
        assert change == (None if board in ("win_rate", "return") else value)


def test_a_beginner_does_not_rise_fastest() -> None:
    assert shown(a_row(followers=5, week_follows=5))["rising", "week"][0] == 0.5


def test_ties_go_to_more_signals_and_then_to_the_lower_id() -> None:
    rankings = Rankings(AT)
    rankings.fill([BoardTotals(a_row(each, followers=7, total_signals=each.int % 2)) for each in IDS[:3]])
    rankings.put(BoardTotals(a_row(IDS[3], followers=7, total_signals=2)), AT)
    order = [entry.provider_id for entry in rankings.top("followers", "all", 10)]
    assert order == [IDS[3], IDS[1], IDS[0], IDS[2]]


def test_runs_that_no_record_tells_are_asked_for() -> None:
    totals = BoardTotals(a_row())
    assert totals.take(record(totals, closed=2, wins=2, current_streak=2))
    assert totals.take(record(totals, closed=3, current_streak=0))
    assert totals.take(record(totals, closed=5, wins=3, current_streak=1))  # lost, then won
    assert totals.week_best == 2
    assert not totals.take(record(totals, closed=9, wins=6, current_streak=1))  # won some, lost, won


def test_an_unknown_provider_has_no_place_and_a_known_one_may_have_none() -> None:
    rankings = Rankings(AT)
    assert rankings.position("streak", "all", IDS[0]) is None
    rankings.put(BoardTotals(a_row(followers=3)), AT)
    assert rankings.position("streak", "all", IDS[0]) == BoardPosition(None, None, (("streak", 0, 1),))  # type: ignore[arg-type]
    assert rankings.position("followers", "all", IDS[0]) == BoardPosition(1, 3)


CHANGES = st.tuples(
    st.sampled_from(IDS), st.integers(0, 3), st.integers(-2, 3), st.integers(0, 12), st.integers(-UNIT, UNIT)
)


@given(st.lists(CHANGES, max_size=40))
def test_rankings_that_are_kept_equal_those_that_are_sorted(changes: list[tuple[UUID, int, int, int, int]]) -> None:
    kept, all_totals = Rankings(AT), {each: BoardTotals.beginning(each) for each in IDS}
    for provider_id, signals, followers, closed, returned in changes:
        totals = all_totals[provider_id]
        before = totals.record
        newer = record(
            totals,
            total_signals=before.total_signals + signals,
            followers=max(0, before.followers + followers),
            closed=before.closed + closed,
            wins=before.wins + closed,
            return_sum=before.return_sum + returned,
            current_streak=before.current_streak + closed,
        )
        assert kept.take(newer, AT)
        assert kept.is_known(newer)
        totals.take(newer)
    seen = {provider_id for provider_id, *_ in changes}
    for number, (board, period) in enumerate(BOARDS):
        ranked = [(values(each)[number], each.record) for each in all_totals.values()]
        on_it = [
            (-value, -each.total_signals, each.provider_id)
            for value, each in ranked
            if value is not None and each.provider_id in seen
        ]
        top = kept.top(board, period, 10)
        assert [entry.provider_id for entry in top] == [provider_id for *_, provider_id in sorted(on_it)]
        for entry in top:
            assert kept.position(board, period, entry.provider_id) == BoardPosition(entry.rank, entry.value)


def test_the_copy_is_made_anew_once_after_a_start_then_hourly_and_when_it_is_far_from_the_truth() -> None:
    plan = Refreshing()
    assert plan.may_look(0.0)
    assert not plan.is_due(59.0, 1.0)  # the process before this one has just done it
    assert not plan.may_look(59.0)
    assert plan.may_look(60.0)
    assert plan.is_due(119.0, 0.0)
    plan.succeeded(61.0, took_seconds=1.0)
    assert not plan.may_look(120.0)
    assert plan.may_look(121.0)
    assert not plan.is_due(3599.0, 0.05)
    assert plan.is_due(61.0, 0.06)
    assert plan.is_due(3600.0, 0.0)


def test_an_empty_copy_is_made_anew_for_the_first_provider() -> None:
    plan = Refreshing()
    assert not plan.is_due(None, 0.0)
    assert plan.is_due(None, 1.0)


def test_a_refresh_that_takes_long_rests_for_longer() -> None:
    plan = Refreshing()
    plan.succeeded(0.0, took_seconds=10.0)
    assert not plan.may_look(199.0)
    assert plan.may_look(200.0)


def test_a_refresh_that_fails_is_wanted_again_after_a_pause_that_grows() -> None:
    plan, pauses = Refreshing(), []
    plan.succeeded(0.0, took_seconds=0.0)
    for _ in range(7):
        plan.failed(0.0)
        pauses.append(next(at for at in range(2000) if plan.may_look(at)))
    expected = (60, 120, 240, 480, 960, 960, 960)
    assert all(max(60, 0.75 * at) <= each <= 1.25 * at + 1 for each, at in zip(pauses, expected, strict=True))
    assert plan.is_due(60.0, 0.0)
    plan.succeeded(0.0, took_seconds=0.0)
    assert not plan.is_due(60.0, 0.0)
