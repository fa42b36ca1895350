"""Find the quotes at the receipt of signals, within `quotes.RECEIPT`, and the prices that count for records."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import RECEIPT, Declaration, PricedInstrument, use_of
from actors.lens.market.source import PricesByType
from actors.lens.quote import ReceiptQuote, VenueQuote
from actors.records.returns import Touch, buys, record_price
from config import clock
from config.values import replace
from schemas._vocabulary import Side
from schemas.errors import Unavailable

ASK_AGAIN_SECONDS: Final = 0.25


async def quote_at_receipt(
    prices: PricesByType, instrument: PricedInstrument, received_at: datetime
) -> VenueQuote | None:
    """Return the quote of a signal's receipt, waiting for one while the rule allows it; None: it stays unverified."""
    while (left := (received_at + RECEIPT.wait - clock.now()).total_seconds()) > 0:
        try:
            async with asyncio.timeout(left):
                quote = await prices.quote(instrument)
        except TimeoutError:
            return None
        except (CallFailed, Unavailable):
            pass  # the venue may answer in a moment
        else:
            if quote is None:  # there is none, or no such instrument
                return None
            if use_of(quote, received_at, clock.now()) == "use":
                return quote
        await asyncio.sleep(min(ASK_AGAIN_SECONDS, left))
    return None


async def quotes_at_receipt(prices: PricesByType, declarations: Sequence[Declaration]) -> list[VenueQuote | None]:
    """Return the quotes of many signals, all waited for at once."""
    with contextlib.suppress(Unavailable):  # then those that are new in the simulated market have no quote
        await prices.declare(declarations)
    return await asyncio.gather(*(quote_at_receipt(prices, each.instrument, each.at) for each in declarations))


def receipt_quote(quote: VenueQuote, instrument: PricedInstrument) -> ReceiptQuote:
    """Return a venue's quote as that of a signal's receipt."""
    return ReceiptQuote(quote.bid, quote.ask, quote.mid, quote.at, quote.source, instrument.key)


def priced(quote: ReceiptQuote, declared: Decimal | None, side: Side | None, *, opens: bool) -> ReceiptQuote:
    """Return the quote with the price that counts for a signal that opens or closes a position of this side."""
    if declared is None or side is None:
        return replace(quote, record_price=None)
    counts = record_price(declared, Touch(quote.bid, quote.ask), is_buy=buys(side, opens=opens))
    return replace(quote, record_price=counts)
