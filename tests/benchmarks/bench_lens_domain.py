"""Measure one signal's cost in the pure domain of Lens: market, features, judgement, score, and hops between processes.

    python -m tests.benchmarks.bench_lens_domain

CPU microseconds per signal, the best of several rounds. The whole pipeline may spend 2 000; this part 400 (`--check`
exits with 1 above that). `cold` is a symbol's first signal of its quarter of an hour; a batch is what one message
between actors carries.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from actors.lens.features import PROFILE_QUERIES, build_features
from actors.lens.market import MarketRequest
from actors.lens.model import Evaluation, MarketSnapshot, RawSignal
from actors.lens.scoring import score_signal
from actors.lens.technical import MODEL, MODEL_VERSION, evaluate
from config.values import replace
from schemas._symbols import normalise_symbol
from tests.unit.lens.factories import simulated_market

BUDGET_US = 400
ROUNDS = 7
SIGNALS = 400
BATCH = 50
SYMBOLS = [f"COIN{number}" for number in range(BATCH)]


def main() -> int:
    """Measure and print; 1 with `--check` if the budget is exceeded."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--profile", choices=PROFILE_QUERIES, default="trend_follow_v1")
    arguments = parser.parse_args()
    steps, whole = _steps(arguments.profile)
    print(f"{arguments.profile}, {len(SYMBOLS)} symbols, µs of CPU per signal")
    for name, step in steps.items():
        print(f"  {name:<38}{_cost_us(step):8.1f}")
    total = _cost_us(whole, SIGNALS // BATCH) / BATCH
    print(f"  {'all of it, in batches, with two hops':<38}{total:8.1f}   (budget {BUDGET_US})")
    return 1 if arguments.check and total > BUDGET_US else 0


def _steps(profile: Any) -> tuple[dict[str, Callable[[int], object]], Callable[[int], object]]:
    now = datetime.now(UTC)
    market = simulated_market()
    signal = RawSignal(uuid.UUID(int=1), "OPEN_SIGNAL", "BTC", "long", 42000.5, 0.1, now, "strategy_alpha")
    signals = [replace(signal, symbol=symbol) for symbol in SYMBOLS]
    first_cold = iter(range(10**9))

    def ask(symbol: str) -> MarketSnapshot:
        coroutine = market.snapshot(MarketRequest(symbol, "crypto", 42000.5, PROFILE_QUERIES[profile], now))
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the simulated market waited for something")

    snapshot = ask("BTC")
    features = build_features(signal, snapshot, profile, now)
    evaluations = [Evaluation(MODEL, MODEL_VERSION, "SUCCESS", 0, evaluate(signal, features))]

    def whole(_: int) -> object:
        """Process a batch from its symbols to its documents, with both hops between actor processes."""
        batch: list[tuple[Any, ...]] = []
        for this in signals:
            normalise_symbol(this.symbol, this.asset_type)
            batch.append((this, build_features(this, ask(this.symbol), profile, now)))
        batch = pickle.loads(pickle.dumps(batch))
        batch = [(*each, [Evaluation(MODEL, MODEL_VERSION, "SUCCESS", 0, evaluate(*each))]) for each in batch]
        batch = pickle.loads(pickle.dumps(batch))
        return [
            orjson.dumps((enriched.to_dict(), judged[0].to_dict(), score_signal(this, enriched, judged, now).to_dict()))
            for this, enriched, judged in batch
        ]

    steps: dict[str, Callable[[int], object]] = {
        "simulated market": lambda number: ask(SYMBOLS[number % len(SYMBOLS)]),
        "simulated market, cold": lambda number: ask(f"COLD{next(first_cold)}"),
        "features": lambda number: build_features(signal, snapshot, profile, now),
        "technical model": lambda number: evaluate(signal, features),
        "votes and score": lambda number: score_signal(signal, features, evaluations, now),
        "pickle and unpickle signal + features": lambda number: pickle.loads(pickle.dumps((signal, features))),
        "enriched document as JSON": lambda number: orjson.dumps(features.to_dict()),
    }
    return steps, whole


def _cost_us(step: Callable[[int], object], times: int = SIGNALS) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for number in range(times):
            step(number)
        best = min(best, (time.process_time() - began) / times)
    return best * 1e6


if __name__ == "__main__":
    sys.exit(main())
