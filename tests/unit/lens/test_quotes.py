"""Test which quote is a signal's, what is no price, and what an option is called and worth."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from actors.lens.market.options import intrinsic_value, occ_symbol
from actors.lens.market.quotes import (
    Bar,
    PricedInstrument,
    QuoteRule,
    best_of,
    checked_bars,
    complete_minutes,
    first_minute_ms,
    use_of,
)
from actors.lens.quote import VenueQuote
from schemas._vocabulary import AssetType

RECEIVED = datetime(2026, 9, 21, 14, 30, tzinfo=UTC)
ONE = Decimal(1)


def quote_at(seconds: float) -> VenueQuote:
    return VenueQuote(ONE, ONE, ONE, RECEIVED + timedelta(seconds=seconds), "binance")


def bar(minute: int, **changes: Decimal) -> Bar:
    prices = {"open": ONE, "high": ONE, "low": ONE, "close": ONE, "volume": ONE} | changes
    return Bar(minute * 60_000, **prices)


@pytest.mark.parametrize(
    ("quoted", "asked", "use"),
    [
        (0.0, 0.0, "use"),
        (-5.0, 0.0, "use"),
        (-5.001, 0.0, "wait"),
        (-5.001, 1.999, "wait"),
        (-5.001, 2.0, "give_up"),
        (1.5, 1.6, "use"),  # a newer one, waited for
        (2.0, 2.5, "use"),
        (2.001, 0.0, "wait"),  # a venue whose clock is ahead: not a price of the receipt
        (2.001, 2.0, "give_up"),
        (None, 0.5, "wait"),
        (None, 2.0, "give_up"),
        (-3600.0, 3600.0, "give_up"),
    ],
)
def test_a_quote_is_of_the_receipt_or_waited_for(quoted: float | None, asked: float, use: str) -> None:
    quote = None if quoted is None else quote_at(quoted)
    assert use_of(quote, RECEIVED, RECEIVED + timedelta(seconds=asked)) == use


def test_the_rule_is_data() -> None:
    strict = QuoteRule(max_age=timedelta(seconds=1), wait=timedelta(0))
    assert use_of(quote_at(-2), RECEIVED, RECEIVED) == "use"
    assert use_of(quote_at(-2), RECEIVED, RECEIVED, strict) == "give_up"


@pytest.mark.parametrize(
    ("asset_type", "bid", "ask", "problem"),
    [
        ("crypto", "-1", "1", "a price of zero or less"),
        ("crypto", "1", "-1", "a price of zero or less"),
        ("stock", "2", "1", "a crossed market"),
        ("stock", "NaN", "1", "a price that is not finite"),
        ("stock", "1", "Infinity", "a price that is not finite"),
        ("forex", "1", "1E+16", "a price beyond all prices"),
        ("forex", "1E-19", "1", "a price beyond all prices"),
        ("prediction", "0.5", "1.01", "a probability above 1"),
        ("option", "-0.01", "1", "a price of zero or less"),
    ],
)
def test_an_implausible_quote_is_refused(asset_type: AssetType, bid: str, ask: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        VenueQuote.checked(asset_type, Decimal(bid), Decimal(ask), RECEIVED, "binance")


@pytest.mark.parametrize(
    ("asset_type", "bid", "ask"),
    [("crypto", None, "1"), ("crypto", "1", None), ("stock", "0", "1"), ("option", "0", "0"), ("prediction", "0", "1")],
)
def test_a_market_with_an_empty_side_has_no_quote(asset_type: AssetType, bid: str | None, ask: str | None) -> None:
    sides = [None if side is None else Decimal(side) for side in (bid, ask)]
    assert VenueQuote.checked(asset_type, sides[0], sides[1], RECEIVED, "binance") is None


def test_the_middle_is_exact_and_the_time_is_utc() -> None:
    at = datetime.fromisoformat("2026-09-21T16:30:00+02:00")
    quote = VenueQuote.checked("crypto", Decimal("0.1"), Decimal("0.3000000000000000001"), at, "binance")
    assert quote is not None
    assert str(quote.mid) == "0.20000000000000000005"
    assert quote.at == RECEIVED
    assert quote.at.tzinfo is UTC


def test_the_best_of_a_book_is_found_in_any_order() -> None:
    bids = [Decimal("0.1"), Decimal("0.3"), Decimal("0.2")]
    assert best_of(bids, [Decimal("0.9"), Decimal("0.4")]) == (Decimal("0.3"), Decimal("0.4"))
    assert best_of([], []) == (None, None)
    with pytest.raises(ValueError, match="above 1"):
        best_of(bids, [Decimal("0.4"), Decimal("1.1")])


@pytest.mark.parametrize(
    "bars",
    [
        [bar(1), bar(1)],
        [bar(2), bar(1)],
        [bar(1, high=Decimal("0.9"))],
        [bar(1, low=Decimal("1.1"))],
        [bar(1, volume=Decimal(-1))],
        [bar(1, volume=Decimal("NaN"))],
        [bar(1, low=Decimal(0))],
    ],
)
def test_implausible_candles_are_refused(bars: list[Bar]) -> None:
    with pytest.raises(ValueError, match=r"candle|price"):
        checked_bars("crypto", bars)


def test_minutes_are_complete_and_open_at_full_minutes() -> None:
    at = datetime.fromtimestamp(600, UTC)
    assert first_minute_ms(at) == 600_000
    assert first_minute_ms(at + timedelta(milliseconds=1)) == 660_000
    bars = [bar(minute) for minute in (9, 10, 11, 12)]
    now = datetime.fromtimestamp(12 * 60 + 59.9, UTC)
    assert [each.opened_ms // 60_000 for each in complete_minutes("crypto", bars, 600_000, now)] == [10, 11]
    with pytest.raises(ValueError, match="did not open when minutes do"):
        complete_minutes("crypto", [Bar(601_000, ONE, ONE, ONE, ONE, ONE)], 600_000, now)


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("AAPL 195C 12/18", "AAPL261218C00195000"),
        ("SPY 412.5P 12/18/2026", "SPY261218P00412500"),
        ("F 0.005C 12/18", "F261218C00000005"),
        ("X 99999.999P 12/18", "X261218P99999999"),
        ("X 100000P 12/18", None),
        ("X 0.0005P 12/18", None),
        ("BRK.B 400C 12/18", None),
        ("TOOLONG 1C 12/18", None),
        ("AAPL", None),
    ],
)
def test_an_option_is_named_as_its_exchange_does(symbol: str, name: str | None) -> None:
    assert occ_symbol(symbol, date(2026, 12, 18)) == name


@pytest.mark.parametrize(
    ("symbol", "underlying", "value"),
    [
        ("AAPL 195C 12/18", "200.25", "5.25"),
        ("AAPL 195C 12/18", "195", "0"),
        ("AAPL 195C 12/18", "190", "0"),
        ("AAPL 195P 12/18", "190.5", "4.5"),
        ("AAPL 195P 12/18", "200", "0"),
    ],
)
def test_an_option_expires_at_what_it_is_worth_then(symbol: str, underlying: str, value: str) -> None:
    assert intrinsic_value(symbol, Decimal(underlying)) == Decimal(value)


def test_an_instrument_has_what_its_symbol_does_not_say() -> None:
    option = PricedInstrument.of("AAPL 195C 3/15", "option", None, RECEIVED)
    assert option.expiry == date(2027, 3, 15)
    assert PricedInstrument.of("AAPL 195C 3/15", "option", {"expiry": "2028-03-15"}, RECEIVED).expiry == date(
        2028, 3, 15
    )
    data = {"platform": "kalshi", "market_id": "KX", "expiry": "2028-03-15"}
    dated = PricedInstrument.of("x", "prediction", data | {"resolution_date": "2026-12-31"}, RECEIVED)
    assert dated == PricedInstrument("prediction", "x", None, "kalshi", "KX", date(2026, 12, 31))
    assert PricedInstrument.of("x", "prediction", {"resolution_date": "soon"}, RECEIVED).resolves is None
    assert PricedInstrument.of("x", "prediction", None, RECEIVED) == PricedInstrument("prediction", "x")
    assert PricedInstrument.of("x", "prediction", data, RECEIVED) == PricedInstrument(
        "prediction", "x", None, "kalshi", "KX"
    )
    assert PricedInstrument.of("BTC", "crypto", data, RECEIVED) == PricedInstrument("crypto", "BTC")
