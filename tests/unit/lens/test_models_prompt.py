"""The prompts: fixed once released, the same for the same signal, and safe from outsiders' text."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.model import OpenPosition
from actors.lens.models._prompt import PROMPTS, load_template, render
from config.values import replace
from schemas.decisions import (
    DECISIONS_ON,
    load_decision,
    response_schema,
)
from tests.unit.lens.factories import bare_features, make_features, make_signal

RELEASED = {
    "open_signal.v1.md": "fea752f77fe9794b1a31f5dae80f72a4ab6b00bce6463c6e5aeb40dc3805e867",
    "close_signal.v1.md": "7799d7f3dfe7ae68018310f9e7b17f1d67127450e7841133dded8e9cace6ce4c",
    "open_signal.v2.md": "425d32bf4b6af004acf27b0dcee91b9ab938c9a250c14da3304ec00e353e6852",
    "close_signal.v2.md": "f2356a0f611c6fd45760ed3d227ad96e3cbd1c9802122c095035fcce82fafb9b",
}


def test_a_released_prompt_never_changes() -> None:
    hashes = {name: load_template(name).sha256 for name in RELEASED}
    assert hashes == RELEASED, "its hash is stored with decisions: write the next version instead"


def test_every_prompt_file_is_a_released_one() -> None:
    found = {each.name for each in (files("actors.lens") / "prompts").iterdir()}
    assert found == set(RELEASED)
    assert set(PROMPTS.values()) <= found


@pytest.mark.parametrize("event_type", PROMPTS)
def test_a_prompt_says_in_words_what_the_schema_says(event_type: Any) -> None:
    system = load_template(PROMPTS[event_type]).system
    assert "JSON" in system, "DeepSeek's JSON mode refuses a prompt without the word"
    for decision in DECISIONS_ON[event_type]:
        assert f'"{decision}"' in system
    schema = response_schema(event_type)
    for name in (*schema["properties"], *schema["properties"]["entry_plan"]["properties"]):
        assert f"`{name}`" in system
    for name in schema["properties"]["risk_plan"]["properties"]:
        assert f"`{name}`" in system


@pytest.mark.parametrize("event_type", PROMPTS)
def test_the_example_in_a_prompt_is_a_valid_answer(event_type: Any) -> None:
    system = load_template(PROMPTS[event_type]).system
    example = system[system.index("\n{") :]
    assert load_decision(example, event_type)["decision"] in DECISIONS_ON[event_type]


def test_the_same_signal_gives_the_same_prompt_whatever_its_id() -> None:
    signal = make_signal()
    features = make_features(signal)
    other = make_signal(event_id=UUID(int=9), source="somebody else")
    assert render(signal, features) == render(other, features)
    assert "strategy_alpha" not in render(signal, features).user


def test_a_prompt_holds_the_features_rounded_and_in_order() -> None:
    signal = make_signal(liquidation_price=38000.123456789)
    user = render(signal, make_features(signal)).user
    assert '"liquidation_price":38000.123,' in user
    market = json.loads(user.partition("The market:\n")[2].partition("\n")[0])
    assert list(market) == sorted(market)
    assert {"15m", "1h", "4h"} == set(market["frames"])
    assert market["quality_flags"] == {"missing_data": [], "stale_data": [], "provider_errors": []}


def test_a_prompt_to_close_says_what_would_be_closed() -> None:
    """The kind: a question that lacks the thing it is about."""
    closing = make_signal(event_type="CLOSE_SIGNAL", signal_direction="close_short")
    features = make_features(closing)

    def told(features: Any) -> Any:
        return json.loads(render(closing, features).user.partition("The signal:\n")[2].partition("\n")[0])["position"]

    assert told(features) is None
    assert told(replace(features, position=OpenPosition(40000.0, -0.0500125))) == {
        "opening_price": 40000.0,
        "result": -0.0500125,
    }
    assert '"position"' not in render(make_signal(), features).user
    assert "position" not in features.to_dict()


@given(text=st.text(max_size=600))
def test_text_of_outsiders_cannot_leave_its_tags(text: str) -> None:
    signal = make_signal(asset_type="prediction", symbol=text[:100] or "x", commentary=text, asset_data={"q": text})
    user = render(signal, bare_features()).user
    assert user.count("<") == 2
    inside = user.partition("<untrusted>\n")[2].partition("\n</untrusted>")[0]
    assert json.loads(inside) == {
        "symbol": text[:100] or "x",
        "commentary": text[:500],
        "asset_data": {"q": text},
    }
    assert user.endswith("Judge the signal. Answer with the JSON object only.")


def test_a_prompt_is_bounded_whatever_the_signal_carries() -> None:
    signal = make_signal(symbol="S" * 5000, commentary="c" * 5000, asset_data={"text": "ü" * 5000})
    prompt = render(signal, make_features(signal))
    assert len(prompt.system.encode()) + len(prompt.user.encode()) < 16_000
    assert '"asset_data":{"omitted":"too long"}' in prompt.user


def test_a_dollar_sign_in_a_commentary_is_only_a_dollar_sign() -> None:
    signal = make_signal(commentary="to $100, ${market} $$")
    assert '"commentary":"to $100, ${market} $$"' in render(signal, bare_features()).user
