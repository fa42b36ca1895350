"""The wire form between the publish stage and the gateways."""

from __future__ import annotations

import pytest

from schemas.feed import FeedDecision, FeedSignal, decode_batch, decode_decisions, encode_batch, encode_decisions

SIGNALS = [
    FeedSignal(7, "crypto", "crypto", 87, "0190-a", b'{"id":"a","note":"\xc3\xa9\\n"}'),
    FeedSignal(8, "equities", "option", 0, "0190-b", b"{}"),
    FeedSignal(9, "crypto", "crypto", 87, "0190-a", b'{"signal_id":"a"}', "retraction"),
]
DECISIONS = [
    FeedDecision("technical", "BTC", "OPEN_SIGNAL", b'{"type":"decision"}'),
    FeedDecision("claude", "EUR/USD", "CLOSE_SIGNAL", b'{"type":"decision","n":2}'),
]


def test_a_batch_of_signals_survives_the_wire() -> None:
    assert decode_batch(encode_batch(SIGNALS)) == SIGNALS
    assert decode_batch(encode_batch([])) == []


def test_a_batch_of_decisions_survives_the_wire() -> None:
    assert decode_decisions(encode_decisions(DECISIONS)) == DECISIONS


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[]",
        b"nonsense\n",
        b"[1]\n",
        b"[[1,2]]\n{}",
        b'[[7,"crypto","crypto",87,"p","signal",2]]\n{}{}',
        b'[[7,"crypto","crypto",87,"p","signal",3]]\n{}',
        b'[[7,"crypto","crypto",87,"p","signal",-2]]\n{}',
        b'[[7,"crypto","crypto",87,"p","signal","2"]]\n{}',
        b"\xff\n{}",
        encode_decisions(DECISIONS),
    ],
)
def test_bytes_that_are_no_batch_of_signals_are_a_value_error(message: bytes) -> None:
    with pytest.raises(ValueError, match="feed message"):
        decode_batch(message)


def test_bytes_that_are_no_batch_of_decisions_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="feed message"):
        decode_decisions(encode_batch(SIGNALS))
