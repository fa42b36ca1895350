"""Define the quotes of markets, exact as their sources wrote them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from config.values import Value
from schemas._vocabulary import AssetType

_LEAST_EXPONENT: Final = -18
_GREATEST_EXPONENT: Final = 15  # the range of prices in signals


class VenueQuote(Value):
    """The best bid and ask of a market at one moment, `bid` ≤ `ask`, and their middle.

    `at` is the venue's own time where it gives one, else the time of receipt. `source` is a name of `MARKET_DATA`.
    """

    bid: Decimal
    ask: Decimal
    mid: Decimal
    at: datetime
    source: str

    @classmethod
    def checked(
        cls, asset_type: AssetType, bid: Decimal | None, ask: Decimal | None, at: datetime, source: str
    ) -> VenueQuote | None:
        """Return the quote after checking that it is plausible, None of a market with an empty side: for adapters.

        Venues write an empty side as nothing or as 0; an option's bid of 0 says what it is worth. Raises ValueError.
        """
        if not ask or bid is None or (not bid and asset_type != "option"):
            return None
        for price in (bid, ask):
            check_price(asset_type, price)
        if bid > ask:
            raise ValueError("a crossed market")
        return cls(bid, ask, (bid + ask) / 2, at.astimezone(UTC), source)


class ReceiptQuote(Value):
    """The market at a signal's receipt, exact as its source wrote it.

    `instrument` is the `PricedInstrument.key` that it is of. `record_price` is the price that counts: the declared one
    or the market's, whichever is worse; None where the signal neither opens nor closes, or declares none.
    """

    bid: Decimal
    ask: Decimal
    mid: Decimal
    at: datetime
    source: str
    instrument: str
    record_price: Decimal | None = None


def check_price(asset_type: AssetType, price: Decimal) -> None:
    """Check a venue's price. A prediction's lies within 0 and 1, an option's may be 0. Raises ValueError."""
    if not price.is_finite():
        raise ValueError("a price that is not finite")
    if price < 0 or (price == 0 and asset_type not in {"option", "prediction"}):
        raise ValueError("a price of zero or less")
    if price and not _LEAST_EXPONENT <= price.adjusted() <= _GREATEST_EXPONENT:
        raise ValueError("a price beyond all prices")
    if asset_type == "prediction" and price > 1:
        raise ValueError("a probability above 1")
