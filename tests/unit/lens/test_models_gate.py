"""A vendor's failures: which are retried, how long its gate stays closed, and which call opens it again."""

from __future__ import annotations

import asyncio
import pickle
from datetime import timedelta
from email.utils import format_datetime

import pytest

from actors.lens.model import Evaluation, Transcript
from actors.lens.models._failures import LONGEST_WAIT_SECONDS, ModelFailure, refused, retry_after
from actors.lens.models._gate import VendorGate
from config import clock
from tests.unit.lens.factories import make_decision


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, None),
        ({"retry-after": "Thu, 99 Foo 9999 00:00:00 GMT"}, None),
    ],
)
def test_a_retry_wish_is_read_if_it_is_one(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_retry_wish_may_be_a_date() -> None:
    later = format_datetime(clock.now() + timedelta(seconds=45))
    assert retry_after({"retry-after": later}) == pytest.approx(45, abs=2)


@pytest.mark.parametrize(
    ("status", "is_final"),
    [
        *((each, True) for each in (302, 400, 401, 402, 403, 404, 413, 422)),
        *((each, False) for each in (408, 409, 429, 500, 502, 503, 529, 599)),
    ],
)
def test_errors_of_the_request_are_final_and_errors_of_the_server_are_not(status: int, is_final: bool) -> None:
    assert refused("X API", status, {}).is_final is is_final


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "No\n  way"}}, "X API returned 500 Internal Server Error: No way"),
        ({"message": "No way"}, "X API returned 500 Internal Server Error: No way"),
        ({"error": "No way"}, "X API returned 500 Internal Server Error: No way"),
        ("No way", "X API returned 500 Internal Server Error: No way"),
        ({"error": {"message": None}}, "X API returned 500 Internal Server Error"),
        (None, "X API returned 500 Internal Server Error"),
        ([1], "X API returned 500 Internal Server Error"),
    ],
)
def test_an_error_quotes_the_vendor_s_message(body: object, expected: str) -> None:
    assert refused("X API", 500, body).message == expected


def test_a_transcript_stays_in_the_process_that_asked() -> None:
    run = Evaluation("claude", "x", "SUCCESS", 5, make_decision(), transcript=Transcript("p.v1", "s", "u", "a", "stop"))
    received = pickle.loads(pickle.dumps(run))
    assert received.transcript is None
    assert received.decision == run.decision
    assert received.to_dict()["transcript"] is None
    assert Evaluation.from_dict(received.to_dict()) == received


DOWN = ModelFailure("PROVIDER_ERROR", "X API returned 503")


class Clock:
    """A time that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def call(
    gate: VendorGate, failure: BaseException | None = None, subject: str = "s", seconds: float = 5.0
) -> None:
    async with gate.enter(subject, asyncio.get_running_loop().time() + seconds):
        if failure is not None:
            raise failure


async def fails(gate: VendorGate, failure: BaseException, subject: str = "s") -> ModelFailure:
    with pytest.raises(ModelFailure) as caught:
        await call(gate, failure, subject)
    return caught.value


async def close_it(gate: VendorGate) -> ModelFailure:
    """Fail until the gate closes; return the refusal."""
    for number in range(5):
        assert await fails(gate, DOWN, f"signal {number}") is DOWN
    return await fails(gate, AssertionError("it let the call through"))


async def test_the_gate_is_closed_after_five_failures_and_says_why() -> None:
    refusal = await close_it(VendorGate("X API", 2, now=Clock()))
    assert (refusal.reason, refusal.is_final) == ("PROVIDER_ERROR", False)
    assert refusal.message == "X API returned 503 (calls are paused)"
    assert refusal.retry_after_seconds is None, "a signal does not wait for a vendor to come back"


async def test_one_signal_that_always_fails_does_not_close_the_gate_for_others() -> None:
    gate = VendorGate("X API", 2, now=Clock())
    for _ in range(20):
        assert await fails(gate, DOWN, "the same signal") is DOWN
    await call(gate)


@pytest.mark.parametrize(
    "failure",
    [
        ModelFailure("SCHEMA_ERROR", "no JSON"),
        ModelFailure("MODEL_ERROR", "refused", is_final=True),
        ModelFailure("PROVIDER_ERROR", "401", is_final=True),
    ],
)
async def test_a_vendor_that_answers_is_not_down(failure: ModelFailure) -> None:
    gate = VendorGate("X API", 2, now=Clock())
    for number in range(20):
        assert await fails(gate, failure, str(number)) is failure
    await call(gate)


async def test_one_call_probes_after_the_pause_and_the_others_wait_for_its_outcome() -> None:
    now = Clock()
    gate = VendorGate("X API", 2, now=now)
    await close_it(gate)
    now.seconds += 3
    async with gate.enter("probe", asyncio.get_running_loop().time() + 5):
        await fails(gate, AssertionError("a second probe"))
    await call(gate)


async def test_a_failed_probe_doubles_the_pause() -> None:
    now = Clock()
    gate = VendorGate("X API", 2, now=now)
    await close_it(gate)
    now.seconds += 3
    assert await fails(gate, DOWN) is DOWN
    now.seconds += 2.9
    await fails(gate, AssertionError("it let the call through"))
    now.seconds += 2.2
    await call(gate)


async def test_a_probe_that_is_cancelled_leaves_the_gate_usable() -> None:
    now = Clock()
    gate = VendorGate("X API", 1, now=now)
    await close_it(gate)
    now.seconds += 3
    with pytest.raises(asyncio.CancelledError):
        await call(gate, asyncio.CancelledError())
    now.seconds += 6
    await call(gate)
    await call(gate)


async def test_an_answer_to_an_older_call_does_not_put_the_probe_off() -> None:
    now = Clock()
    gate = VendorGate("X API", 8, now=now)
    async with gate.enter("older", asyncio.get_running_loop().time() + 5):
        await close_it(gate)
        now.seconds += 1.4
    now.seconds += 1.2
    await call(gate)


async def test_a_pause_of_an_hour_is_final_for_those_who_meet_it() -> None:
    now = Clock()
    gate = VendorGate("X API", 2, now=now)
    await fails(gate, ModelFailure("RATE_LIMITED", "429", retry_after_seconds=3600))
    refusal = await fails(gate, AssertionError("it let the call through"))
    assert (refusal.reason, refusal.is_final) == ("RATE_LIMITED", True)
    assert refusal.retry_after_seconds is not None
    assert LONGEST_WAIT_SECONDS < refusal.retry_after_seconds <= 375, "but it is tried again sooner than that"


async def test_a_caller_without_a_slot_in_time_is_told_so_and_the_vendor_is_not_blamed() -> None:
    gate = VendorGate("X API", 1, now=Clock())
    async with gate.enter("slow", asyncio.get_running_loop().time() + 5):
        for number in range(10):
            with pytest.raises(ModelFailure) as caught:
                await call(gate, subject=str(number), seconds=0.01)
            assert caught.value.reason == "TIMEOUT"
            assert caught.value.message == "X API: every call allowed at once was still waiting"
    await call(gate)


async def test_callers_in_line_are_told_at_once_when_the_gate_closes() -> None:
    gate = VendorGate("X API", 1, now=Clock())
    for number in range(4):
        await fails(gate, DOWN, str(number))
    entered = asyncio.Event()

    async def last_failure() -> None:
        async with gate.enter("last", asyncio.get_running_loop().time() + 5):
            entered.set()
            await asyncio.sleep(0)
            raise DOWN

    async def waiting() -> ModelFailure:
        await entered.wait()
        return await fails(gate, AssertionError("it went on to a vendor that is down"))

    failed, refusal = await asyncio.gather(last_failure(), waiting(), return_exceptions=True)
    assert failed is DOWN
    assert isinstance(refusal, ModelFailure)
    assert refusal.message.endswith("(calls are paused)")
