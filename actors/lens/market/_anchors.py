"""Keep what the instruments of the simulated market start at: in Postgres, read through a cache.

An anchor never changes, so one that was read is kept; that there is none is asked again. All processes have the one
that was stored first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from actors.lens.market._moving import Anchor
from actors.lens.market.quotes import Declaration, PricedInstrument
from config import clock
from config.tasks import spawn
from db._postgres import Pool, connection
from db.lens.anchors import DeclaredPrice, declare, read_anchor, read_anchors
from schemas._instruments import instrument_of

_MAX_ANCHORS: Final = 1 << 16

Key = tuple[str, str]


class StoredAnchors:
    """The `Anchors` of all processes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[Key, Anchor] = OrderedDict()
        self._turn = asyncio.Lock()
        self._new: dict[Key, DeclaredPrice] = {}
        self._gathering: asyncio.Task[None] | None = None

    async def of(self, instrument: PricedInstrument) -> Anchor | None:
        """Return an instrument's anchor; None where no price was ever declared."""
        key = _key_of(instrument)
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known
        async with connection(self._pool) as conn:
            row = await read_anchor(conn, *key)
        return None if row is None else self._keep(key, row)

    async def declare(self, instrument: PricedInstrument, price: Decimal, at: datetime) -> None:
        """Let an instrument without an anchor start at a price; nothing is written where one is known."""
        await self.declare_all([Declaration(instrument, price, at)])

    async def declare_all(self, declarations: Sequence[Declaration]) -> None:
        """Do the same for many: the first price of an instrument counts."""
        new: dict[Key, DeclaredPrice] = {}
        for each in declarations:
            key = _key_of(each.instrument)
            if key not in self._known and each.price > 0:
                new.setdefault(key, DeclaredPrice(*key, each.price, each.at))
        if not new:
            return
        if self._gathering is None:
            self._new = {}
            self._gathering = spawn(self._store(self._new), name="store anchors")
        for key, row in new.items():
            self._new.setdefault(key, row)
        await asyncio.shield(self._gathering)

    async def _store(self, new: dict[Key, DeclaredPrice]) -> None:
        async with self._turn:  # what is declared meanwhile is stored together next
            self._gathering = None
            async with connection(self._pool) as conn:
                await declare(conn, list(new.values()))
                rows = await read_anchors(conn, list(new))  # another process may have been first
        for row in rows:
            self._keep((row.asset_type, row.instrument), row)

    def _keep(self, key: Key, row: DeclaredPrice) -> Anchor:
        anchor = self._known[key] = Anchor(float(row.price), row.declared_at.timestamp())
        if len(self._known) > _MAX_ANCHORS:
            self._known.popitem(last=False)
        return anchor


def _key_of(instrument: PricedInstrument) -> Key:
    data = None if instrument.expiry is None else {"expiry": instrument.expiry.isoformat()}
    return instrument.asset_type, instrument_of(instrument.symbol, instrument.asset_type, data, clock.now())
