"""Offer the local evaluator by the interface of all models: the `technical` model."""

from __future__ import annotations

import time

from actors.lens.model import Evaluation, Features, RawSignal
from actors.lens.technical import MODEL, MODEL_VERSION, evaluate
from config import clock


class TechnicalModel:
    """Judge by the indicators alone: deterministic, needs no key, never fails."""

    name = MODEL
    version = MODEL_VERSION
    timeout_seconds = 5.0

    async def judge(self, signal: RawSignal, features: Features) -> Evaluation:
        """Return the rules' decision."""
        return self.judge_at_once(signal, features)

    def judge_at_once(self, signal: RawSignal, features: Features) -> Evaluation:
        """Return the same without waiting."""
        began = time.perf_counter()
        decision = evaluate(signal, features)
        latency_ms = round((time.perf_counter() - began) * 1000)
        return Evaluation(self.name, self.version, "SUCCESS", latency_ms, decision, tokens_used=0, at=clock.now())

    async def close(self) -> None:
        """Do nothing: no connection is open."""
