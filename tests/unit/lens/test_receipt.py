"""The quote of a signal's receipt: which is used, which is waited for, and the price that counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import Bar, Declaration, PricedInstrument, Resolution
from actors.lens.market.receipt import priced, quote_at_receipt, quotes_at_receipt, receipt_quote
from actors.lens.market.source import PricesByType
from actors.lens.quote import VenueQuote
from config import clock
from schemas._vocabulary import Side

BTC = PricedInstrument("crypto", "BTC")
SECOND = timedelta(seconds=1)


class Venue:
    """A source that gives these answers one after another, and then the last one again."""

    def __init__(self, *answers: VenueQuote | CallFailed | None, seconds: float = 0.0) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.seconds = seconds

    async def quote(self, _: PricedInstrument) -> VenueQuote | None:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, CallFailed):
            raise answer
        return answer

    async def minutes(self, _: PricedInstrument, __: datetime) -> Sequence[Bar]:
        return ()

    async def resolution(self, _: PricedInstrument) -> Resolution | None:
        return None

    async def close(self) -> None:
        pass


def quoted(at: datetime) -> VenueQuote:
    return VenueQuote(Decimal(99), Decimal(101), Decimal(100), at, "venue")


async def found(venue: Venue, received_at: datetime) -> VenueQuote | None:
    return await quote_at_receipt(PricesByType({"crypto": venue}), BTC, received_at)


async def test_a_young_quote_is_used_at_once() -> None:
    now = clock.now()
    quote = quoted(now - 4 * SECOND)
    assert await found(Venue(quote), now) == quote


async def test_an_old_quote_and_a_failure_are_waited_out() -> None:
    now = clock.now()
    newer = quoted(now + SECOND / 2)
    venue = Venue(quoted(now - 6 * SECOND), CallFailed("NETWORK_ERROR", "refused"), newer)
    assert await found(venue, now) == newer
    assert venue.asked == 3


@pytest.mark.parametrize("venue", [Venue(quoted(clock.now() - 60 * SECOND)), Venue(None, seconds=60)])
async def test_after_two_seconds_the_signal_goes_on_without(venue: Venue) -> None:
    started = time.monotonic()
    assert await found(venue, clock.now()) is None
    assert 1.8 < time.monotonic() - started < 4


async def test_nothing_is_asked_long_after_the_receipt_nor_again_where_there_is_no_such_instrument() -> None:
    venue = Venue(quoted(clock.now()))
    assert await found(venue, clock.now() - 3 * SECOND) is None
    assert venue.asked == 0
    venue = Venue(None)
    assert await found(venue, clock.now()) is None
    assert venue.asked == 1


async def test_the_quotes_of_many_signals_are_waited_for_together() -> None:
    now = clock.now()
    venue = Venue(quoted(now), seconds=0.5)
    started = time.monotonic()
    quotes = await quotes_at_receipt(PricesByType({"crypto": venue}), [Declaration(BTC, Decimal(1), now)] * 100)
    assert quotes == [quoted(now)] * 100
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    ("declared", "side", "opens", "counts"),
    [
        (98, "long", True, 101),
        (102, "long", True, 102),
        (102, "short", True, 99),
        (98, "short", True, 98),
        (102, "long", False, 99),
        (98, "long", False, 98),
        (98, "short", False, 101),
        (None, "long", True, None),
        (98, None, True, None),
    ],
)
def test_the_worse_price_counts(declared: int | None, side: Side | None, opens: bool, counts: int | None) -> None:
    quote = receipt_quote(quoted(clock.now()), BTC)
    price = None if declared is None else Decimal(declared)
    assert priced(quote, price, side, opens=opens).record_price == (None if counts is None else Decimal(counts))
