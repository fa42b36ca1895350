"""Name an option as its exchange does, and value it at its expiry."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final

from schemas._instruments import parse_option

_ROOT_CHARACTERS: Final = 6
_STRIKE_PLACES: Final = 3
_STRIKE_DIGITS: Final = 8


def occ_symbol(symbol: str, expiry: date) -> str | None:
    """Return the OCC's symbol, `AAPL240315C00195000`, of ours, `AAPL 195C 3/15`, and its day of expiry.

    The root, the day as YYMMDD, C or P, and the strike in thousandths with eight digits (OCC's Options Symbology
    Initiative, without the padding of the root, as vendors write it). None where it has no such form.
    """
    try:
        terms = parse_option(symbol)
    except ValueError:
        return None
    thousandths = terms.strike.scaleb(_STRIKE_PLACES)
    root = terms.underlying
    if thousandths != thousandths.to_integral_value() or thousandths >= 10**_STRIKE_DIGITS:
        return None
    if len(root) > _ROOT_CHARACTERS or not root.isalnum():
        return None
    return f"{root}{expiry:%y%m%d}{'C' if terms.is_call else 'P'}{int(thousandths):0{_STRIKE_DIGITS}d}"


def intrinsic_value(symbol: str, underlying: Decimal) -> Decimal:
    """Return what an option is worth when it expires with its underlying at this price: 0 where it is not exercised.

    Raises ValueError for a symbol that is no option's.
    """
    terms = parse_option(symbol)
    gain = underlying - terms.strike if terms.is_call else terms.strike - underlying
    return max(gain, Decimal(0))
