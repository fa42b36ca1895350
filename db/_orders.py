"""Define how a signal says that its position is entered and left, as rows have it: exact."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from config.values import Value
from schemas._vocabulary import OrderType


class OrderTerms(Value):
    """The terms of entering and leaving a position. None: the default, or nothing.

    `take_profit` are the targets, of equal parts; `close_fraction` is the part that a close takes of what is open.
    """

    order_type: OrderType | None = None
    take_profit: list[Decimal] | None = None
    stop_loss: Decimal | None = None
    liquidation_price: Decimal | None = None
    valid_until: datetime | None = None
    close_fraction: Decimal | None = None
