"""SQL of users' preferences: settings, the watchlist, saved views, and what was removed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from db._postgres import Connection
from schemas._vocabulary import PreferenceList


@dataclass(frozen=True, slots=True)
class SettingsRow:
    """All settings of a user; the defaults apply without a row."""

    user_id: UUID
    risk_tolerance: str = "moderate"
    min_opportunity_score: float = 0.60
    default_action_filter: tuple[str, ...] = ("BUY", "SELL", "HOLD")
    theme: str = "dark"
    timezone: str = "UTC"
    onboarding_completed: bool = False
    onboarding_step: int = 0


@dataclass(frozen=True, slots=True)
class WatchlistRow:
    """A symbol on a user's watchlist."""

    user_id: UUID
    symbol: str
    notes: str | None
    alert_enabled: bool
    position_size: Decimal | None
    entry_price: Decimal | None
    added_at: datetime


@dataclass(frozen=True, slots=True)
class ViewRow:
    """A saved filter; `filters` is JSON."""

    id: UUID
    user_id: UUID
    name: str
    description: str | None
    filters: dict[str, Any]
    is_default: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RemovedRow:
    """A removal: `item` is a symbol or a view's id."""

    user_id: UUID
    list: PreferenceList
    item: str
    removed_at: datetime


_SETTINGS = """user_id, risk_tolerance, min_opportunity_score, default_action_filter, theme, timezone,
    onboarding_completed, onboarding_step"""

LOAD_SETTINGS = f"SELECT {_SETTINGS} FROM user_settings WHERE user_id = ANY ($1::uuid[])"


async def load_settings(conn: Connection, user_ids: Sequence[UUID]) -> list[SettingsRow]:
    """Return the settings of those users who have changed one."""
    rows = await conn.fetch(LOAD_SETTINGS, user_ids)
    return [SettingsRow(row[0], row[1], row[2], tuple(row[3]), row[4], row[5], row[6], row[7]) for row in rows]


# An array of arrays would be one of two dimensions to the driver: the filter travels as a comma list.
UPSERT_SETTINGS = f"""
INSERT INTO user_settings ({_SETTINGS})
SELECT user_id, risk_tolerance, min_opportunity_score, string_to_array(default_action_filter, ','), theme, timezone,
       onboarding_completed, onboarding_step
FROM unnest($1::uuid[], $2::text[], $3::float8[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::int[])
    AS row (user_id, risk_tolerance, min_opportunity_score, default_action_filter, theme, timezone,
            onboarding_completed, onboarding_step)
ON CONFLICT (user_id) DO UPDATE SET
    risk_tolerance = excluded.risk_tolerance, min_opportunity_score = excluded.min_opportunity_score,
    default_action_filter = excluded.default_action_filter, theme = excluded.theme, timezone = excluded.timezone,
    onboarding_completed = excluded.onboarding_completed, onboarding_step = excluded.onboarding_step
"""


async def upsert_settings(conn: Connection, rows: Sequence[SettingsRow]) -> None:
    """Store settings."""
    await conn.execute(
        UPSERT_SETTINGS,
        [each.user_id for each in rows],
        [each.risk_tolerance for each in rows],
        [each.min_opportunity_score for each in rows],
        [",".join(each.default_action_filter) for each in rows],
        [each.theme for each in rows],
        [each.timezone for each in rows],
        [each.onboarding_completed for each in rows],
        [each.onboarding_step for each in rows],
    )


_WATCHLIST = "user_id, symbol, notes, alert_enabled, position_size, entry_price, added_at"

# As the document's example shows it, which is not newest first: users arrange their watchlists.
LOAD_WATCHLISTS = f"SELECT {_WATCHLIST} FROM watchlist_items WHERE user_id = ANY ($1::uuid[]) ORDER BY added_at, symbol"


async def load_watchlists(conn: Connection, user_ids: Sequence[UUID]) -> list[WatchlistRow]:
    """Return the watchlists of these users, in the order in which symbols were added."""
    return [WatchlistRow(*row) for row in await conn.fetch(LOAD_WATCHLISTS, user_ids)]


UPSERT_WATCHLIST = f"""
INSERT INTO watchlist_items ({_WATCHLIST})
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bool[], $5::numeric[], $6::numeric[], $7::timestamptz[])
ON CONFLICT (user_id, symbol) DO UPDATE SET
    notes = excluded.notes, alert_enabled = excluded.alert_enabled, position_size = excluded.position_size,
    entry_price = excluded.entry_price
"""


async def upsert_watchlist(conn: Connection, rows: Sequence[WatchlistRow]) -> None:
    """Store symbols; an existing one keeps its position."""
    columns = [[getattr(each, name) for each in rows] for name in WatchlistRow.__match_args__]
    await conn.execute(UPSERT_WATCHLIST, *columns)


DELETE_WATCHLIST = """
DELETE FROM watchlist_items w USING unnest($1::uuid[], $2::text[]) AS gone (user_id, symbol)
WHERE w.user_id = gone.user_id AND w.symbol = gone.symbol
"""


async def delete_watchlist(conn: Connection, rows: Sequence[WatchlistRow]) -> None:
    """Delete symbols."""
    await conn.execute(DELETE_WATCHLIST, [each.user_id for each in rows], [each.symbol for each in rows])


_VIEWS = "id, user_id, name, description, filters, is_default, created_at"

LOAD_VIEWS = f"SELECT {_VIEWS} FROM saved_views WHERE user_id = ANY ($1::uuid[]) ORDER BY created_at DESC, id DESC"


async def load_views(conn: Connection, user_ids: Sequence[UUID]) -> list[ViewRow]:
    """Return the saved views of these users, newest first."""
    return [ViewRow(*row) for row in await conn.fetch(LOAD_VIEWS, user_ids)]


UPSERT_VIEWS = f"""
INSERT INTO saved_views ({_VIEWS})
SELECT id, user_id, name, description, filters::json, is_default, created_at
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::timestamptz[])
    AS row (id, user_id, name, description, filters, is_default, created_at)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, description = excluded.description, filters = excluded.filters,
    is_default = excluded.is_default
"""


async def upsert_views(conn: Connection, rows: Sequence[ViewRow]) -> None:
    """Store saved views."""
    await conn.execute(
        UPSERT_VIEWS,
        [each.id for each in rows],
        [each.user_id for each in rows],
        [each.name for each in rows],
        [each.description for each in rows],
        [orjson.dumps(each.filters).decode() for each in rows],
        [each.is_default for each in rows],
        [each.created_at for each in rows],
    )


DELETE_VIEWS = "DELETE FROM saved_views WHERE id = ANY ($1::uuid[])"


async def delete_views(conn: Connection, ids: Sequence[UUID]) -> None:
    """Delete saved views."""
    await conn.execute(DELETE_VIEWS, ids)


LOAD_REMOVED = """
SELECT user_id, list, item, removed_at FROM removed_items
WHERE user_id = ANY ($1::uuid[]) ORDER BY removed_at, item
"""


async def load_removed(conn: Connection, user_ids: Sequence[UUID]) -> list[RemovedRow]:
    """Return what these users removed, oldest first."""
    return [RemovedRow(*row) for row in await conn.fetch(LOAD_REMOVED, user_ids)]


UPSERT_REMOVED = """
INSERT INTO removed_items (user_id, list, item, removed_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[])
ON CONFLICT (user_id, list, item) DO UPDATE SET removed_at = excluded.removed_at
"""


async def upsert_removed(conn: Connection, rows: Sequence[RemovedRow]) -> None:
    """Store removals."""
    await conn.execute(
        UPSERT_REMOVED,
        [each.user_id for each in rows],
        [each.list for each in rows],
        [each.item for each in rows],
        [each.removed_at for each in rows],
    )


DELETE_REMOVED = """
DELETE FROM removed_items r USING unnest($1::uuid[], $2::text[], $3::text[]) AS gone (user_id, list, item)
WHERE r.user_id = gone.user_id AND r.list = gone.list AND r.item = gone.item
"""


async def delete_removed(conn: Connection, rows: Sequence[RemovedRow]) -> None:
    """Delete removals."""
    await conn.execute(
        DELETE_REMOVED, [each.user_id for each in rows], [each.list for each in rows], [each.item for each in rows]
    )
