"""A model's answer is taken if it has the form asked for; otherwise the error names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.model import Judgement
from schemas.decisions import (
    DECISIONS_ON,
    CloseDecision,
    OpenDecision,
    PlannedEntry,
    PlannedExit,
    load_decision,
    problem_text,
    response_schema,
)
from schemas.errors import ValidationFailed
from tests.unit.lens.factories import make_decision

ANSWER: dict[str, Any] = {
    "decision": "FOLLOW_ENTER",
    "confidence": 0.78,
    "entry_plan": {"type": "limit", "offset_bps": -5},
    "risk_plan": {"stop_method": "atr", "stop_level": None, "atr_multiple": 2.0, "trail_pct": None},
    "size_pct": 15,
    "reasons": ["bullish_ema_alignment"],
}


def answer(**changes: Any) -> str:
    return json.dumps(ANSWER | changes)


def problem(text: str, event_type: str = "OPEN_SIGNAL") -> str:
    with pytest.raises(ValidationFailed) as caught:
        load_decision(text, event_type)
    return problem_text(caught.value)


def test_an_answer_becomes_a_decision_without_what_it_left_open() -> None:
    loaded = load_decision(answer(), "OPEN_SIGNAL")
    decision = Judgement.from_dict(loaded)
    assert decision == make_decision(confidence=0.78)
    assert loaded["risk_plan"] == {"stop_method": "atr", "atr_multiple": 2.0}


@pytest.mark.parametrize(
    "fence", ["```json\n{}\n```", "```\n{}\n```", "```JSON  \r\n{}\r\n```\n", "\ufeff{}", "  {}\n"]
)
def test_a_fence_and_space_around_the_object_are_taken_off(fence: str) -> None:
    assert load_decision(fence.replace("{}", answer()), "OPEN_SIGNAL")["size_pct"] == 15


@pytest.mark.parametrize("event_type", DECISIONS_ON)
@pytest.mark.parametrize("decision", [each for kinds in DECISIONS_ON.values() for each in kinds])
def test_a_decision_must_fit_the_event(event_type: str, decision: str) -> None:
    if decision in DECISIONS_ON[event_type]:
        assert load_decision(answer(decision=decision), event_type)["decision"] == decision
    else:
        expected = f"decision: must be one of: {', '.join(DECISIONS_ON[event_type])}"
        assert problem(answer(decision=decision), event_type) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"confidence": -0.01}, "confidence: must be between 0 and 1"),
        ({"confidence": 1.01}, "confidence: must be between 0 and 1"),
        ({"confidence": "0.8"}, "confidence: must be a number"),
        ({"confidence": True}, "confidence: must be a number"),
        ({"confidence": None}, "confidence: must not be null"),
        ({"size_pct": 101}, "size_pct: must be between 0 and 100"),
        ({"size_pct": 0}, "size_pct: must be greater than 0 with FOLLOW_ENTER"),
        ({"size_pct": 0.0, "decision": "FOLLOW_ENTER"}, "size_pct: must be greater than 0 with FOLLOW_ENTER"),
        ({"size_pct": 10**400}, "size_pct: must be between -10^300 and 10^300"),
        ({"reasons": []}, "reasons: must have 1-10 items"),
        ({"reasons": ["x"] * 11}, "reasons: must have 1-10 items"),
        ({"reasons": [""]}, "reasons.0: must have 1-200 characters"),
        ({"reasons": ["x" * 201]}, "reasons.0: must have 1-200 characters"),
        ({"reasons": ["a", "b\u0000"]}, "reasons.1: must not contain control characters"),
        ({"reasons": ["\ud800"]}, "reasons.0: must not contain control characters"),
        ({"reasons": [1]}, "reasons.0: must be a string"),
        ({"reasons": "up"}, "reasons: must be an array"),
        ({"mood": 1}, "mood: unknown field"),
        ({"entry_plan": None}, "entry_plan: must not be null"),
        ({"entry_plan": {}}, "entry_plan.type: is required"),
        ({"risk_plan": []}, "risk_plan: must be an object"),
    ],
)
def test_errors_of_an_answer_name_the_field(changes: dict[str, Any], expected: str) -> None:
    assert problem(answer(**changes)) == expected


@pytest.mark.parametrize(
    ("plan", "field", "value", "expected"),
    [
        ("entry_plan", "type", "stop", "must be one of: market, limit"),
        ("entry_plan", "offset_bps", "5", "must be a number"),
        ("entry_plan", "offset_bps", 10001, "must be between -10000 and 10000"),
        ("entry_plan", "price", 1, "unknown field"),
        ("risk_plan", "stop_method", "none", "must be one of: fixed, atr, trailing"),
        ("risk_plan", "stop_level", 0, "must be greater than 0"),
        ("risk_plan", "stop_level", -1, "must be greater than 0"),
        ("risk_plan", "atr_multiple", 0.4, "must be between 0.5 and 10"),
        ("risk_plan", "atr_multiple", 10.1, "must be between 0.5 and 10"),
        ("risk_plan", "trail_pct", 101, "must be between 0 and 100"),
    ],
)
def test_errors_of_a_plan_name_the_field(plan: str, field: str, value: Any, expected: str) -> None:
    assert problem(answer(**{plan: ANSWER[plan] | {field: value}})) == f"{plan}.{field}: {expected}"


def with_stop(**plan: Any) -> str:
    return answer(risk_plan={"stop_level": None, "atr_multiple": None, "trail_pct": None} | plan)


@pytest.mark.parametrize(
    ("direction", "plan", "expected"),
    [
        ("long", {"stop_method": "fixed"}, "risk_plan.stop_level: is required with stop_method fixed"),
        ("long", {"stop_method": "fixed", "trail_pct": 3}, "risk_plan.stop_level: is required with stop_method fixed"),
        ("long", {"stop_method": "trailing"}, "risk_plan.trail_pct: is required with stop_method trailing"),
        (
            "short",
            {"stop_method": "trailing", "stop_level": 9},
            "risk_plan.trail_pct: is required with stop_method trailing",
        ),
        (
            "long",
            {"stop_method": "fixed", "stop_level": 100},
            "risk_plan.stop_level: must be below the entry price for a long",
        ),
        (
            "long",
            {"stop_method": "fixed", "stop_level": 101},
            "risk_plan.stop_level: must be below the entry price for a long",
        ),
        (
            "short",
            {"stop_method": "fixed", "stop_level": 99},
            "risk_plan.stop_level: must be above the entry price for a short",
        ),
    ],
)
def test_a_stop_that_contradicts_itself_is_refused(direction: str, plan: dict[str, Any], expected: str) -> None:
    """The kind: fields that are valid one by one and contradict each other."""
    for event_type, prefix, decision in (("OPEN_SIGNAL", "", "IGNORE"), ("CLOSE_SIGNAL", "close_", "HOLD")):
        text = with_stop(**plan).replace("FOLLOW_ENTER", decision)
        with pytest.raises(ValidationFailed) as caught:
            load_decision(text, event_type, direction=f"{prefix}{direction}", entry_price=100.0)
        assert problem_text(caught.value).startswith(expected)


def test_a_stop_that_says_enough_is_taken_and_an_atr_s_multiple_is_two() -> None:
    for direction, level in (("long", 99.5), ("short", 100.5)):
        text = with_stop(stop_method="fixed", stop_level=level)
        assert load_decision(text, "OPEN_SIGNAL", direction=direction, entry_price=100.0)["risk_plan"] == {
            "stop_method": "fixed",
            "stop_level": level,
        }
    assert load_decision(with_stop(stop_method="trailing", trail_pct=1.5), "OPEN_SIGNAL")["risk_plan"] == {
        "stop_method": "trailing",
        "trail_pct": 1.5,
    }
    assert load_decision(with_stop(stop_method="atr"), "OPEN_SIGNAL")["risk_plan"] == {
        "stop_method": "atr",
        "atr_multiple": 2.0,
    }


def test_an_answer_that_ignores_the_signal_enters_with_nothing() -> None:
    assert load_decision(answer(decision="IGNORE", size_pct=0), "OPEN_SIGNAL")["size_pct"] == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not JSON: Expecting value at line 1 column 1"),
        ("[]", "not a JSON object"),
        ("Sure! " + answer(), "not JSON: Expecting value at line 1 column 1"),
        (answer() + answer(), "not JSON: Extra data"),
        (answer()[:-2], "not JSON: "),
        (answer().replace("0.78", "NaN"), "not JSON: NaN is not a number"),
        (answer().replace("0.78", "-Infinity"), "not JSON: -Infinity is not a number"),
        (answer().replace("0.78", "9" * 5000), "a number that is too long"),
        (answer().replace('"size_pct"', '"confidence"'), "confidence: is given more than once"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
    ids=range(10),
)
def test_an_answer_that_is_not_one_json_object_is_refused(text: str, expected: str) -> None:
    assert expected in problem(text)


def test_missing_fields_are_named_all_at_once() -> None:
    fields = ("confidence", "decision", "entry_plan", "reasons", "risk_plan", "size_pct")
    assert sorted(problem("{}").split("; ")) == [f"{name}: is required" for name in fields]


def test_the_schema_for_the_vendors_and_the_check_of_the_answer_have_the_same_fields() -> None:
    for event_type, schema in (("OPEN_SIGNAL", OpenDecision()), ("CLOSE_SIGNAL", CloseDecision())):
        properties = response_schema(event_type)["properties"]
        assert set(properties) == set(schema.fields)
        assert set(properties["entry_plan"]["properties"]) == set(PlannedEntry().fields)
        assert set(properties["risk_plan"]["properties"]) == set(PlannedExit().fields)


@given(
    st.builds(
        lambda decision, confidence, offset, stop, size, reasons: {
            "decision": decision,
            "confidence": confidence,
            "entry_plan": {"type": "limit", "offset_bps": offset},
            "risk_plan": {"stop_method": "fixed", "stop_level": stop, "atr_multiple": None, "trail_pct": None},
            "size_pct": size,
            "reasons": reasons,
        },
        st.sampled_from(DECISIONS_ON["OPEN_SIGNAL"]),
        st.floats(0, 1),
        st.none() | st.floats(-10_000, 10_000),
        st.floats(1e-9, 1e12),
        st.integers(1, 100) | st.floats(1e-6, 100),
        st.lists(st.text("abcxyz_é ", min_size=1, max_size=200), min_size=1, max_size=10),
    )
)
def test_every_answer_in_the_form_asked_for_is_taken(document: dict[str, Any]) -> None:
    loaded = load_decision(json.dumps(document), "OPEN_SIGNAL")
    assert loaded["confidence"] == document["confidence"]
    assert loaded["reasons"] == document["reasons"]
    assert json.loads(json.dumps(Judgement.from_dict(loaded).to_dict())) == loaded
