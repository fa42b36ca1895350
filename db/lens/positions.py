"""SQL of providers' open positions, as the pipeline reads them; the owner of track records writes them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from db._postgres import Connection
from db._rows import transposed
from db.providers.outcomes import PositionKey

# The oldest is closed first.
OPENING_PRICES = """
SELECT u.number - 1, o.entry_price
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
     WITH ORDINALITY AS u (provider_id, asset_type, symbol, direction, number)
CROSS JOIN LATERAL (
    SELECT s.entry_price FROM signal_outcomes s
    WHERE s.provider_id = u.provider_id AND s.asset_type = u.asset_type AND s.symbol = u.symbol
      AND s.direction = u.direction AND s.status = 'PENDING' AND s.open_part > 0
    ORDER BY s.opened_seq LIMIT 1
) o
"""


async def opening_prices(conn: Connection, keys: Sequence[PositionKey]) -> list[Decimal | None]:
    """Return the opening price of the oldest open position of each key; None where nothing is open."""
    found: list[Decimal | None] = [None] * len(keys)
    for number, price in await conn.fetch(OPENING_PRICES, *transposed(keys, 4)):
        found[number] = price
    return found
