"""SQL of users' preferences: settings, the watchlist, saved views, and what was removed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from config.documents import Document
from db._postgres import Connection
from db._rows import columns, names, rows_of, unnest, upsert
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
    """A saved filter."""

    id: UUID
    user_id: UUID
    name: str
    description: str | None
    filters: Annotated[Document, "json"]
    is_default: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RemovedRow:
    """A removal: `item` is a symbol or a view's id."""

    user_id: UUID
    list: PreferenceList
    item: str
    removed_at: datetime


LOAD_SETTINGS = f"SELECT {names(SettingsRow)} FROM user_settings WHERE user_id = ANY ($1::uuid[])"


async def load_settings(conn: Connection, user_ids: Sequence[UUID]) -> list[SettingsRow]:
    """Return the settings of those users who have changed one."""
    rows = rows_of(SettingsRow, await conn.fetch(LOAD_SETTINGS, user_ids))
    return [replace(row, default_action_filter=tuple(row.default_action_filter)) for row in rows]


UPSERT_SETTINGS = upsert("user_settings", SettingsRow, key=("user_id",))


async def upsert_settings(conn: Connection, rows: Sequence[SettingsRow]) -> None:
    """Store settings."""
    await conn.execute(UPSERT_SETTINGS, *columns(SettingsRow, rows))


# As the document's example shows it, which is not newest first: users arrange their watchlists.
LOAD_WATCHLISTS = f"""
SELECT {names(WatchlistRow)} FROM watchlist_items WHERE user_id = ANY ($1::uuid[]) ORDER BY added_at, symbol
"""


async def load_watchlists(conn: Connection, user_ids: Sequence[UUID]) -> list[WatchlistRow]:
    """Return the watchlists of these users, in the order in which symbols were added."""
    return rows_of(WatchlistRow, await conn.fetch(LOAD_WATCHLISTS, user_ids))


UPSERT_WATCHLIST = upsert("watchlist_items", WatchlistRow, key=("user_id", "symbol"), keep=("added_at",))


async def upsert_watchlist(conn: Connection, rows: Sequence[WatchlistRow]) -> None:
    """Store symbols; an existing one keeps its position."""
    await conn.execute(UPSERT_WATCHLIST, *columns(WatchlistRow, rows))


DELETE_WATCHLIST = f"""
DELETE FROM watchlist_items w USING {unnest(WatchlistRow, alias="gone")}
WHERE w.user_id = gone.user_id AND w.symbol = gone.symbol
"""


async def delete_watchlist(conn: Connection, rows: Sequence[WatchlistRow]) -> None:
    """Delete symbols."""
    await conn.execute(DELETE_WATCHLIST, *columns(WatchlistRow, rows))


LOAD_VIEWS = f"""
SELECT {names(ViewRow)} FROM saved_views WHERE user_id = ANY ($1::uuid[]) ORDER BY created_at DESC, id DESC
"""


async def load_views(conn: Connection, user_ids: Sequence[UUID]) -> list[ViewRow]:
    """Return the saved views of these users, newest first."""
    return rows_of(ViewRow, await conn.fetch(LOAD_VIEWS, user_ids))


UPSERT_VIEWS = upsert("saved_views", ViewRow, key=("id",), keep=("user_id", "created_at"))


async def upsert_views(conn: Connection, rows: Sequence[ViewRow]) -> None:
    """Store saved views."""
    await conn.execute(UPSERT_VIEWS, *columns(ViewRow, rows))


DELETE_VIEWS = "DELETE FROM saved_views WHERE id = ANY ($1::uuid[])"


async def delete_views(conn: Connection, ids: Sequence[UUID]) -> None:
    """Delete saved views."""
    await conn.execute(DELETE_VIEWS, ids)


LOAD_REMOVED = f"""
SELECT {names(RemovedRow)} FROM removed_items WHERE user_id = ANY ($1::uuid[]) ORDER BY removed_at, item
"""


async def load_removed(conn: Connection, user_ids: Sequence[UUID]) -> list[RemovedRow]:
    """Return what these users removed, oldest first."""
    return rows_of(RemovedRow, await conn.fetch(LOAD_REMOVED, user_ids))


UPSERT_REMOVED = upsert("removed_items", RemovedRow, key=("user_id", "list", "item"))


async def upsert_removed(conn: Connection, rows: Sequence[RemovedRow]) -> None:
    """Store removals."""
    await conn.execute(UPSERT_REMOVED, *columns(RemovedRow, rows))


DELETE_REMOVED = f"""
DELETE FROM removed_items r USING {unnest(RemovedRow, alias="gone")}
WHERE r.user_id = gone.user_id AND r.list = gone.list AND r.item = gone.item
"""


async def delete_removed(conn: Connection, rows: Sequence[RemovedRow]) -> None:
    """Delete removals."""
    await conn.execute(DELETE_REMOVED, *columns(RemovedRow, rows))
