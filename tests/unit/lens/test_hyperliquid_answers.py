"""Hyperliquid's answers: good ones are read, bad ones refused with a reason."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lens.market._hyperliquid_answers import Contexts, Mids, candles_of, order_book_of
from actors.lens.model import AssetContext, Candles, OrderBook, Quote

HOUR_MS = 3_600_000
NOW_MS = 472_000 * HOUR_MS + 900_000

CONTEXTS = [
    {"universe": [{"name": "BTC", "szDecimals": 5}, {"name": "kPEPE", "szDecimals": 0, "isDelisted": True}]},
    [
        {"funding": "-0.0000886", "openInterest": "0.22168", "markPx": "28429.3", "midPx": "28429.0"},
        {"funding": "0.0", "openInterest": "0.0", "markPx": "0.0016", "midPx": None, "premium": None},
    ],
]
BOOK = {
    "coin": "BTC",
    "time": NOW_MS - 50,
    "levels": [
        [{"px": "19900", "sz": "1", "n": 1}, {"px": "19800", "sz": "2.5", "n": 2}],
        [{"px": "20100", "sz": "0.5", "n": 1}, {"px": "20200", "sz": "2", "n": 2}],
    ],
}


def candle(opened_ms: int, **changes: Any) -> dict[str, Any]:
    fields = {"o": "10.0", "c": "10.5", "h": "11.0", "l": "9.5", "v": "1234.5", "n": 7, "s": "BTC", "i": "1h"}
    return {"t": opened_ms, "T": opened_ms + HOUR_MS - 1} | fields | changes


def hours(count: int) -> list[dict[str, Any]]:
    last_ms = NOW_MS // HOUR_MS * HOUR_MS
    return [candle(last_ms - ago * HOUR_MS) for ago in reversed(range(count))]


def test_mids_are_read_by_coin_at_the_time_of_the_answer() -> None:
    mids = Mids({"BTC": "97012.5", "@1": "13.4", "DEAD": None}, NOW_MS)
    assert mids.quote("BTC") == Quote(97012.5, NOW_MS)
    assert mids.quote("DEAD") is None
    assert mids.quote("ETH") is None
    assert mids.names == ["BTC", "@1", "DEAD"]


@pytest.mark.parametrize("document", [None, [], {}, "BTC", 5, [["BTC", "1"]]])
def test_mids_that_are_no_object_of_coins_are_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="no object of coins"):
        Mids(document, NOW_MS)


@pytest.mark.parametrize("mid", ["NaN", "-1", "0", "inf", "1e999", "abc", "", [], {}])
def test_nonsense_about_one_coin_leaves_the_mids_of_the_others(mid: Any) -> None:
    mids = Mids({"BTC": "97012.5", "ETH": mid}, NOW_MS)
    with pytest.raises(ValueError, match="a mid"):
        mids.quote("ETH")
    assert mids.quote("BTC") is not None


def test_contexts_are_matched_with_the_universe_by_place() -> None:
    contexts = Contexts(CONTEXTS)
    assert contexts.context("BTC") == AssetContext(-0.0000886, 0.22168, 28429.3)
    assert contexts.context("kPEPE") == AssetContext(0.0, 0.0, 0.0016)
    assert contexts.context("PURR/USDC") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda contexts: contexts[1].pop(), "do not match their universe"),
        (lambda contexts: contexts.pop(), "no pair"),
        (lambda contexts: contexts[0].pop("universe"), "do not match"),
        (lambda contexts: contexts[0]["universe"][0].pop("name"), "without a name"),
    ],
)
def test_contexts_of_a_wrong_shape_are_refused(change: Any, message: str) -> None:
    document = copy.deepcopy(CONTEXTS)
    change(document)
    with pytest.raises(ValueError, match=message):
        Contexts(document)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("markPx", "-3", "mark price of zero or less"),
        ("openInterest", "-1", "open interest below zero"),
        ("funding", "nan", "funding rate that is not finite"),
        ("funding", {}, "funding rate that is no number"),
    ],
)
def test_nonsense_in_one_context_is_that_coins_alone(field: str, value: Any, message: str) -> None:
    document: Any = copy.deepcopy(CONTEXTS)
    document[1][0][field] = value
    contexts = Contexts(document)
    with pytest.raises(ValueError, match=message):
        contexts.context("BTC")
    assert contexts.context("kPEPE") is not None


def test_a_context_without_a_field_is_refused_and_a_null_is_none() -> None:
    document: Any = copy.deepcopy(CONTEXTS)
    document[1][0]["funding"] = None
    del document[1][1]["markPx"]
    contexts = Contexts(document)
    assert contexts.context("BTC") == AssetContext(None, 0.22168, 28429.3)
    with pytest.raises(ValueError, match="without its markPx"):
        contexts.context("kPEPE")


def test_a_book_is_read_best_level_first_at_the_venues_time() -> None:
    book = order_book_of(BOOK, "BTC", NOW_MS)
    assert book is not None
    assert book.bids == ((19900.0, 1.0), (19800.0, 2.5))
    assert book.asks == ((20100.0, 0.5), (20200.0, 2.0))
    assert book.as_of_ms == NOW_MS - 50
    assert order_book_of(None, "BTC", NOW_MS) is None


def test_a_book_may_lack_a_side() -> None:
    book = order_book_of({**BOOK, "levels": [BOOK["levels"][0], []]}, "BTC", NOW_MS)  # type: ignore[index]
    assert book is not None
    assert book.asks == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda book: book["levels"][0].reverse(), "not sorted"),
        (lambda book: book["levels"][1].reverse(), "not sorted"),
        (lambda book: book["levels"][0][0].update(px="20100"), "crossed"),
        (lambda book: book["levels"].pop(), "two sides"),
        (lambda book: book.pop("levels"), "without its levels"),
        (lambda book: book.pop("time"), "without its time"),
        (lambda book: book.update(time="soon"), "without its time"),
        (lambda book: book.update(coin="ETH"), "another coin"),
        (lambda book: book["levels"][0][0].update(px="-19900"), "zero or less"),
        (lambda book: book["levels"][0][0].update(sz="NaN"), "not finite"),
        (lambda book: book["levels"][0][0].pop("sz"), "without its sz"),
        (lambda book: book["levels"].__setitem__(0, {}), "no list"),
        (lambda book: book["levels"][0].__setitem__(0, 5), "no object"),
    ],
)
def test_a_book_that_cannot_be_true_is_refused(change: Any, message: str) -> None:
    document = copy.deepcopy(BOOK)
    change(document)
    with pytest.raises(ValueError, match=message):
        order_book_of(document, "BTC", NOW_MS)


def test_candles_are_read_as_shared_rows_oldest_first() -> None:
    rows = hours(3)
    rows[2]["c"] = "10.75"
    candles = candles_of(rows, "BTC", "1h", NOW_MS)
    assert candles is not None
    assert candles.last_open_ms == NOW_MS // HOUR_MS * HOUR_MS
    assert candles.ohlcv[:, -1].tolist() == [10.0, 11.0, 9.5, 10.75, 1234.5]
    assert candles.ohlcv.flags.c_contiguous
    assert not candles.ohlcv.flags.writeable


def test_only_the_newest_three_hundred_candles_are_kept() -> None:
    candles = candles_of(hours(350), "BTC", "1h", NOW_MS)
    assert candles is not None
    assert len(candles) == 300


def test_no_candles_are_no_data() -> None:
    assert candles_of([], "BTC", "1h", NOW_MS) is None
    assert candles_of(None, "BTC", "1h", NOW_MS) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.reverse(), "out of order"),
        (lambda rows: rows.insert(1, rows[1]), "doubled"),
        (lambda rows: rows[1].update(t=rows[1]["t"] + 1), "not of their interval"),
        (lambda rows: rows[1].update(s="ETH"), "another coin"),
        (lambda rows: rows[1].update(i="4h"), "another coin or interval"),
        (lambda rows: rows[1].pop("c"), "all of its numbers"),
        (lambda rows: rows[1].update(o="abc"), "all of its numbers"),
        (lambda rows: rows[1].update(o=["1"]), "all of its numbers"),
        (lambda rows: rows[1].update(t=None), "all of its numbers"),
        (lambda rows: rows[1].update(t=1 << 80), "all of its numbers"),
        (lambda rows: rows.__setitem__(1, 5), "all of its numbers"),
        (lambda rows: rows[1].update(o=None), "not finite"),
        (lambda rows: rows[1].update(l="NaN"), "not finite"),
        (lambda rows: rows[1].update(l="-1"), "zero or less"),
        (lambda rows: rows[1].update(v="-1"), "negative volume"),
        (lambda rows: rows[1].update(h="10.1"), "enclose"),
        (lambda rows: [row.update(t=row["t"] + 60_000) for row in rows], "when candles do"),
        (lambda rows: [row.update(t=row["t"] + 5 * HOUR_MS) for row in rows], "when candles do"),
    ],
)
def test_candles_that_cannot_be_true_are_refused(change: Any, message: str) -> None:
    rows = hours(5)
    change(rows)
    with pytest.raises(ValueError, match=message):
        candles_of(rows, "BTC", "1h", NOW_MS)


def test_candles_that_the_venue_left_out_stand_at_the_close_before_without_volume() -> None:
    """The kind: a quiet market, or one missing candle, for which the whole interval is dropped."""
    rows = hours(6)
    rows[1].update(c="10.75", h="11.5")
    del rows[2:4]
    candles = candles_of(rows, "BTC", "1h", NOW_MS)
    assert candles is not None
    assert (len(candles), candles.filled) == (6, 2)
    assert candles.ohlcv[:, 2].tolist() == candles.ohlcv[:, 3].tolist() == [10.75, 10.75, 10.75, 10.75, 0.0]
    assert candles.ohlcv[:, 4].tolist() == [10.0, 11.0, 9.5, 10.5, 1234.5]
    assert candles.last_open_ms == NOW_MS // HOUR_MS * HOUR_MS
    assert not candles.ohlcv.flags.writeable


@pytest.mark.parametrize(("gap", "filled"), [(5, 5), (299, 298), (5_000_000, 298)])
def test_a_gap_is_filled_as_far_as_candles_are_kept(gap: int, filled: int) -> None:
    rows = hours(3)
    rows[0]["t"] -= gap * HOUR_MS
    candles = candles_of(rows, "BTC", "1h", NOW_MS)
    assert candles is not None
    assert candles.filled == filled
    assert len(candles) == min(gap + 3, 300)
    assert candles.ohlcv[4, -2:].tolist() == [1234.5, 1234.5]


@pytest.mark.parametrize("document", [{}, "candles", 5, True])
def test_candles_that_are_no_list_are_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="no list"):
        candles_of(document, "BTC", "1h", NOW_MS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["coin", "time", "levels", "px", "sz", "t", "s", "i", "o", "h", "l", "c", "v", "universe", "name"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_an_answer_or_refused(document: Any) -> None:
    refusals = (ValueError, TypeError, LookupError, AttributeError, OverflowError)  # the adapter's too
    for read in (
        lambda: order_book_of(document, "BTC", NOW_MS),
        lambda: candles_of(document, "BTC", "1h", NOW_MS),
        lambda: Mids(document, NOW_MS).quote("BTC"),
        lambda: Contexts(document).context("BTC"),
    ):
        try:
            answer: Any = read()
        except refusals:
            continue
        assert isinstance(answer, OrderBook | Candles | Quote | AssetContext | None)
