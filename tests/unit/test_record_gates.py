"""Test the gates of the boards: what is missing, and how much of it."""

from __future__ import annotations

from datetime import date, timedelta

from actors.records.gates import GATES, Track, missing_gates

TODAY = date(2026, 11, 30)


def track(bets: int = 30, days: int = 30, age: int = 60, positions: int = 100, unverified: int = 20) -> Track:
    return Track(bets, days, TODAY - timedelta(age), positions, unverified)


def test_a_provider_that_just_passes_every_gate_is_eligible() -> None:
    assert missing_gates(track(), TODAY) == []


def test_each_gate_is_named_with_what_is_there_and_what_is_needed() -> None:
    assert missing_gates(track(bets=29, days=12, age=59, unverified=21), TODAY) == [
        ("bets", 29, 30),
        ("days", 12, 30),
        ("age_days", 59, 60),
        ("unverified_share", 0.21, 0.2),
    ]


def test_a_provider_without_a_record_misses_all_but_verified_prices() -> None:
    expected = [(gate, 0, need) for gate, need in GATES.items() if gate != "unverified_share"]
    assert missing_gates(None, TODAY) == expected
    assert missing_gates(Track(0, 0, None, 0, 0), TODAY) == expected


def test_one_position_too_many_without_a_quote_is_too_many() -> None:
    assert missing_gates(track(positions=5, unverified=1), TODAY) == []
    [missing] = missing_gates(track(positions=10**6, unverified=2 * 10**5 + 1), TODAY)
    assert missing.gate == "unverified_share"
