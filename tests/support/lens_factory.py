"""Make raw signals, and wait for their final status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from actors.lens.messages import Submit
from config import clock
from config.ids import uuid7

T = TypeVar("T")

EXAMPLE = {
    "event_type": "OPEN_SIGNAL",
    "symbol": "BTC",
    "signal_direction": "long",
    "entry_price": 42000.50,
    "size": 0.1,
    "liquidation_price": 38000.00,
    "ts_utc": "2024-01-15T10:30:00Z",
    "source": "strategy_alpha",
}
"""The document's own example body."""


def submit(**changes: Any) -> Submit:
    """Return a raw signal of now, with some fields changed."""
    fields: dict[str, Any] = {
        "event_id": uuid7(),
        "event_type": "OPEN_SIGNAL",
        "signal_direction": "long",
        "symbol": "BTC",
        "entry_price": Decimal("42000.50"),
        "size": Decimal("0.1"),
        "liquidation_price": Decimal(38000),
        "ts_utc": clock.now(),
        "source": "strategy_alpha",
        "asset_type": "crypto",
        "asset_data": None,
        "commentary": None,
    }
    return Submit(**fields | changes)


async def until(ask: Callable[[], Awaitable[T]], *, seconds: float = 30.0) -> T:
    """Return the first truthy answer. Raises AssertionError with the last one when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        await asyncio.sleep(0.02)


async def finished(conn: asyncpg.Connection[Any], event_ids: Sequence[UUID], *, seconds: float = 30.0) -> list[str]:
    """Return the final status of each event once all of them have one."""

    async def ask() -> list[str] | None:
        rows = await conn.fetch(
            "SELECT event_id, status FROM lens_progress WHERE event_id = ANY ($1) AND finished_at IS NOT NULL",
            event_ids,
        )
        status = {row["event_id"]: row["status"] for row in rows}
        return [status[each] for each in event_ids] if len(status) == len(set(event_ids)) else None

    return list(await until(ask, seconds=seconds) or [])
