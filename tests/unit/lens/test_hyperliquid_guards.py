"""What guards a provider and its signals: the circuit breaker, the budget, and the cells of shared answers."""

from __future__ import annotations

import asyncio
import time

import pytest

from actors.lens.market._breaker import FAILURES_TO_OPEN, Breaker
from actors.lens.market._budget import Budget
from actors.lens.market._cache import Cell, Cells
from actors.lens.market._http import CallFailed
from actors.lens.market._provider import Limits, Provider

DOWN = CallFailed("PROVIDER_ERROR", "Hyperliquid API returned 503 Service Unavailable")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(now=clock)
    for n in range(FAILURES_TO_OPEN):
        breaker.failed(f"COIN{n}", DOWN)
    assert breaker.state == "open"
    return breaker


def test_the_circuit_opens_after_failures_in_a_row_and_says_why() -> None:
    breaker = Breaker(now=Clock())
    outcomes = [breaker.failed(coin, DOWN) for coin in ("BTC", "ETH", "BTC", "ETH", "BTC")]
    assert outcomes == [False, False, False, False, True]
    assert breaker.refusal is not None
    assert breaker.refusal.reason == "PROVIDER_ERROR"
    assert breaker.refusal.message == "Hyperliquid API returned 503 Service Unavailable (calls are paused)"


def test_a_success_between_failures_keeps_the_circuit_closed() -> None:
    clock = Clock()
    breaker = Breaker(now=clock)
    for _ in range(20):
        clock.seconds += 5
        breaker.failed("BTC", DOWN)
        breaker.failed("ETH", DOWN)
        breaker.succeeded()
    assert breaker.refusal is None


def test_one_coin_alone_never_opens_the_circuit() -> None:
    breaker = Breaker(now=Clock())
    assert not any(breaker.failed("BTC", DOWN) for _ in range(100))


def test_a_success_of_a_moment_ago_proves_the_venue_alive() -> None:
    clock = Clock()
    breaker = Breaker(now=clock)
    breaker.succeeded()
    assert not any(breaker.failed(f"COIN{n}", DOWN) for n in range(20))
    clock.seconds += 1
    assert breaker.failed("BTC", DOWN)


def test_a_429_opens_the_circuit_at_once_for_as_long_as_the_provider_asks() -> None:
    breaker = Breaker(now=Clock())
    breaker.succeeded()
    assert breaker.failed("BTC", CallFailed("RATE_LIMITED", "Hyperliquid API returned 429 Too Many Requests", 17.0))
    assert 17.0 <= breaker.pause_seconds <= 17.0 * 1.25


def test_only_the_probe_closes_the_circuit() -> None:
    breaker = opened(Clock())
    states = [breaker.state]
    for step in (breaker.succeeded, breaker.probing, lambda: breaker.probed(None)):
        assert breaker.refusal is not None
        step()
        states.append(breaker.state)
    assert states == ["open", "open", "half_open", "closed"]
    assert breaker.refusal is None


def test_each_failed_probe_doubles_the_pause_up_to_a_minute() -> None:
    breaker = opened(Clock())
    pauses = []
    for _ in range(8):
        pauses.append(breaker.pause_seconds)
        breaker.probing()
        breaker.probed(DOWN)
    for pause, expected in zip(pauses, (2, 4, 8, 16, 32, 60, 60, 60), strict=True):
        assert expected <= pause <= expected * 1.25
    breaker.probing()
    breaker.probed(None)
    for n in range(FAILURES_TO_OPEN):
        breaker.failed(f"COIN{n}", DOWN)
    assert breaker.state == "closed"  # the probe has just succeeded


def test_the_budget_holds_in_any_minute() -> None:
    clock = Clock()
    budget = Budget(100, now=clock)
    spent: list[tuple[float, int]] = []
    for step in range(2000):
        clock.seconds += 0.1
        weight = 1 + step % 25
        if budget.take(weight):
            spent.append((clock.seconds, weight))
        assert sum(w for at, w in spent if at > clock.seconds - 60) <= 100
    assert sum(w for _, w in spent) > 250  # it is also used


def test_what_can_be_done_without_leaves_room_for_what_cannot() -> None:
    budget = Budget(100, now=Clock())
    assert budget.take(70, 0.75)
    assert not budget.take(10, 0.75)
    assert budget.take(20, 0.95)
    assert not budget.take(10, 0.95)
    assert budget.take(10)
    assert not budget.take(1)


def test_an_answer_ages_from_fresh_to_older_to_none() -> None:
    cell = Cell()
    assert cell.outcome(0.0) == (None, None)
    cell.store("mids", 0.0, refresh=1.0, fresh=1.5, keep=60.0)
    cell.fail(DOWN, 1.2)
    assert cell.outcome(1.4) == ("mids", None)
    assert cell.outcome(1.5) == ("mids", DOWN)
    assert cell.outcome(59.9) == ("mids", DOWN)
    assert cell.outcome(60.0) == (None, DOWN)
    cell.store("newer", 70.0, refresh=1.0, fresh=1.5, keep=60.0)
    assert cell.outcome(80.0) == ("newer", None)


def test_a_question_that_keeps_failing_is_asked_ever_more_rarely() -> None:
    cell = Cell()
    for expected in (0.5, 1, 2, 4, 8, 16, 30, 30):
        cell.fail(DOWN, 100.0)
        assert 0.75 * expected <= cell.retry_at - 100.0 <= 1.25 * expected
    for _ in range(2000):
        cell.fail(DOWN, 100.0)
    cell.store("mids", 0.0, refresh=1.0, fresh=1.5, keep=60.0)
    cell.fail(DOWN, 100.0)
    assert cell.retry_at == pytest.approx(100.5, abs=0.13)


def test_the_cells_that_were_not_used_for_longest_are_dropped() -> None:
    cells: Cells[str] = Cells(3)
    kept = cells.of("a")
    for key in ("b", "c", "a", "d"):
        cells.of(key)
    assert len(cells) == 3
    assert cells.of("a") is kept
    dropped = cells.of("b")
    assert cells.of("b") is dropped


async def test_a_fault_of_ours_is_a_failure_that_is_held_back_like_any_other() -> None:
    async def ask() -> None:
        raise RuntimeError("a bug")

    provider = Provider("Hyperliquid API", Limits(), ask)
    cell = Cell()
    assert provider.begin(cell, "mid", "", 2, ask)
    assert cell.call is not None
    await asyncio.wait({cell.call})
    _, failure = cell.outcome(time.monotonic())
    assert failure is not None
    assert failure.message == "Hyperliquid API: the call failed (RuntimeError)"
    assert cell.retry_at > time.monotonic()
    await provider.close()


async def test_the_circuit_that_opened_stops_the_calls_that_still_wait_for_their_turn() -> None:
    asked = 0

    async def fail() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise DOWN

    provider = Provider("Hyperliquid API", Limits(max_calls=1), fail)
    cells = [Cell() for _ in range(50)]
    for n, cell in enumerate(cells):
        assert provider.begin(cell, "order_book", f"COIN{n}", 2, fail)
    await asyncio.wait({cell.call for cell in cells if cell.call is not None})
    assert asked == FAILURES_TO_OPEN
    assert all(cell.failure is not None for cell in cells)
    refused = Cell()
    assert not provider.begin(refused, "order_book", "BTC", 2, fail)
    assert refused.failure is not None
    await provider.close()
