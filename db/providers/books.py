"""SQL of records from the market: books, days and statistics, and the entries of the log that they are made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from db._postgres import Connection
from db._rows import Exact, columns, insert, names, row_of, rows_of, transposed, upsert


@dataclass(frozen=True, slots=True)
class BookRow:
    """A provider's book as of an entry of the log; `is_active`: a day without entries changes it, too."""

    provider_id: UUID
    applied_index: int
    is_active: bool
    book: bytes


@dataclass(frozen=True, slots=True)
class DayRow:
    """A day of a provider's curve on which something was open; amounts are in units of 1e-12."""

    provider_id: UUID
    day: date
    result: Exact
    equity: Exact
    realised: Exact
    open_result: Exact
    exposure: Exact
    drawdown: Exact


@dataclass(frozen=True, slots=True)
class StatsRow:
    """A provider's statistics for the boards, as of the end of its last day; amounts are in units of 1e-12."""

    provider_id: UUID
    day: date
    as_of_seq: int
    positions: int
    unverified: int
    open_positions: int
    stale: int
    bets: int
    wins: int
    losses: int
    gain_sum: Exact
    loss_sum: Exact
    days: int
    day_sum: Exact
    day_square_sum: Exact
    first_on: date | None
    equity: Exact
    open_result: Exact
    max_drawdown: Exact
    worst_day: Exact | None
    eligible_since: date | None


@dataclass(frozen=True, slots=True)
class MidRow:
    """The last mid of an instrument."""

    asset_type: str
    instrument: str
    mid: Decimal
    hour: datetime


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry of the log: its index and its leaf; the provider is None where it is the market's."""

    provider_id: UUID | None
    index: int
    body: bytes


LOAD_BOOKS = f"SELECT {names(BookRow)} FROM record_books WHERE provider_id = ANY ($1::uuid[])"


async def load_books(conn: Connection, ids: Collection[UUID]) -> dict[UUID, BookRow]:
    """Return the books of those providers that have one."""
    return {each.provider_id: each for each in rows_of(BookRow, await conn.fetch(LOAD_BOOKS, list(ids)))}


UPSERT_BOOKS = upsert("record_books", BookRow, key=("provider_id",))


async def upsert_books(conn: Connection, rows: Sequence[BookRow]) -> None:
    """Store books."""
    await conn.execute(UPSERT_BOOKS, *columns(BookRow, rows))


TO_CLOSE = """
SELECT provider_id FROM record_books WHERE is_active
UNION
SELECT provider_id FROM provider_stats WHERE applied_index > $1
"""


async def providers_to_close(conn: Connection, day_index: int) -> list[UUID]:
    """Return every provider for which a day ends that began after this entry: it has positions, or entries since."""
    return [row[0] for row in await conn.fetch(TO_CLOSE, day_index)]


# The entries of one provider after another; each part is found in an index.
READ_ENTRIES_SINCE = """
SELECT e.provider_id, e.index, e.body
FROM unnest($1::uuid[], $2::bigint[]) AS w (provider_id, after)
CROSS JOIN LATERAL (
    SELECT provider_id, index, body FROM log_entries
    WHERE provider_id = w.provider_id AND index > w.after AND index <= $3
    ORDER BY index
) e
"""


async def read_entries_since(conn: Connection, after: Mapping[UUID, int], until: int) -> list[EntryRow]:
    """Return the entries of providers, each after its index and up to `until`, in the order of each."""
    rows = await conn.fetch(READ_ENTRIES_SINCE, list(after), list(after.values()), until)
    return rows_of(EntryRow, rows)


READ_MARKET = """
SELECT NULL::uuid, index, body FROM log_entries
WHERE provider_id IS NULL AND index > $1 AND index <= $2 AND kind IN ('mark', 'split') ORDER BY index
"""


async def read_market(conn: Connection, after: int, until: int) -> list[EntryRow]:
    """Return the marks and splits after an index and up to `until`."""
    return rows_of(EntryRow, await conn.fetch(READ_MARKET, after, until))


NEWEST_SEQ = """
SELECT feed_seq FROM log_entries WHERE index < $1 AND feed_seq IS NOT NULL ORDER BY index DESC LIMIT 1
"""


async def newest_seq(conn: Connection, before: int) -> int:
    """Return the `feed_seq` of the newest item of the feed before an entry of the log; 0 without one."""
    return int(await conn.fetchval(NEWEST_SEQ, before) or 0)


INSERT_DAYS = f"{insert('record_days', DayRow)} ON CONFLICT (provider_id, day) DO NOTHING"


async def insert_days(conn: Connection, rows: Sequence[DayRow]) -> None:
    """Store days that have ended."""
    await conn.execute(INSERT_DAYS, *columns(DayRow, rows))


UPSERT_STATS = upsert("record_stats", StatsRow, key=("provider_id",), keep=("eligible_since",)) + (
    ", eligible_since = coalesce(record_stats.eligible_since, excluded.eligible_since)"
)


async def upsert_stats(conn: Connection, rows: Sequence[StatsRow]) -> None:
    """Store statistics; the day on which a provider became eligible stays."""
    await conn.execute(UPSERT_STATS, *columns(StatsRow, rows))


# The smallest result whose rank is at least 5 % of their number: actors.records.skill.daily_loss.
SET_DAILY_LOSS = """
UPDATE record_stats s SET daily_loss = greatest(-d.low, 0)
FROM (
    SELECT provider_id, percentile_disc(0.05) WITHIN GROUP (ORDER BY result) AS low
    FROM record_days WHERE provider_id = ANY ($1::uuid[]) GROUP BY provider_id
) d
WHERE s.provider_id = d.provider_id
"""


async def set_daily_losses(conn: Connection, ids: Collection[UUID]) -> None:
    """Compute the loss that 95 % of days stay within anew, for providers that have another day."""
    await conn.execute(SET_DAILY_LOSS, list(ids))


# Amounts come as text: the driver's Decimals cost four times as much to make as their texts, and we want integers.
LOAD_DAYS = """
SELECT provider_id, day, result::text, equity::text, realised::text, open_result::text, exposure::text, drawdown::text
FROM record_days WHERE provider_id = $1 ORDER BY day
"""


async def load_days(conn: Connection, provider_id: UUID) -> list[DayRow]:
    """Return the days of a provider."""
    found = await conn.fetch(LOAD_DAYS, provider_id)
    return [DayRow(row[0], row[1], *map(int, row[2:])) for row in found]


DELETE_DAYS_OF = "DELETE FROM record_days WHERE provider_id = $1"


async def delete_days_of(conn: Connection, provider_id: UUID) -> None:
    """Delete every day of a provider, to store them anew."""
    await conn.execute(DELETE_DAYS_OF, provider_id)


UPSERT_MIDS = upsert("record_mids", MidRow, key=("asset_type", "instrument"))


async def upsert_mids(conn: Connection, rows: Sequence[MidRow]) -> None:
    """Store the last mids of instruments."""
    await conn.execute(UPSERT_MIDS, *columns(MidRow, rows))


LOAD_MIDS = f"""
SELECT {names(MidRow, "m.")} FROM record_mids m
JOIN unnest($1::text[], $2::text[]) AS w (asset_type, instrument) USING (asset_type, instrument)
"""


async def load_mids(conn: Connection, instruments: Collection[tuple[str, str]]) -> list[MidRow]:
    """Return the last mids of those instruments that have one."""
    kinds, listed = [each[0] for each in instruments], [each[1] for each in instruments]
    return rows_of(MidRow, await conn.fetch(LOAD_MIDS, kinds, listed))


READ_LOG_OF = """
SELECT provider_id, index, body FROM log_entries WHERE provider_id = $1 AND index <= $2
UNION ALL
SELECT provider_id, index, body FROM log_entries
WHERE provider_id IS NULL AND index <= $2 AND kind IN ('mark', 'split')
ORDER BY index
"""


async def read_log_of(conn: Connection, provider_id: UUID, until: int) -> list[EntryRow]:
    """Return a provider's entries and the market's up to an index, in order."""
    return rows_of(EntryRow, await conn.fetch(READ_LOG_OF, provider_id, until))


LOAD_STATS = f"SELECT {names(StatsRow)} FROM record_stats WHERE provider_id = $1"


async def load_stats(conn: Connection, provider_id: UUID) -> StatsRow | None:
    """Return a provider's statistics; None before the end of its first day."""
    row = await conn.fetchrow(LOAD_STATS, provider_id)
    return None if row is None else row_of(StatsRow, [int(each) if isinstance(each, Decimal) else each for each in row])


@dataclass(frozen=True, slots=True)
class PresentRow:
    """The offsets of a provider's record in the log and the feed, its stored book, and what the last night
    said of it: the loss that 95 % of days stay within, and which tenth of all providers it is in by that.
    """

    provider_id: UUID
    applied_index: int
    applied_seq: int
    book_index: int | None
    book: bytes | None
    risk_score: int | None


LOAD_PRESENT = """
SELECT p.user_id, coalesce(s.applied_index, -1), coalesce(s.applied_seq, 0), b.applied_index, b.book, r.risk_score
FROM providers p
LEFT JOIN provider_stats s ON s.provider_id = p.user_id
LEFT JOIN record_books b ON b.provider_id = p.user_id
LEFT JOIN record_risks r ON r.provider_id = p.user_id
WHERE p.user_id = ANY ($1::uuid[])
"""


async def load_present(conn: Connection, ids: Collection[UUID]) -> list[PresentRow]:
    """Return what the present records of those providers that exist are computed from."""
    return rows_of(PresentRow, await conn.fetch(LOAD_PRESENT, list(ids)))


LOAD_COMPANIONS = """
SELECT provider_id, other_id, correlation FROM record_correlations WHERE provider_id = ANY ($1::uuid[])
ORDER BY abs(correlation) DESC, other_id
"""


async def load_companions(conn: Connection, ids: Collection[UUID]) -> dict[UUID, list[tuple[UUID, float]]]:
    """Return who moves with these providers, the closest first, with the correlation."""
    found: dict[UUID, list[tuple[UUID, float]]] = {}
    for provider_id, other_id, correlation in await conn.fetch(LOAD_COMPANIONS, list(ids)):
        found.setdefault(provider_id, []).append((other_id, correlation))
    return found


# By the loss that 95 % of days stay within: 1 is the tenth of all providers with the smallest.
RANK_RISKS = """
INSERT INTO record_risks (provider_id, risk_score)
SELECT provider_id, ntile(10) OVER (ORDER BY daily_loss, provider_id) FROM record_stats WHERE daily_loss IS NOT NULL
ON CONFLICT (provider_id) DO UPDATE SET risk_score = excluded.risk_score
WHERE record_risks.risk_score <> excluded.risk_score
"""


async def rank_risks(conn: Connection) -> None:
    """Give every provider with a record the tenth that it is in by its daily loss."""
    await conn.execute(RANK_RISKS)


DAILY_RESULTS = """
SELECT d.provider_id, $1::date - d.day, (d.result * 1e-12)::float8 FROM record_days d
JOIN record_stats s ON s.provider_id = d.provider_id AND s.days >= $3
WHERE d.day > $1::date - $2::int AND d.day <= $1::date
ORDER BY d.provider_id
"""


async def daily_results(conn: Connection, day: date, days: int, least: int) -> list[tuple[UUID, int, float]]:
    """Return the results of the last days up to one, of providers with at least so many days: who, how long ago, what.

    Ordered by provider.
    """
    return [(row[0], row[1], row[2]) for row in await conn.fetch(DAILY_RESULTS, day, days, least)]


DELETE_CORRELATIONS = "DELETE FROM record_correlations"
INSERT_CORRELATIONS = """
INSERT INTO record_correlations (provider_id, other_id, correlation)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::float8[])
"""


async def replace_correlations(conn: Connection, rows: Sequence[tuple[UUID, UUID, float]]) -> None:
    """Store who moves with whom, instead of what was stored before."""
    await conn.execute(DELETE_CORRELATIONS)
    await conn.execute(INSERT_CORRELATIONS, *transposed(rows, 3))


CLOSED_BY_ALL = """
SELECT min(day_index) FROM provider_offsets WHERE shards = $1
HAVING count(*) = $1 AND min(day_index) = max(day_index) AND min(day_index) >= 0
"""


async def closed_by_all(conn: Connection, shards: int) -> int | None:
    """Return the entry that ended the last day, once all shards have closed its books; None while one is behind."""
    found: int | None = await conn.fetchval(CLOSED_BY_ALL, shards)
    return found


LAST_DAY = "SELECT max(day) FROM record_stats"


async def last_closed_day(conn: Connection) -> date | None:
    """Return the last day that has ended for anybody."""
    found: date | None = await conn.fetchval(LAST_DAY)
    return found
