"""The state that a demo keeps between its runs: when its backfill ended, and the open positions."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from config.clock import now
from server.demo.markets import full_hour
from server.demo.trading import Position, Trade


class State(msgspec.Struct):
    """A demo's state. `anchor` is moment 0 of the prices, from which on they follow the clock.

    The backfill has `begun`; all of it is in the `past`; the server is `filled`. `held` is by `place_of`.
    """

    anchor: datetime
    begun: bool = False
    past: bool = False
    filled: bool = False
    held: dict[str, Position] = {}  # msgspec copies it

    @classmethod
    def load(cls, path: Path) -> State:
        """Load the saved state; without a readable file, return a new one that begins now."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError):
            return cls(full_hour(now()))

    def note(self, name: str, trade: Trade) -> None:
        """Record the position that a trade opens or closes."""
        place = place_of(name, trade.position.contract.market)
        if trade.closes and trade.fraction == 1.0:
            self.held.pop(place, None)
        else:
            self.held[place] = trade.position

    def save(self, path: Path) -> None:
        """Write the state atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(self))
        draft.replace(path)


def place_of(name: str, market: str) -> str:
    """Return the place of a trader's position on a market."""
    return f"{name}: {market}"
