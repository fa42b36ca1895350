"""Messages of other systems: scored signals are read, other messages dead-lettered, a full buffer drops some."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.ingest.acceptance import MOST_BYTES, MOST_MESSAGES
from actors.ingest.received import KEPT_BYTES, Received, lost, read
from actors.ingest.redis_channel import Buffer
from actors.lens.messages import Scored
from config import clock
from config.ids import derived_uuid7, time_of
from config.values import replace
from db.ingest import LostMessage
from schemas._vocabulary import PublicAction, values_of
from schemas.ingest import ACTIONS, MESSAGE_BYTES, load_scored, patch_scored, signal_id
from tests.support.scored import LIST_ITEM, message, scored

UUID_TEXT = "550e8400-e29b-41d4-a716-446655440000"
OPTION = {
    "asset_type": "option",
    "asset_category": "equities",
    "symbol": "AAPL 195C 3/15",
    "asset_data": {
        "underlying": "AAPL",
        "strike": 195.0,
        "option_type": "call",
        "expiry": "2026-03-15",
        "premium": 4.2,
    },
}
PREDICTION = {
    "asset_type": "prediction",
    "asset_category": "prediction",
    "symbol": "Fed Rate Cut March",
    "action": "yes",
    "asset_data": {"platform": "polymarket", "probability": 0.68},
}


def redis(data: bytes) -> Received:
    return Received.by_redis(data)


def signal(**changes: Any) -> Scored:
    outcome = read(redis(message(**changes)))
    assert isinstance(outcome, Scored), outcome
    return outcome


def refused(data: bytes) -> LostMessage:
    outcome = read(redis(data))
    assert isinstance(outcome, LostMessage), outcome
    return outcome


def test_the_documents_list_item_is_a_scored_signal() -> None:
    found = signal()
    assert found == Scored(
        id=signal_id("abc123"),
        asset_type="crypto",
        symbol="BTC",
        action="buy",
        score=87,
        confidence=None,
        reasoning=LIST_ITEM["reasoning"],
        source="crypto-king",
        provider_name="CryptoKing_42",
        price=None,
        asset_data={"price": 67420.0, "price_change_24h": 0.032},
        created_at=datetime(2026, 2, 15, 12, 34, 56, tzinfo=UTC),
        received_at=found.received_at,  # the time of arrival, not the message's own
    )


@pytest.mark.parametrize("changes", [OPTION, PREDICTION], ids=["option", "prediction"])
def test_the_documents_other_items_are_too(changes: dict[str, Any]) -> None:
    found = signal(**changes)
    assert (found.asset_type, found.symbol) == (changes["asset_type"], changes["symbol"])
    assert found.asset_data == changes["asset_data"]


def test_positions_of_items_are_read_too() -> None:
    """The kind: an import that drops a field of our own lists, so that a forwarded close becomes an opening."""
    closing = signal(
        event_type="CLOSE_SIGNAL", direction="long", action="sell", price=110, entry_price=109.5, commentary="Done."
    )
    assert (closing.event_type, closing.price, closing.entry_price) == ("CLOSE_SIGNAL", 110, Decimal("109.5"))
    assert closing.commentary == "Done."
    assert signal(entry_price=5).price == 5, "one price is both"
    plain = signal(event_type=None, commentary=None, entry_price=None)
    assert (plain.event_type, plain.commentary, plain.entry_price, plain.price) == ("OPEN_SIGNAL", None, None, None)
    wrong = {
        "event_type": {"event_type": "CLOSED"},
        "action": {"event_type": "CLOSE_SIGNAL", "action": "hold"},
        "commentary": {"commentary": "x" * 501},
        "entry_price": PREDICTION | {"entry_price": 0.5},  # its probability is another
        "price": PREDICTION | {"price": 1, "asset_data": {}},
    }
    for name, changes in wrong.items():
        assert f"{name}: " in refused(message(**changes)).attempts[0]["error_message"], name
    assert signal(**PREDICTION | {"price": 1, "asset_data": {}, "event_type": "CLOSE_SIGNAL"}).price == 1


def test_an_id_that_is_a_uuid_is_kept_and_any_other_always_gives_the_same() -> None:
    assert signal(id=UUID_TEXT).id == signal(id=UUID_TEXT.upper()).id == UUID(UUID_TEXT)
    assert signal(id="abc123").id == UUID("9287e476-54f2-5dab-b8f5-f51ae36ff297"), (
        "as ever: stored signals depend on it"
    )
    assert signal(id=42).id == signal(id="42").id


@given(st.text(min_size=1, max_size=200).filter(lambda text: text.strip() and "\0" not in text))
def test_every_id_gives_one_uuid(text: str) -> None:
    assert signal(id=text).id == signal_id(text) == signal_id(text)


def test_optional_fields_have_a_default() -> None:
    before = clock.now()
    least = {"id": "x", "symbol": "eth/usd", "action": "SELL", "score": 3, "provider_id": "king"}
    found = read(redis(orjson.dumps(least)))
    assert isinstance(found, Scored)
    assert (found.asset_type, found.symbol, found.action) == ("crypto", "ETH/USD", "sell")
    assert (found.source, found.provider_name, found.reasoning, found.asset_data) == ("king", "king", "", {})
    assert before - timedelta(milliseconds=1) <= found.created_at <= clock.now()
    nulls = dict.fromkeys(("price", "confidence", "reasoning", "provider", "asset_data", "created_at"))
    assert isinstance(read(redis(orjson.dumps({**least, **nulls, "asset_category": None}))), Scored)


def test_unknown_fields_are_ignored_but_not_within_the_assets_data() -> None:
    plain = signal()
    more = signal(signal_source="x", opportunity_score=3)
    assert replace(more, received_at=plain.received_at) == plain
    assert signal(provider={"id": "king", "rank": 1}).provider_name == "king"
    assert "asset_data.rank: unknown field" in _text(refused(message(asset_data={"rank": 1})))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"id": ...}, "id: is required"),
        ({"id": " "}, "id: must not be blank"),
        ({"id": "x" * 201}, "id: must have 1-200 characters"),
        ({"id": True}, "id: must be a string"),
        ({"symbol": ...}, "symbol: is required"),
        ({"symbol": "B T C"}, "symbol: must be 1-64 letters"),
        ({"action": "moon"}, "action: must be one of: buy, sell, hold, yes, no"),
        ({"action": "yes"}, "action: must be one of: buy, sell, hold"),
        ({"score": 101}, "score: must be between 0 and 100"),
        ({"score": -1}, "score: must be between 0 and 100"),
        ({"score": 0.87}, "score: must be an integer"),
        ({"score": "87"}, "score: must be an integer"),
        ({"score": None}, "score: must not be null"),
        ({"confidence": 1.5}, "confidence: must be between 0 and 1"),
        ({"price": 0}, "price: must be greater than 0"),
        (PREDICTION | {"price": 1}, "price: must be below 1"),
        (PREDICTION | {"price": 0.7}, "price: must agree with asset_data.probability"),
        (OPTION | {"symbol": "AAPL 200C 3/15"}, "asset_data.strike: must agree with the symbol"),
        (OPTION | {"symbol": "MSFT 195P 3/15"}, "asset_data.underlying: must agree with the symbol"),
        ({"asset_type": "bond"}, "asset_type: must be one of"),
        ({"asset_category": "forex"}, "asset_category: must be crypto for asset_type crypto"),
        ({"provider": ...}, "provider.id: is required"),
        ({"provider": {"name": "King"}}, "provider.id: is required"),
        ({"provider": "king"}, "provider: must be an object"),
        ({"provider_id": "queen"}, "provider_id: must be the same as provider.id"),
        ({"asset_data": {"price": "1"}}, "asset_data.price: must be a number"),
        ({"created_at": "2026-02-15T12:34:56"}, "created_at: must be an RFC 3339 time with an offset"),
        ({"created_at": "2999-01-01T00:00:00Z"}, "created_at: must not be in the future"),
        ({"reasoning": "x" * 5001}, "reasoning: must have at most 5000 characters"),
    ],
)
def test_a_message_that_is_none_names_the_field_and_is_kept(changes: dict[str, Any], text: str) -> None:
    dead_letter = refused(message(**changes))
    assert text in _text(dead_letter)
    assert dead_letter.attempts[0]["reason_code"] == "VALIDATION_ERROR"
    assert orjson.loads(dead_letter.payload) == orjson.loads(message(**changes))


def test_every_wrong_field_is_named_at_once() -> None:
    text = _text(refused(b"{}"))
    assert text == "id: is required; symbol: is required; action: is required; score: is required"


@pytest.mark.parametrize("score", [0, 100, 87.0, 1e2])
def test_a_score_may_be_written_as_a_float_without_a_fraction(score: float) -> None:
    found = signal(score=score).score
    assert (found, type(found)) == (score, int)


@pytest.mark.parametrize("asset_type", ["crypto", "prediction"])
@given(action=st.sampled_from(values_of(PublicAction)), shout=st.booleans())
def test_yes_and_no_are_of_predictions_only(asset_type: str, action: str, shout: bool) -> None:
    item = message(
        asset_type=asset_type, asset_category=..., asset_data=..., action=action.upper() if shout else action
    )
    assert isinstance(read(redis(item)), Scored) == (asset_type == "prediction" or action in ACTIONS)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "Message is empty"),
        (b"  \n", "Message is empty"),
        (b"BTC buy 87", "not valid JSON"),
        (b'{"id": "x"', "not valid JSON"),
        (b'[{"id": "x"}]', "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b'{"id": NaN}', "NaN is not a number"),
        (b'{"score": -Infinity}', "is not a number"),
        (b'{"id": "a", "id": "b"}', "more than once"),
        (b'{"id": "a\\u0000b"}', "NUL"),
        (b'{"id": "\\ud800"}', "surrogate"),
        (b"[" * 100_000, "bytes"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "deep"),
        (b'{"score": ' + b"9" * 5_000 + b"}", "too long"),
    ],
)
def test_a_message_that_is_no_json_object_is_kept_as_text(data: bytes, text: str) -> None:
    dead_letter = refused(data)
    assert text in _text(dead_letter)
    assert orjson.loads(dead_letter.payload)["raw"] == data.decode()


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b'{"id": "\x00"}', bytes(range(256))])
def test_a_message_that_is_no_text_is_kept_as_base64(data: bytes) -> None:
    dead_letter = refused(data)
    assert base64.b64decode(orjson.loads(dead_letter.payload)["raw_base64"]) == data


@pytest.mark.parametrize(
    "extra", [b'"x": ' + b"[" * 200 + b"]" * 200, b'"x": 1e400', b'"x": 1e-400', b'"x": ' + b"1" * 400]
)
def test_json_that_not_every_reader_takes_is_kept_as_text(extra: bytes) -> None:
    data = b'{"id": "x", ' + extra + b"}"
    assert orjson.loads(refused(data).payload) == {"raw": data.decode()}


def test_an_oversized_message_is_refused_unread_and_cut_only_past_a_mebibyte() -> None:
    exact = message(filler="x" * (MESSAGE_BYTES - len(message(filler=""))))
    assert len(exact) == MESSAGE_BYTES
    assert isinstance(read(redis(exact)), Scored)
    whole = refused(exact + b" ")
    assert f"{MESSAGE_BYTES + 1} bytes" in _text(whole)
    assert orjson.loads(whole.payload) == {"raw": exact.decode() + " "}
    cut = orjson.loads(refused(b"x" * (KEPT_BYTES + 1)).payload)
    assert (len(cut["raw"]), cut["bytes"]) == (KEPT_BYTES, KEPT_BYTES + 1)


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*LIST_ITEM, "x"]), inner, max_size=5)
        ),
        max_leaves=10,
    ).map(lambda value: orjson.dumps(value))
)
def test_every_message_is_a_signal_or_a_dead_letter_with_json_that_can_be_kept(data: bytes) -> None:
    outcome = read(redis(data))
    if isinstance(outcome, LostMessage):
        assert isinstance(orjson.loads(outcome.payload), dict)
        assert outcome.attempts[0]["error_message"]
        assert "\0" not in outcome.attempts[0]["error_message"]


@given(st.dictionaries(st.sampled_from(list(LIST_ITEM)), st.none() | st.integers() | st.text(max_size=30), max_size=4))
def test_a_signal_is_within_its_bounds_whatever_a_field_holds(changes: dict[str, Any]) -> None:
    outcome = read(redis(message(**{k: v for k, v in changes.items() if not isinstance(v, int) or abs(v) < 2**63})))
    if isinstance(outcome, Scored):
        assert 0 <= outcome.score <= 100
        assert outcome.action in values_of(PublicAction)
        assert 1 <= len(outcome.symbol) <= 100
        assert outcome.source.strip()


def test_a_message_of_kafka_that_comes_again_is_the_same_letter() -> None:
    sent_at = clock.now() - timedelta(hours=1)
    sent_ms = int(sent_at.timestamp() * 1000)
    one, again = (Received.by_kafka(b"x", "scored-signals/0@17", sent_ms) for _ in range(2))
    assert one.dead_letter_id == again.dead_letter_id == derived_uuid7(sent_ms, b"scored-signals/0@17")
    assert (one.dead_letter_id.version, time_of(one.dead_letter_id)) == (7, one.arrived_at)
    assert abs(one.arrived_at - sent_at) < timedelta(milliseconds=2)
    assert Received.by_kafka(b"x", "scored-signals/0@18", sent_ms).dead_letter_id != one.dead_letter_id


@pytest.mark.parametrize("milliseconds", [-1, 0, 2**47])
def test_a_producers_nonsense_time_is_replaced_by_ours(milliseconds: int) -> None:
    before = clock.now() - timedelta(milliseconds=1)
    assert before <= Received.by_kafka(b"x", "place", milliseconds).arrived_at <= clock.now()


def test_an_error_text_is_cut_and_storable() -> None:
    dead_letter = lost(redis(b"x"), "PUBLISH_ERROR", "\0" + "y" * 10_000)
    assert len(_text(dead_letter)) == 2_000
    assert "\0" not in _text(dead_letter)


def test_a_patch_is_laid_over_what_a_signal_has_and_no_more() -> None:
    patched = patch_scored(
        {"raw": "x", "score": 1, "provider": {"id": "a", "rank": Decimal("1e999")}}, {"score": 2, "y": 3}
    )
    assert patched == {"score": 2, "provider": {"id": "a"}}
    assert load_scored(patch_scored({"raw": "x"}, scored()))["score"] == 87


def test_a_full_buffer_drops_the_oldest_and_counts_them() -> None:
    buffer = Buffer(most_messages=3)
    messages = [redis(b"%d" % n) for n in range(5)]
    for each in messages:
        buffer.put(each)
    assert (len(buffer), buffer.dropped) == (3, 2)
    assert buffer.take() == messages[2:]
    assert (len(buffer), buffer.take()) == (0, [])


def test_a_buffer_is_bounded_in_bytes_but_takes_one_of_any_size() -> None:
    buffer = Buffer(most_bytes=10)
    for size in (4, 4, 4, 11, 4):
        buffer.put(redis(b"x" * size))
    assert (len(buffer), buffer.dropped) == (1, 4)
    buffer.put(redis(b"x" * 6))
    assert (len(buffer), buffer.dropped) == (2, 4)


def test_messages_taken_at_once_are_bounded_too() -> None:
    buffer = Buffer()
    for _ in range(MOST_MESSAGES + 1):
        buffer.put(redis(b"x"))
    assert [len(buffer.take()), len(buffer.take())] == [MOST_MESSAGES, 1]
    for _ in range(3):
        buffer.put(redis(b"x" * (MOST_BYTES // 2)))
    assert [len(buffer.take()), len(buffer.take())] == [2, 1]


def _text(dead_letter: LostMessage) -> str:
    text: str = dead_letter.attempts[0]["error_message"]
    return text


def test_a_message_that_a_bug_of_ours_trips_over_is_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Scored:
        raise RuntimeError("a bug")

    monkeypatch.setattr("actors.ingest.received.as_scored", fail)
    [attempt] = refused(message()).attempts
    assert (attempt["reason_code"], attempt["error_message"]) == ("INTERNAL_ERROR", "RuntimeError: a bug")
    assert "a message of redis cannot be read" in caplog.text
