"""The state that a demo keeps between its runs: when its backfill ended, and the open positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from config.clock import now, rfc3339
from server.demo.trading import Position, Trade

Held = dict[tuple[str, str], Position]
"""Open positions by their holder's name and the market."""


@dataclass(slots=True)
class State:
    """A demo's state. `anchor` is moment 0 of the prices, from which on they follow the clock.

    `past`: the backfill is complete; `filled`: everything is. `is_new`: no state was saved.
    """

    path: Path
    anchor: datetime
    past: bool = False
    filled: bool = False
    is_new: bool = False
    held: Held = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> State:
        """Load the saved state; without a readable file, return a new one that begins now."""
        try:
            document: dict[str, Any] = orjson.loads(path.read_bytes())
            held = {(each["name"], each["market"]): Position.from_dict(each["position"]) for each in document["held"]}
            anchor = datetime.fromisoformat(document["anchor"])
            return cls(path, anchor, document["past"], document["filled"], held=held)
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, now(), is_new=True)

    def note(self, name: str, trade: Trade) -> None:
        """Record the position that a trade opens or closes."""
        place = name, trade.position.contract.market
        if trade.closes:
            self.held.pop(place, None)
        else:
            self.held[place] = trade.position

    def save(self) -> None:
        """Write the state atomically."""
        held = [
            {"name": name, "market": market, "position": each.to_dict()} for (name, market), each in self.held.items()
        ]
        document = {
            "anchor": rfc3339(self.anchor),
            "past": self.past,
            "filled": self.filled,
            "held": held,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".new")
        draft.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        draft.replace(self.path)
