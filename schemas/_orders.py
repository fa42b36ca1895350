"""The fields of a signal that say how its position is entered and left, and the rules that they keep together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from config.documents import Loaded
from schemas._fields import Choice, Items, Price, Schema, Timestamp, about
from schemas._vocabulary import MAY_END_WORTHLESS, OrderType
from schemas.assets import Problems, asset_problems

MOST_TARGETS: Final = 10
LIMIT_VALID: Final = timedelta(hours=24)
"""How long a limit order waits that does not say `valid_until`."""

Faults = Iterator[tuple[str, object]]


class OrderFields(Schema):
    """The fields of a signal that say how its position is entered and left. Null, or missing: the default."""

    order_type = Choice(
        OrderType,
        data_key="order",
        load_default=None,
        allow_none=True,
        **about("`limit` waits until the market reaches `entry_price`; only of what opens. Default: `market`."),
    )
    take_profit = Items(
        Price(zero=True),
        max=MOST_TARGETS,
        load_default=None,
        allow_none=True,
        **about(
            "Prices on the gaining side of `entry_price`: each closes an equal part. Only of what opens.",
            examples=[[44000, 46000]],
        ),
    )
    stop_loss = Price(
        zero=True,
        load_default=None,
        allow_none=True,
        **about("A price on the losing side of `entry_price`, which closes all. Only of what opens.", examples=[40000]),
    )
    valid_until = Timestamp(
        load_default=None,
        allow_none=True,
        **about("How long a limit order waits: a time to come. Default: 24 hours after the receipt."),
    )
    close_fraction = Price(
        most=1,
        load_default=None,
        allow_none=True,
        **about("The part to close of what is still open, above 0, at most 1. Only of what closes. Default: 1."),
    )


def valid_until(order_type: str | None, given: datetime | None, received_at: datetime) -> datetime | None:
    """Return until when a limit order waits; None of any other."""
    return given or received_at + LIMIT_VALID if order_type == "limit" else None


def position_problems(
    data: Loaded, *, closes: bool | None, is_long: bool | None, now: datetime | None = None
) -> Problems:
    """Return faults of a loaded signal's asset, prices and order, where given, by the names of the body.

    `closes`, `is_long`: what the signal does, to which side; None: it does not say. With `now`, what has lapsed is a
    fault, too.
    """
    problems = asset_problems(data, closes=closes is True)
    if "entry_price" in problems:  # a field that is wrong by itself is not compared
        data = {name: value for name, value in data.items() if name != "entry_price"}
    return problems | order_problems(data, closes=closes, is_long=is_long, now=now)


def order_problems(data: Loaded, *, closes: bool | None, is_long: bool | None, now: datetime | None = None) -> Problems:
    """Return faults of the fields of `OrderFields`, and of `liquidation_price`: as `position_problems`."""
    problems = _liquidation_problems(data, is_long)
    if closes:
        problems |= dict(_foreign_to_closes(data))
    elif closes is False:
        if data.get("close_fraction") is not None:
            problems["close_fraction"] = "is only of a signal that closes"
        problems |= dict(_validity(data, now))
        problems |= dict(_levels(data, is_long))
    return problems


def _liquidation_problems(data: Loaded, is_long: bool | None) -> Problems:
    price, entry = data.get("liquidation_price"), data.get("entry_price")
    if price is None or entry is None or is_long is None:
        return {}
    if price >= entry if is_long else price <= entry:
        return {"liquidation_price": f"must be {_beyond(not is_long, is_long)}"}
    return {}


def _foreign_to_closes(data: Loaded) -> Faults:
    given = {
        "order": data.get("order_type") == "limit",
        "take_profit": bool(data.get("take_profit")),
        "stop_loss": data.get("stop_loss") is not None,
        "valid_until": data.get("valid_until") is not None,
    }
    for name, is_given in given.items():
        if is_given:
            yield name, "is only of a signal that opens"


def _validity(data: Loaded, now: datetime | None) -> Faults:
    until = data.get("valid_until")
    if until is None:
        return
    if "order_type" in data and data["order_type"] != "limit":
        yield "valid_until", "is only of an order `limit`"
    elif now is not None and until <= now:
        yield "valid_until", "must be in the future"


def _levels(data: Loaded, is_long: bool | None) -> Faults:
    """Yield the faults of targets and stop: prices at which such an asset can be left, on their side of the entry."""
    asset_type, entry = data.get("asset_type"), data.get("entry_price")
    targets: Sequence[Decimal] = data.get("take_profit") or ()
    wrong = {place: fault for place, price in enumerate(targets) if (fault := _level_fault(price, asset_type))}
    if is_long is not None and entry is not None:
        for place, price in enumerate(targets):
            if price <= entry if is_long else price >= entry:
                wrong.setdefault(place, f"must be {_beyond(is_long, is_long)}")
    if wrong:
        yield "take_profit", wrong
    stop = data.get("stop_loss")
    if stop is None:
        return
    if fault := _level_fault(stop, asset_type):
        yield "stop_loss", fault
    elif is_long is not None and entry is not None and (stop >= entry if is_long else stop <= entry):
        yield "stop_loss", f"must be {_beyond(not is_long, is_long)}"


def _level_fault(price: Decimal, asset_type: str | None) -> str | None:
    if asset_type == "prediction" and price > 1:
        return "must be at most 1: it is the probability of YES"
    if price == 0 and asset_type is not None and asset_type not in MAY_END_WORTHLESS:
        return "must be greater than 0"
    return None


def _beyond(is_above: bool, is_long: bool) -> str:
    return f"{'above' if is_above else 'below'} entry_price for a {'long' if is_long else 'short'} position"
