"""The messages that a Lens socket's client may send."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.stream import DecisionFilter, Ping, Pong, SocketProblem, Subscribe, Unsubscribe, parse_command


def problem(document: dict[str, Any]) -> tuple[str, str]:
    """Return the error that a message is answered with."""
    with pytest.raises(SocketProblem) as refused:
        parse_command(orjson.dumps(document).decode())
    return refused.value.code, refused.value.message


def command(document: dict[str, Any]) -> object:
    return parse_command(orjson.dumps(document).decode())


def test_a_field_that_no_command_has_is_refused_by_name() -> None:
    misspelled = {"action": "subscribe", "filter": {"symbol": "BTC"}}
    assert problem(misspelled) == ("INVALID_MESSAGE", "Unknown field: filter")
    assert problem({"action": "subscribe", "symbol": "BTC"}) == ("INVALID_MESSAGE", "Unknown field: symbol")
    assert problem({"action": "unsubscribe", "filters": {}}) == ("INVALID_MESSAGE", "Unknown field: filters")
    assert problem({"action": "subscribe", "type": "ping"}) == ("INVALID_MESSAGE", "Unknown field: type")
    code, message = problem({"action": "subscribe", "x" * 10_000: 1})
    assert code == "INVALID_MESSAGE"
    assert len(message) < 200


def test_a_heartbeat_may_carry_more() -> None:
    assert command({"type": "ping", "at": 1}) == Ping()
    assert command({"type": "pong", "at": 1}) == Pong()
    assert command({"action": "unsubscribe"}) == Unsubscribe()


@pytest.mark.parametrize("symbol", ["", " ", " BTC", "BTC\n", "a\tb", "x" * 101, "\u200b"])
def test_a_symbol_that_nothing_can_have_is_no_filter(symbol: str) -> None:
    code, message = problem({"action": "subscribe", "filters": {"symbol": ["BTC", symbol]}})
    assert code == "INVALID_FILTER"
    assert message.startswith("No symbol is like this: ")


@pytest.mark.parametrize("symbol", ["btc", "EUR/USD", "AAPL 195C 3/15", "Fed Rate Cut March", "¿Lluvia mañana?"])
def test_a_symbol_of_any_asset_type_is_a_filter(symbol: str) -> None:
    filters = {"symbol": symbol}
    expected = Subscribe(DecisionFilter(symbols=frozenset({symbol.upper()})), filters)
    assert command({"action": "subscribe", "filters": filters}) == expected
