"""Records from the market for tests, inserted directly as the owners of providers and of the log insert them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from actors.records.entries import MarkEntry, encode
from config.ids import uuid7
from db._postgres import Connection

DAY = date(2026, 11, 29)
UNIT = 10**12


@dataclass
class RecordStats:
    """A provider's figures at the end of a day: `mean` and `deviation` of its daily returns."""

    provider_id: UUID = field(default_factory=uuid7)
    bets: int = 200
    days: int = 200
    mean: float = 0.004
    deviation: float = 0.01
    age: int = 240
    positions: int = 200
    unverified: int = 0
    daily_loss: float = 0.01
    is_eligible: bool = False
    as_of_seq: int = 0

    def row(self, day: date) -> tuple[object, ...]:
        """Return the row of record_stats."""
        total = self.mean * self.days
        squares = self.deviation**2 * (self.days - 1) + total * self.mean
        first_on = day + timedelta(days=1 - self.age)
        return (
            self.provider_id, day, self.as_of_seq, self.positions, self.unverified, self.bets, self.days,
            Decimal(round(total * UNIT)), Decimal(round(squares * UNIT**2)), first_on,
            Decimal(round(self.daily_loss * UNIT)), first_on if self.is_eligible else None,
        )  # fmt: skip


_INSERT_STATS = """
INSERT INTO record_stats (provider_id, day, as_of_seq, positions, unverified, open_positions, bets, wins, losses,
    gain_sum, loss_sum, days, day_sum, day_square_sum, first_on, equity, open_result, max_drawdown, worst_day,
    daily_loss, eligible_since)
VALUES ($1, $2, $3, $4, $5, 1, $6, 0, 0, 0, 0, $7, $8, $9, $10, 1000000000000, 12300000000, 45600000000, 0, $11, $12)
"""


async def add_stats(conn: Connection, stats: Sequence[RecordStats], *, day: date = DAY) -> None:
    """Insert the records of providers as of a day's end."""
    await conn.executemany(_INSERT_STATS, [each.row(day) for each in stats])


async def end_day(
    conn: Connection, day: date = DAY, *, shards: int = 1, read: int | None = None, is_last: bool = True
) -> None:
    """Put the mark that ends a day into the log, read by so many of the shards (None: by all)."""
    midnight = datetime.combine(day + timedelta(days=1), time(), UTC)
    index = 1 + int(await conn.fetchval("SELECT coalesce(max(index), 0) FROM log_entries"))
    mark = MarkEntry(midnight, {"crypto": {"BTC": Decimal(100)}}, last=is_last)
    await conn.execute("INSERT INTO log_entries (index, kind, body) VALUES ($1, 'mark', $2)", index, encode(mark))
    await conn.execute("UPDATE log_state SET size = $1, marked_size = $1, reached_at = $2", index + 1, midnight)
    for shard in range(shards):
        has_read = read is None or shard < read
        await conn.execute(
            """INSERT INTO provider_offsets (shards, shard, index, day_index) VALUES ($1, $2, $3, $4)
               ON CONFLICT (shards, shard) DO UPDATE SET index = excluded.index, day_index = excluded.day_index""",
            shards, shard, index + has_read, index if has_read and is_last else -1,
        )  # fmt: skip
