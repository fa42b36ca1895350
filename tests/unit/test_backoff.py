"""Waits between attempts: they double up to their ceiling, start again after a success, and no two are alike."""

from __future__ import annotations

from config.backoff import Backoff, backoff_seconds, jittered


def test_waits_double_up_to_the_ceiling_and_start_again_after_a_success() -> None:
    backoff = Backoff(1.0, 4.0)
    for expected in (1.0, 2.0, 4.0, 4.0):
        assert expected * 0.75 <= backoff.next() <= expected * 1.25
    backoff.reset()
    assert backoff.next() <= 1.25


def test_waits_of_processes_that_fail_together_differ() -> None:
    assert len({Backoff(1.0, 4.0).next() for _ in range(20)}) > 1
    assert len({jittered(1.0, 0.1) for _ in range(20)}) > 1
    assert all(0.9 <= jittered(1.0, 0.1) <= 1.1 for _ in range(100))


def test_a_wait_after_any_number_of_failures_is_at_the_ceiling_and_no_overflow() -> None:
    assert 22.5 <= backoff_seconds(1_000_000, 0.1, 30.0) <= 37.5
