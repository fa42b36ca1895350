"""The stored and the sent documents of a signal keep their text from version to version."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from actors.lens._fingerprint import fingerprint
from actors.lens.messages import Scored
from actors.lens.model import DataQuality, Features, Frame, Hourly, QueryFailure, RawSignal, Score, Vote
from actors.lens.publication import decision_item, make_signal
from actors.lens.scored import _make as scored_row
from db.signals.writes import ProviderSummary
from tests.support.lens_factory import submit
from tests.unit.lens.factories import NOW, make_decision
from tests.unit.lens.factories import make_signal as raw_signal

ID = UUID("018f0000-0000-7000-8000-000000000007")
CARD = ProviderSummary(UUID(int=9), 'Zoë "the\\trader"', None, 0.6749, 12400, "pro")
OPTION = {"symbol": "AAPL 195C 3/15", "asset_type": "option", "asset_data": {"strike": 195, "greeks": {"delta": 0.5}}}
SCORE = Score(
    action="buy",
    confidence=0.82,
    opportunity_score=77,
    opportunity_tier="GOOD",
    opportunity_factors={
        "freshness": {"value": 2, "contribution": 10.0},
        "volatility": {"value": None, "contribution": 0.0},
    },
    strategy_breakdown=(Vote("RSI_REVERSAL", "BUY", 0.89),),
    reasoning="RSI oversold bounce.",
    market_context={"current_price": 42000.5, "volume_ratio": None},
)
FEATURES = Features(
    "full_v1",
    42000.5,
    1.25,
    mid=42000.5,
    frames={"1h": Frame(close=42000.5, rsi_14=50.0)},
    hourly=Hourly(macd_cross_age=1),
    flags=DataQuality(("mid",), ("signal",), ()),
    failures=(QueryFailure("candles_4h", "TIMEOUT", "no answer"),),
)


def text(document: object) -> str:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()


HEAD = '{"id":"018f0000-0000-7000-8000-000000000007",'
PROVIDER = (
    '"provider":{"id":"00000000-0000-0000-0000-000000000009","name":"Zoë \\"the\\\\trader\\"","avatar_url":null,'
    '"win_rate":67,"followers":12400,"verified":true},'
)
UNVERIFIED = '"record_price":null,"verified":false,'
COUNTS = '"reactions":{},"comment_count":0,"created_at":"2026-02-15T12:34:56.789Z",'


def test_the_feed_shows_a_signal_of_the_pipeline_in_one_order_of_keys() -> None:
    raw = raw_signal(event_id=ID, commentary='Got "it",')
    row = make_signal(raw, FEATURES, SCORE, provider=CARD, feed_seq=5, published_at=NOW)
    assert row.feed_data == (
        HEAD + '"asset_type":"crypto","asset_category":"crypto","symbol":"BTC","action":"buy","score":77,'
        '"reasoning":"RSI oversold bounce.",'
        + PROVIDER
        + '"asset_data":{"price":42000.5},'
        + COUNTS
        + '"event_type":"OPEN_SIGNAL","direction":"long","entry_price":42000.5,'
        + UNVERIFIED
        + '"commentary":"Got \\"it\\",",'
        '"received_at":"2024-04-21T09:32:31.104Z","retracted_at":null,"price":42000.5}'
    )
    assert (row.entry_price, row.size, row.asset_data, row.instrument) == (None, None, {"price": 42000.5}, None)


def test_the_feed_shows_an_option_without_a_price_of_its_own() -> None:
    raw = raw_signal(event_id=ID, event_type="CLOSE_SIGNAL", signal_direction="close_short", **OPTION)
    prices = (Decimal("42000.50"), Decimal(1))
    row = make_signal(raw, FEATURES, SCORE, provider=CARD, feed_seq=5, published_at=NOW, prices=prices, received_at=NOW)
    assert row.feed_data == (
        HEAD + '"asset_type":"option","asset_category":"equities","symbol":"AAPL 195C 3/15","action":"buy","score":77,'
        '"reasoning":"RSI oversold bounce.",'
        + PROVIDER
        + '"asset_data":{"strike":195,"greeks":{"delta":0.5}},'
        + COUNTS
        + '"event_type":"CLOSE_SIGNAL","direction":"short","entry_price":42000.5,'
        + UNVERIFIED
        + '"commentary":null,'
        '"received_at":"2026-02-15T12:34:56.789Z","retracted_at":null}'
    )
    assert (row.feed_seq, row.provider_id, row.direction, row.entry_price, row.size) == (
        5,
        UUID(int=9),
        "short",
        *prices,
    )
    assert (row.tier, row.confidence, row.factors) == ("GOOD", 0.82, SCORE.opportunity_factors)
    assert (row.market_context, row.instrument, row.is_ranked) == (SCORE.market_context, "AAPL 195C 2026-03-15", True)
    assert text(row.strategy_breakdown) == '[{"name":"RSI_REVERSAL","score":0.89,"signal":"BUY"}]'


SCORED: dict[str, Any] = {
    "id": ID,
    "asset_type": "crypto",
    "symbol": "BTC",
    "action": "sell",
    "score": 87,
    "confidence": None,
    "reasoning": "because",
    "source": "x",
    "provider_name": "X",
    "price": Decimal("1.50"),
    "asset_data": {"price": 2},
    "created_at": NOW,
}


def test_the_feed_shows_a_scored_signal_in_the_same_order_of_keys() -> None:
    row = scored_row(Scored(**SCORED), CARD, 6)
    assert row.feed_data == (
        HEAD + '"asset_type":"crypto","asset_category":"crypto","symbol":"BTC","action":"sell","score":87,'
        '"reasoning":"because",'
        + PROVIDER
        + '"asset_data":{"price":2},'
        + COUNTS
        + '"event_type":"OPEN_SIGNAL","direction":"short","entry_price":1.5,'
        + UNVERIFIED
        + '"commentary":null,'
        '"received_at":"2026-02-15T12:34:56.789Z","retracted_at":null,"price":1.5}'
    )
    assert (row.tier, row.entry_price, row.size, row.factors, row.instrument) == (
        "HOT",
        Decimal("1.50"),
        None,
        None,
        None,
    )


def test_the_feed_shows_a_scored_option_that_is_closed() -> None:
    changes = {"price": None, "event_type": "CLOSE_SIGNAL", "asset_data": {"premium": 4.2}, "commentary": "Out."}
    row = scored_row(Scored(**SCORED | OPTION | changes), CARD, 6)
    assert row.feed_data == (
        HEAD + '"asset_type":"option","asset_category":"equities","symbol":"AAPL 195C 3/15","action":"sell","score":87,'
        '"reasoning":"because",'
        + PROVIDER
        + '"asset_data":{"premium":4.2},'
        + COUNTS
        + '"event_type":"CLOSE_SIGNAL","direction":"long","entry_price":4.2,'
        + UNVERIFIED
        + '"commentary":"Out.",'
        '"received_at":"2026-02-15T12:34:56.789Z","retracted_at":null}'
    )
    assert (row.direction, row.entry_price, row.instrument) == ("long", Decimal("4.2"), "AAPL 195C 2026-03-15")


def test_a_decision_is_announced_in_one_order_of_keys() -> None:
    item = decision_item(raw_signal(event_id=ID), "claude", make_decision(), NOW)
    assert (item.model, item.symbol, item.event_type) == ("claude", "BTC", "OPEN_SIGNAL")
    assert item.data.decode() == (
        '{"type":"decision","event_id":"018f0000-0000-7000-8000-000000000007","symbol":"BTC","event_type":"OPEN_SIGNAL",'
        '"model":"claude","decision":{"decision":"FOLLOW_ENTER","confidence":0.82,"entry_plan":{"type":"limit",'
        '"offset_bps":-5},"risk_plan":{"stop_method":"atr","atr_multiple":2.0},"size_pct":15,'
        '"reasons":["bullish_ema_alignment"]},"published_at":"2026-02-15T12:34:56.789Z"}'
    )


def test_the_enriched_document_has_all_that_was_computed_and_null_for_what_was_not() -> None:
    assert text(FEATURES.to_dict()) == (
        '{"age_seconds":1.25,"drift_bps":null,"failures":[{"message":"no answer","query":"candles_4h",'
        '"reason":"TIMEOUT"}],"feature_profile":"full_v1","frames":{"1h":{"atr_14":null,"close":42000.5,"ema_21":null,"ema_50":null,'
        '"ema_9":null,"macd":null,"macd_histogram":null,"macd_signal":null,"rsi_14":50.0}},"funding_rate":null,'
        '"hourly":{"channel_high":null,"channel_low":null,"macd_cross_age":1,"macd_histogram_previous":null,'
        '"percent_b":null,"percent_b_previous":null,"price_change":null,"rsi_14_previous":null,"volatility":null,'
        '"volume_change":null,"volume_ratio":null},"mark_price":null,"mid":42000.5,"open_interest":null,'
        '"order_book_imbalance":null,"price":42000.5,"quality_flags":{"missing_data":["mid"],"provider_errors":[],'
        '"stale_data":["signal"]},"quote":null,"resistance":null,"spread_bps":null,"support":null}'
    )


def test_a_raw_signal_is_kept_with_every_field() -> None:
    assert text(raw_signal(**OPTION).to_dict()) == (
        '{"asset_data":{"greeks":{"delta":0.5},"strike":195},"asset_type":"option","close_fraction":null,'
        '"commentary":null,"entry_price":42000.5,"event_id":"00000000-0000-0000-0000-000000000007",'
        '"event_type":"OPEN_SIGNAL","liquidation_price":null,"order":null,"signal_direction":"long","size":0.1,'
        '"source":"strategy_alpha","stop_loss":null,"symbol":"AAPL 195C 3/15","take_profit":null,'
        '"ts_utc":"2026-02-15T12:34:56.789Z","valid_until":null}'
    )
    terms = {"order_type": "limit", "take_profit": (43000.0, 44000.5), "stop_loss": 41000.0, "valid_until": NOW}
    document = raw_signal(**terms).to_dict()
    assert (document["order"], document["take_profit"], document["stop_loss"]) == ("limit", (43000.0, 44000.5), 41000.0)
    assert document["valid_until"] == "2026-02-15T12:34:56.789Z"
    assert RawSignal.from_dict(document).take_profit == (43000.0, 44000.5)


def test_a_fingerprint_stays_what_it_was() -> None:
    # It is compared with those that are stored, for a day.
    assert fingerprint(submit(event_id=ID, ts_utc=None, **OPTION)).hex() == "7bad8fd59b9f64c86b45fbd6b93d1a05"
    submission = submit(event_id=ID, ts_utc=NOW, idempotency_key="k", commentary="x")
    assert fingerprint(submission).hex() == "8c15272aae6d5ec91d368de7d16f05d2"
