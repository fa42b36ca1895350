"""The guards of a market data venue: the circuit breaker, the budget, and the cells of shared answers."""

from __future__ import annotations

import asyncio
import time

import pytest

from actors.lens.market._breaker import FAILURES_TO_OPEN, VENUE, Breaker
from actors.lens.market._budget import Budget
from actors.lens.market._cache import Cell, Cells
from actors.lens.market._guard import CallGuard, CallLimits
from actors.lens.market._http import CallFailed
from actors.lens.model import FailureReason

DOWN = CallFailed("PROVIDER_ERROR", "Hyperliquid API returned 503 Service Unavailable", is_outage=True)
NONSENSE = CallFailed("PROVIDER_ERROR", "Hyperliquid API answered nonsense: candles that are no list")
LIMITED = CallFailed("RATE_LIMITED", "Hyperliquid API returned 429 Too Many Requests")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(witness=VENUE, now=clock)
    for coin in (VENUE, *("BTC",) * (FAILURES_TO_OPEN - 1)):
        breaker.failed(coin, DOWN)
    assert breaker.state == "open"
    return breaker


def test_the_circuit_opens_after_failures_in_a_row_and_says_why() -> None:
    breaker = Breaker(witness=VENUE, now=Clock())
    results = [breaker.failed(coin, DOWN) for coin in ("BTC", "BTC", VENUE, "BTC", "BTC")]
    assert results == [False, False, False, False, True]
    assert breaker.refusal is not None
    assert breaker.refusal.reason == "PROVIDER_ERROR"
    assert breaker.refusal.message == "Hyperliquid API returned 503 Service Unavailable (calls are paused)"


def test_a_success_between_failures_keeps_the_circuit_closed() -> None:
    clock = Clock()
    breaker = Breaker(witness=VENUE, now=clock)
    for _ in range(20):
        clock.seconds += 5
        breaker.failed(VENUE, DOWN)
        breaker.failed("BTC", DOWN)
        breaker.succeeded()
    assert breaker.refusal is None


@pytest.mark.parametrize("reason", ["PROVIDER_ERROR", "NETWORK_ERROR", "TIMEOUT"])
def test_no_number_of_bad_coins_opens_the_circuit_while_the_venue_answers(reason: FailureReason) -> None:
    breaker = Breaker(witness=VENUE, now=Clock())
    assert not any(breaker.failed(f"COIN{n % 50}", CallFailed(reason, "", is_outage=True)) for n in range(200))
    assert breaker.failed(VENUE, DOWN), "which it does no more"


def test_two_subjects_are_enough_without_a_witness() -> None:
    breaker = Breaker(now=Clock())
    assert not any(breaker.failed("a", DOWN) for _ in range(FAILURES_TO_OPEN))
    assert breaker.failed("b", DOWN)
    assert Breaker(now=Clock()).failed("a", LIMITED)


def test_the_question_of_the_whole_venue_alone_does_not_open_the_circuit() -> None:
    breaker = Breaker(witness=VENUE, now=Clock())
    assert not any(breaker.failed(VENUE, DOWN) for _ in range(100))


def test_an_answer_about_the_question_is_no_outage_of_the_venue() -> None:
    breaker = Breaker(witness=VENUE, now=Clock())
    assert not any(breaker.failed(coin, NONSENSE) for coin in (VENUE, "BTC", "ETH") * 10)


def test_a_429_without_a_wish_is_of_the_coin_until_another_one_is_limited_too() -> None:
    breaker = Breaker(witness=VENUE, now=Clock())
    assert not any(breaker.failed("BTC", LIMITED) for _ in range(10))
    breaker.succeeded()
    assert not breaker.failed("ETH", LIMITED)
    assert breaker.failed("SOL", LIMITED)
    assert Breaker(witness=VENUE, now=Clock()).failed(VENUE, LIMITED)


def test_a_probe_that_is_answered_with_nonsense_found_the_venue_up() -> None:
    breaker = opened(Clock())
    for failure, state in ((DOWN, "open"), (LIMITED, "open"), (NONSENSE, "closed")):
        breaker.probing()
        breaker.probed(failure)
        assert breaker.state == state


def test_a_success_of_a_moment_ago_proves_the_venue_alive() -> None:
    clock = Clock()
    breaker = Breaker(witness=VENUE, now=clock)
    breaker.succeeded()
    assert not any(breaker.failed(coin, DOWN) for coin in (VENUE, "BTC") * 10)
    clock.seconds += 1
    assert breaker.failed("BTC", DOWN)


def test_a_429_opens_the_circuit_at_once_for_as_long_as_the_provider_asks() -> None:
    breaker = Breaker(witness=VENUE, now=Clock())
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
    for coin in (VENUE, "BTC") * FAILURES_TO_OPEN:
        breaker.failed(coin, DOWN)
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


def test_optional_requests_leave_room_for_necessary_ones() -> None:
    budget = Budget(100, now=Clock())
    assert budget.take(70, 0.75)
    assert not budget.take(10, 0.75)
    assert budget.take(20, 0.95)
    assert not budget.take(10, 0.95)
    assert budget.take(10)
    assert not budget.take(1)


def test_an_answer_ages_from_fresh_to_older_to_none() -> None:
    cell = Cell()
    assert cell.result(0.0) == (None, None)
    cell.store("mids", 0.0, refresh=1.0, fresh=1.5, keep=60.0)
    cell.fail(DOWN, 1.2)
    assert cell.result(1.4) == ("mids", None)
    assert cell.result(1.5) == ("mids", DOWN)
    assert cell.result(59.9) == ("mids", DOWN)
    assert cell.result(60.0) == (None, DOWN)
    cell.store("newer", 70.0, refresh=1.0, fresh=1.5, keep=60.0)
    assert cell.result(80.0) == ("newer", None)


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

    provider = CallGuard("Hyperliquid API", CallLimits(), {"mid": ask})
    cell = Cell()
    assert provider.begin(cell, "mid", "", 2, ask)
    assert cell.call is not None
    await asyncio.wait({cell.call})
    _, failure = cell.result(time.monotonic())
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

    provider = CallGuard("Hyperliquid API", CallLimits(max_calls=1), {"mid": fail})
    mids, *cells = [Cell() for _ in range(50)]
    assert provider.begin(mids, "mid", VENUE, 2, fail)
    for n, cell in enumerate(cells):
        assert provider.begin(cell, "order_book", f"COIN{n}", 2, fail)
    await asyncio.wait({cell.call for cell in (mids, *cells) if cell.call is not None})
    assert asked == FAILURES_TO_OPEN
    assert all(cell.failure is not None for cell in cells)
    refused = Cell()
    assert not provider.begin(refused, "order_book", "BTC", 2, fail)
    assert refused.failure is not None
    await provider.close()


async def test_a_query_that_is_stuck_takes_no_turn_of_another() -> None:
    async def stick() -> None:
        await asyncio.sleep(3600)

    async def answer() -> None:
        pass

    provider = CallGuard("Hyperliquid API", CallLimits(), {"mid": answer})
    for n in range(100):
        assert provider.begin(Cell(), "candles_1h", f"COIN{n}", 2, stick)
    await asyncio.sleep(0)
    cells = [Cell(), Cell()]
    assert provider.begin(cells[0], "order_book", "BTC", 2, answer)
    assert provider.begin(cells[1], "mid", VENUE, 2, answer)
    _, waiting = await asyncio.wait({cell.call for cell in cells if cell.call is not None}, timeout=1.0)
    await provider.close()
    assert not waiting


async def test_the_contexts_find_the_venue_back_where_the_mids_alone_are_out_of_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.lens.market._breaker._FIRST_PAUSE_SECONDS", 0.01)
    found = asyncio.Event()

    async def fail() -> None:
        raise DOWN

    async def answer() -> None:
        found.set()

    provider = CallGuard("Hyperliquid API", CallLimits(), {"mid": fail, "asset_context": answer})
    cells = [Cell() for _ in range(FAILURES_TO_OPEN)]
    for n, cell in enumerate(cells):
        assert provider.begin(cell, "order_book" if n else "mid", "BTC" if n else VENUE, 2, fail)
    await asyncio.wait_for(found.wait(), 5.0)
    await asyncio.sleep(0)
    assert provider.begin(Cell(), "order_book", "ETH", 2, answer)
    await provider.close()


async def test_a_question_that_failed_leaves_the_last_of_the_minute_to_those_that_did_not() -> None:
    async def fail() -> None:
        raise NONSENSE

    provider = CallGuard("Hyperliquid API", CallLimits(weight_per_minute=100), {"mid": fail})
    bad = Cell()
    assert provider.begin(bad, "candles_1h", "BAD", 74, fail)
    assert bad.call is not None
    await asyncio.wait({bad.call})
    assert not provider.begin(bad, "candles_1h", "BAD", 20, fail)
    assert provider.begin(Cell(), "candles_1h", "BTC", 20, fail)
    await provider.close()
