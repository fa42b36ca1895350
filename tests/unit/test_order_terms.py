"""How a signal says that its position is entered and left: every rule, for every asset type and side, in both APIs."""

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from actors.lens.features import build_features
from actors.lens.model import MarketSnapshot, Quote
from actors.lens.scoring import score_signal
from actors.lens.technical import evaluate
from config.clock import now, rfc3339
from schemas._problems import field_errors
from schemas._vocabulary import ASSET_TYPES, MAY_END_WORTHLESS
from schemas.errors import ValidationFailed
from schemas.ingest import load_scored, patch_scored
from schemas.lens import SignalSubmission, StoredSubmission
from schemas.signals import NewSignalSchema
from tests.unit.lens.factories import NOW, make_signal

SYMBOLS = {"forex": "EUR/USD", "option": "AAPL 195C 3/15/2099", "prediction": "Fed cuts in March"}
APIS = ("lens", "public")


def body(api: str, asset_type: str, side: str, price: Decimal | float, *, closes: bool = False, **more: Any) -> Any:
    """Return the body of a signal in either API."""
    document = {"symbol": SYMBOLS.get(asset_type, "ABC"), "asset_type": asset_type, "entry_price": price, **more}
    if api == "public":
        action = {"long": "buy", "short": "sell"}[side]
        return document | {"action": action} | ({"close": True} if closes else {})
    return document | {
        "event_type": "CLOSE_SIGNAL" if closes else "OPEN_SIGNAL",
        "signal_direction": f"close_{side}" if closes else side,
        "size": 1,
        "ts_utc": rfc3339(now()),
        "source": "alpha",
    }


def faults(api: str, document: Any) -> dict[str, str]:
    """Return what the API finds wrong, by field."""
    try:
        (NewSignalSchema() if api == "public" else SignalSubmission()).load(document)
    except ValidationError as error:
        return {each.field: each.message for each in field_errors(error.messages)}
    return {}


PRICES = st.decimals("0.001", "0.999", places=6)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("asset_type", ASSET_TYPES)
@given(side=st.sampled_from(["long", "short"]), entry=PRICES, levels=st.lists(PRICES, max_size=10), stop=PRICES)
def test_targets_are_on_the_gaining_side_and_the_stop_on_the_losing_one(
    api: str, asset_type: str, side: str, entry: Decimal, levels: list[Decimal], stop: Decimal
) -> None:
    up = side == "long"
    expected = {
        f"take_profit.{place}" for place, level in enumerate(levels) if not (level > entry if up else level < entry)
    } | (set() if (stop < entry if up else stop > entry) else {"stop_loss"})
    found = faults(api, body(api, asset_type, side, entry, take_profit=levels, stop_loss=stop))
    assert found.keys() == expected
    for name, text in found.items():
        assert (
            text == f"must be {'above' if up == name.startswith('take') else 'below'} entry_price for a {side} position"
        )


@pytest.mark.parametrize("api", APIS)
def test_all_faults_are_named_at_once(api: str) -> None:
    wrong = {
        "order": "stop",
        "take_profit": [90, "x", 110],
        "stop_loss": 120,
        "valid_until": "2020-01-01T00:00:00Z",
        "close_fraction": 2,
        "liquidation_price": 100,
    }
    found = faults(api, body(api, "crypto", "long", 100, **wrong))
    assert found == {
        "order": "must be one of: market, limit",
        "take_profit.1": "must be a number",
        "stop_loss": "must be below entry_price for a long position",
        "valid_until": "must be in the future",
        "close_fraction": "must be at most 1",
        "liquidation_price": "must be below entry_price for a long position",
    }


@pytest.mark.parametrize("api", APIS)
def test_what_is_of_an_opening_is_not_of_a_close_and_the_reverse(api: str) -> None:
    later = rfc3339(now() + timedelta(hours=1))
    opening = {"order": "limit", "take_profit": [1], "stop_loss": 1, "valid_until": later}
    found = faults(api, body(api, "crypto", "long", 100, closes=True, **opening, close_fraction=0.5))
    assert found == dict.fromkeys(opening, "is only of a signal that opens")
    found = faults(api, body(api, "crypto", "long", 100, close_fraction=0.5))
    assert found == {"close_fraction": "is only of a signal that closes"}
    assert not faults(api, body(api, "crypto", "long", 100, closes=True, order="market", close_fraction=1))
    nothing = dict.fromkeys((*opening, "close_fraction", "liquidation_price"))
    for closes in (False, True):
        assert not faults(api, body(api, "crypto", "long", 100, closes=closes, **nothing))
        assert not faults(api, body(api, "crypto", "long", 100, closes=closes, take_profit=[]))


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("terms", "fault"),
    [
        ({"order": "limit"}, None),
        ({"order": "limit", "valid_until": "2999-01-01T00:00:00+02:00"}, None),
        ({"order": "limit", "valid_until": "2999-01-01T00:00:00"}, "valid_until"),
        ({"order": "limit", "valid_until": rfc3339(NOW - timedelta(days=400))}, "valid_until"),
        ({"order": "market", "valid_until": "2999-01-01T00:00:00Z"}, "valid_until"),
        ({"valid_until": "2999-01-01T00:00:00Z"}, "valid_until"),
        ({"take_profit": [101] * 10}, None),
        ({"take_profit": [101] * 11}, "take_profit"),
        ({"take_profit": 101}, "take_profit"),
        ({"stop_loss": -1}, "stop_loss"),
        ({"stop_loss": 0}, "stop_loss"),
    ],
)
def test_an_order_is_bounded(api: str, terms: dict[str, Any], fault: str | None) -> None:
    assert list(faults(api, body(api, "crypto", "long", 100, **terms))) == ([] if fault is None else [fault])


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fraction", [1, 0.5, 1e-12])
def test_a_close_may_take_any_part(api: str, fraction: float) -> None:
    assert not faults(api, body(api, "stock", "short", 10, closes=True, close_fraction=fraction))
    for wrong in (0, -0.5, 1.0000001, "1", True):
        assert list(faults(api, body(api, "stock", "short", 10, closes=True, close_fraction=wrong))) == [
            "close_fraction"
        ]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("asset_type", ASSET_TYPES)
def test_an_exit_at_nothing_is_right_where_an_asset_can_end_worthless(api: str, asset_type: str) -> None:
    for side in ("long", "short"):
        opening = faults(api, body(api, asset_type, side, 0))
        assert opening == {"entry_price": "must be greater than 0"}
        closing = faults(api, body(api, asset_type, side, 0, closes=True))
        assert closing == ({} if asset_type in MAY_END_WORTHLESS else opening)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("price", "probability", "closes", "fault"),
    [
        (0.68, 0.68, False, False),
        (0.68, 0.7, False, True),
        (1, 1, False, True),
        (1, 1, True, False),
        (0, 0, True, False),
        (0, 0.1, True, True),
        (1.2, None, True, True),
    ],
)
def test_a_predictions_price_is_its_probability(
    api: str, price: float, probability: float | None, closes: bool, fault: bool
) -> None:
    data = None if probability is None else {"probability": probability}
    found = faults(api, body(api, "prediction", "short", price, closes=closes, asset_data=data))
    assert list(found) == (["entry_price"] if fault else [])


@pytest.mark.parametrize("api", APIS)
def test_a_predictions_levels_are_probabilities(api: str) -> None:
    assert not faults(api, body(api, "prediction", "long", 0.5, take_profit=[0.7, 1], stop_loss=0))
    assert not faults(api, body(api, "prediction", "short", 0.5, take_profit=[0.2, 0], stop_loss=1))
    found = faults(api, body(api, "prediction", "long", 0.5, take_profit=[1.5], stop_loss=1.5))
    assert set(found.values()) == {"must be at most 1: it is the probability of YES"}


def test_an_order_that_has_lapsed_is_still_what_was_accepted() -> None:
    """The kind: a dead letter that cannot be retried because time has passed."""
    lapsed = body("lens", "crypto", "long", 100, order="limit", valid_until="2024-01-01T00:00:00Z")
    assert list(faults("lens", lapsed)) == ["valid_until"]
    assert StoredSubmission().load(lapsed)["valid_until"].tzinfo is UTC


SCORED = {"id": "a", "symbol": "BTC", "action": "sell", "score": 70, "provider_id": "x", "price": 100}


def test_a_scored_signal_takes_the_same_terms() -> None:
    loaded = load_scored(SCORED | {"order": "limit", "take_profit": [90, 80], "stop_loss": 110})
    assert (loaded["order_type"], loaded["take_profit"], loaded["stop_loss"]) == ("limit", [90, 80], 110)
    for wrong, field in (({"take_profit": [90, 110]}, "take_profit.1"), ({"close_fraction": 0.5}, "close_fraction")):
        with pytest.raises(ValidationFailed) as failed:
            load_scored(SCORED | wrong)
        assert [each.field for each in failed.value.details] == [field]
    closing = load_scored(SCORED | {"event_type": "CLOSE_SIGNAL", "close_fraction": 0.25})
    assert closing["close_fraction"] == Decimal("0.25")
    option = SCORED | {"symbol": SYMBOLS["option"], "asset_type": "option", "event_type": "CLOSE_SIGNAL"}
    assert load_scored(option | {"price": 0})["price"] == 0


@pytest.mark.parametrize("snapshot", [MarketSnapshot(), MarketSnapshot(has_source=False), None])
def test_a_close_at_nothing_is_judged_and_scored_like_any_other(snapshot: MarketSnapshot | None) -> None:
    """The kind: a division by the price."""
    signal = make_signal(
        asset_type="option",
        symbol=SYMBOLS["option"],
        event_type="CLOSE_SIGNAL",
        signal_direction="close_long",
        entry_price=0.0,
        liquidation_price=1.0,
    )
    market = snapshot or MarketSnapshot(quote=Quote(0.05, int(NOW.timestamp() * 1000)))
    features = build_features(signal, market, "full_v1", NOW)
    assert features.drift_bps is None
    evaluate(signal, features)
    score_signal(signal, features, [], NOW)


def test_a_retried_message_keeps_its_order() -> None:
    """The kind: a field whose name in the body is not that of our own, lost on the way through a dead letter."""
    message = SCORED | {"order": "limit", "foreign": 1}
    assert patch_scored(message, {"stop_loss": 110}) == SCORED | {"order": "limit", "stop_loss": 110}
