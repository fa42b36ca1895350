"""Convert a venue's answers about a contract on many units of a coin, as Hyperliquid's `kPEPE`, to one unit."""

from __future__ import annotations

from actors.lens.market.quotes import Bar
from actors.lens.model import AssetContext, MarketSnapshot, OrderBook, Quote
from actors.lens.quote import VenueQuote
from config.values import replace


def quote_of_one(quote: VenueQuote, power: int) -> VenueQuote:
    """Return the quote of one unit, of a contract on 10^power of them."""
    bid, ask, mid = (each.scaleb(-power) for each in (quote.bid, quote.ask, quote.mid))
    return replace(quote, bid=bid, ask=ask, mid=mid)


def bar_of_one(bar: Bar, power: int) -> Bar:
    """Return the candle of one unit."""
    opened, high, low, close = (each.scaleb(-power) for each in (bar.open, bar.high, bar.low, bar.close))
    return Bar(bar.opened_ms, opened, high, low, close, bar.volume.scaleb(power))


def snapshot_of_one(snapshot: MarketSnapshot, power: int) -> MarketSnapshot:
    """Return the market data of one unit, whose candles are shared with those who ask for the contract."""
    units = 10.0**power
    quote, book, context, exact = snapshot.quote, snapshot.order_book, snapshot.asset_context, snapshot.venue_quote
    return replace(
        snapshot,
        quote=None if quote is None else Quote(quote.mid / units, quote.as_of_ms),
        order_book=None if book is None else _book_of_one(book, units),
        asset_context=None if context is None else _context_of_one(context, units),
        candle_unit=snapshot.candle_unit / units,
        venue_quote=None if exact is None else quote_of_one(exact, power),
    )


def _book_of_one(book: OrderBook, units: float) -> OrderBook:
    bids, asks = (tuple((price / units, size * units) for price, size in side) for side in (book.bids, book.asks))
    return OrderBook(bids, asks, book.as_of_ms)


def _context_of_one(context: AssetContext, units: float) -> AssetContext:
    interest, mark = context.open_interest, context.mark_price
    return AssetContext(
        context.funding_rate, None if interest is None else interest * units, None if mark is None else mark / units
    )
