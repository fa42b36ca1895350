"""The result of an attempt, and the failures that are dead-lettered."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from actors.lens._results import (
    DeadLettered,
    GivenUp,
    Retried,
    RetryPolicy,
    StageFailure,
    advance,
    dead_letter,
    fail,
    reject,
)
from actors.lens.messages import Work
from actors.lens.model import RawSignal
from config.ids import uuid7

AT = datetime(2024, 1, 15, 10, 30, 0, 123456, UTC)
POLICY = RetryPolicy(retries=3, base_seconds=1.0, max_seconds=30.0)


def _work(attempt: int = 0, **changes: object) -> Work:
    signal = RawSignal(uuid7(), "OPEN_SIGNAL", "BTC", "long", 100.0, 1.0, AT, "alpha")
    return Work(signal, attempt=attempt, **changes)  # type: ignore[arg-type]


def test_the_first_three_failures_are_retried_and_the_fourth_is_buried_with_all_causes() -> None:
    work = _work()
    for attempt in range(3):
        result = fail(work, "ENRICH", StageFailure("TIMEOUT", f"slow {attempt}"), POLICY, AT)
        assert isinstance(result, Retried)
        assert result.move.next_attempt == attempt + 1
        assert (result.move.stage, result.move.status, result.move.ended) == ("ENRICH", None, False)
        work = _work(attempt + 1, failures=tuple(result.move.failures))
    last = fail(work, "ENRICH", StageFailure("PROVIDER_ERROR", "gone"), POLICY, AT)
    assert isinstance(last, DeadLettered)
    assert (last.move.status, last.move.stage, last.move.ended) == ("FAILED", "DEAD_LETTER", True)
    causes = [(each["reason_code"], each["error_message"]) for each in last.dead_letters[0].failures]
    assert causes == [("TIMEOUT", "slow 0"), ("TIMEOUT", "slow 1"), ("TIMEOUT", "slow 2"), ("PROVIDER_ERROR", "gone")]
    assert last.move.timeline == [
        {
            "status": "FAILED",
            "timestamp": "2024-01-15T10:30:00.123Z",
            "details": {"reason_code": "PROVIDER_ERROR", "error_message": "gone"},
        }
    ]


def test_a_failure_that_cannot_pass_is_buried_at_once() -> None:
    result = fail(_work(), "ENRICH", StageFailure("VALIDATION_ERROR", "no", retryable=False), POLICY, AT)
    assert isinstance(result, DeadLettered)


@pytest.mark.parametrize(("attempt", "expected"), [(0, 1.0), (1, 2.0), (2, 4.0), (5, 30.0), (5000, 30.0)])
def test_delays_double_up_to_their_cap_within_a_quarter(attempt: int, expected: float) -> None:
    delays = [POLICY.delay_seconds(attempt) for _ in range(200)]
    assert all(expected * 0.75 <= delay <= expected * 1.25 for delay in delays)
    assert max(delays) - min(delays) > expected * 0.2, "no jitter"


def test_a_delay_is_never_shorter_than_the_other_side_asked_for() -> None:
    result = fail(_work(), "EVALUATE", StageFailure("RATE_LIMITED", "slow down", retry_after=45.0), POLICY, AT)
    assert result.move.delay_seconds >= 45.0


def test_going_on_forgets_the_attempts_of_the_stage_left_behind() -> None:
    result = advance(_work(2, failures=({"at": "…"},)), status="ENRICHED", stage="EVALUATE", timeline=[])
    assert (result.move.attempt, result.move.next_attempt, result.move.failures) == (2, 0, [])
    assert (result.work.attempt, result.work.failures) == (0, ())


def test_a_gate_ends_the_event_with_its_reason() -> None:
    result = reject(_work(), reason="too old", at=AT)
    assert (result.move.status, result.move.stage, result.move.ended) == ("REJECTED", "COMPLETE", True)
    assert result.move.timeline[0]["details"] == {"reason": "too old"}


def test_an_event_whose_models_all_failed_names_the_last_cause() -> None:
    dead_letters = tuple(
        GivenUp(name, ({"at": "…", "reason_code": code, "error_message": name, "model": name},))
        for name, code in (("chatgpt", "TIMEOUT"), ("gemini", "SCHEMA_ERROR"))
    )
    assert dead_letter(_work(), dead_letters, AT).move.timeline[0]["details"]["reason_code"] == "SCHEMA_ERROR"
