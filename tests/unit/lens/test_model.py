"""The values of the pipeline survive pickling and their JSON form, and cannot be changed."""

from __future__ import annotations

import pickle
from decimal import Decimal

import numpy as np
import orjson
import pytest

from actors.lens.model import (
    Candles,
    EntryOrder,
    Evaluation,
    Features,
    Judgement,
    MarketSnapshot,
    QueryFailure,
    Quote,
    RawSignal,
    Score,
    StopRule,
)
from actors.lens.scoring import score_signal
from tests.unit.lens.factories import NOW, make_candles, make_decision, make_evaluation, make_features, make_signal

FAILURE = QueryFailure("candles_4h", "TIMEOUT", "no answer in 10 s")


def _values() -> list[object]:
    signal = make_signal(asset_data={"price": 1.5, "greeks": {"delta": 0.45}}, liquidation_price=38000.0)
    features = make_features(signal, failures=(FAILURE,))
    failed = Evaluation("claude", "some-model", "TIMEOUT", 30_000, error="no answer in 30 s")
    score = score_signal(signal, features, [make_evaluation()], NOW)
    return [signal, features, make_decision(), make_evaluation(), failed, score, EntryOrder("market")]


@pytest.mark.parametrize("value", _values(), ids=lambda value: type(value).__name__)
def test_a_value_comes_back_from_pickling_as_it_was(value):
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("value", _values(), ids=lambda value: type(value).__name__)
def test_a_value_comes_back_from_its_json_as_it_was(value):
    document = orjson.loads(orjson.dumps(value.to_dict()))
    assert type(value).from_dict(document) == value


@pytest.mark.parametrize("value", _values(), ids=lambda value: type(value).__name__)
def test_a_value_cannot_be_changed(value):
    name = type(value).__struct_fields__[0]
    with pytest.raises(AttributeError, match="immutable"):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")


def test_a_document_of_another_version_may_have_more_keys():
    assert EntryOrder.from_dict({"type": "market", "urgency": "high"}) == EntryOrder("market")


def test_the_decision_has_the_documents_form():
    assert orjson.loads(orjson.dumps(make_decision().to_dict())) == {
        "decision": "FOLLOW_ENTER",
        "confidence": 0.82,
        "entry_plan": {"type": "limit", "offset_bps": -5},
        "risk_plan": {"stop_method": "atr", "atr_multiple": 2.0},
        "size_pct": 15,
        "reasons": ["bullish_ema_alignment"],
    }
    assert Judgement.from_dict(make_decision().to_dict()).risk_plan == StopRule("atr", atr_multiple=2.0)


def test_the_enriched_document_has_the_documents_names():
    document = orjson.loads(orjson.dumps(make_features(profile="trend_follow_v1").to_dict()))
    assert document["feature_profile"] == "trend_follow_v1"
    assert document["quality_flags"] == {"missing_data": [], "stale_data": [], "provider_errors": []}
    assert list(document["frames"]) == ["15m", "1h", "4h"]
    assert Features.from_dict(document).profile == "trend_follow_v1"


def test_a_raw_signal_is_read_from_a_row_with_decimals_and_from_text():
    document = make_signal().to_dict() | {"entry_price": Decimal("42000.50"), "ts_utc": "2024-01-15T11:30:00+01:00"}
    signal = RawSignal.from_dict(document)
    assert type(signal.entry_price) is float
    assert signal.ts_utc.isoformat() == "2024-01-15T11:30:00+01:00"
    assert signal.to_dict()["ts_utc"] == "2024-01-15T10:30:00.000Z"


def test_the_action_of_a_score_is_lower_case_and_its_breakdown_a_list_of_votes():
    document = score_signal(make_signal(), make_features(), [make_evaluation()], NOW).to_dict()
    assert document["action"] == "buy"
    assert list(document["strategy_breakdown"][0]) == ["name", "signal", "score"]
    assert Score.from_dict(document).strategy_breakdown[0].name == "RSI_REVERSAL"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c[:4], "not \\(5, n\\)"),
        (lambda c: c[:, :0], "not \\(5, n\\)"),
        (lambda c: c * np.nan, "not finite"),
        (lambda c: c * np.inf, "not finite"),
        (lambda c: c * np.array([[1, 1, 0, 1, 1]]).T, "zero or less"),
        (lambda c: c * np.array([[1, 1, 1, 1, -1]]).T, "zero or less, or a negative volume"),
        (lambda c: c * np.array([[1, 0.9, 1, 1, 1]]).T, "enclose"),
        (lambda c: c * np.array([[1, 1, 1.1, 1, 1]]).T, "enclose"),
    ],
)
def test_candles_that_cannot_be_true_are_refused(change, says):
    good = make_candles([100.0, 101.0]).ohlcv
    with pytest.raises(ValueError, match=says):
        Candles.checked("1h", 0, change(good))


def test_candles_are_made_contiguous_doubles():
    candles = Candles.checked("1h", 0, np.asfortranarray(make_candles([1.0, 2.0, 3.0]).ohlcv.astype(np.float32)))
    assert candles.ohlcv.flags.c_contiguous
    assert candles.ohlcv.dtype == np.float64
    assert len(candles) == 3


def test_a_snapshot_without_any_answer_has_no_data():
    assert not MarketSnapshot(failures=(FAILURE,)).has_data
    assert MarketSnapshot(quote=Quote(1.0, 0)).has_data
    assert MarketSnapshot(candles={"1h": make_candles([1.0])}).has_data
