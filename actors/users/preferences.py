"""Preferences: settings, a watchlist of at most 100 symbols, at most 50 saved views. The rules are pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Never
from uuid import UUID

from actors._runtime.messages import Message
from actors._runtime.virtual import Effect, Transition, changed_rows
from actors.users.messages import DeleteView, EditSettings, EditView, SaveView, Unwatch, Watch
from db._postgres import Connection
from db.users import preferences as sql
from db.users.preferences import RemovedRow, SettingsRow, ViewRow, WatchlistRow
from schemas._instruments import spelled_alike
from schemas._vocabulary import PreferenceList
from schemas.errors import Conflict, Internal, NotFound

WATCHLIST = 100
SAVED_VIEWS = 50
# Removing again what was removed is no error, as long as it is one of so many: the oldest is forgotten.
REMOVED = 100

Removed = Mapping[tuple[PreferenceList, str], RemovedRow]
"""What was removed, by list and symbol or view's id; of each list the last removed at the end."""


@dataclass(frozen=True, slots=True)
class PreferencesState:
    """All preferences of a user; what is not set has defaults."""

    user_id: UUID
    settings: SettingsRow
    watchlist: Mapping[str, WatchlistRow]
    views: Mapping[UUID, ViewRow]
    removed: Removed


_Effect = Effect[PreferencesState, Never]
_Transition = Transition[PreferencesState, Never]


def fresh(user_id: UUID) -> PreferencesState:
    """Return the state of a user who has set nothing."""
    return PreferencesState(user_id, SettingsRow(user_id), {}, {}, {})


def decide(state: PreferencesState, message: Message[object]) -> _Effect:
    """Return the effect of `message`."""
    match message:
        case EditSettings():
            settings = replace(state.settings, **message.changes)
            return Effect(replace(state, settings=settings), settings)
        case Watch():
            return _watch(state, message)
        case Unwatch():
            return _unwatch(state, message)
        case SaveView():
            return _save_view(state, message)
        case EditView():
            view = state.views.get(message.view_id)
            if view is None:
                raise NotFound("Saved view not found")
            return _put_view(state, replace(view, **message.changes))
        case DeleteView():
            return _delete_view(state, message)
    raise Internal(f"preferences do not take {type(message).__name__}")


def _watch(state: PreferencesState, message: Watch) -> _Effect:
    listed = _listed(state.watchlist, message.symbol)
    if not listed and len(state.watchlist) >= WATCHLIST:
        raise Conflict(f"The watchlist is full: {WATCHLIST} symbols")
    known = WatchlistRow(state.user_id, message.symbol, None, True, None, None, message.at)
    if listed:
        known = state.watchlist[listed[0]]
    item = replace(known, **message.changes)
    watchlist = {**state.watchlist, item.symbol: item}
    removed = {key: each for key, each in state.removed.items() if key != ("watchlist", item.symbol)}
    return Effect(replace(state, watchlist=watchlist, removed=removed), (item, not listed))


def _unwatch(state: PreferencesState, message: Unwatch) -> _Effect:
    listed = _listed(state.watchlist, message.symbol)
    if not listed:
        if _listed([item for name, item in state.removed if name == "watchlist"], message.symbol):
            return Effect(state)
        raise NotFound("The symbol is not on the watchlist")
    watchlist, removed = dict(state.watchlist), state.removed
    for symbol in listed:  # more than one only if added when each spelling was a symbol of its own
        del watchlist[symbol]
        removed = _remove(removed, RemovedRow(state.user_id, "watchlist", symbol, message.at))
    return Effect(replace(state, watchlist=watchlist, removed=removed))


def _listed(symbols: Iterable[str], symbol: str) -> list[str]:
    """Return the listed spellings of `symbol`'s instrument; itself first."""
    found = [each for each in symbols if spelled_alike(each, "crypto") == spelled_alike(symbol, "crypto")]
    return sorted(found, key=lambda each: each != symbol)


def _save_view(state: PreferencesState, message: SaveView) -> _Effect:
    if len(state.views) >= SAVED_VIEWS:
        raise Conflict(f"There are {SAVED_VIEWS} saved views already")
    view = ViewRow(
        message.view_id,
        state.user_id,
        message.name,
        message.description,
        dict(message.filters),
        message.is_default,
        message.at,
    )
    return _put_view(state, view)


def _put_view(state: PreferencesState, view: ViewRow) -> _Effect:
    others = [each for each in state.views.values() if each.id != view.id]
    if any(each.name == view.name for each in others):
        raise Conflict("A saved view of this name exists")
    # There is one default at most: the new one replaces the old.
    demoted = {each.id: replace(each, is_default=False) for each in others if view.is_default and each.is_default}
    return Effect(replace(state, views={**state.views, **demoted, view.id: view}), view)


def _delete_view(state: PreferencesState, message: DeleteView) -> _Effect:
    row = RemovedRow(state.user_id, "saved_views", str(message.view_id), message.at)
    if message.view_id not in state.views:
        if (row.list, row.item) in state.removed:
            return Effect(state)
        raise NotFound("Saved view not found")
    views = {key: view for key, view in state.views.items() if key != message.view_id}
    return Effect(replace(state, views=views, removed=_remove(state.removed, row)))


def _remove(removed: Removed, row: RemovedRow) -> Removed:
    key = (row.list, row.item)
    kept = {each: removed[each] for each in removed if each != key} | {key: row}
    for each in [each for each in kept if each[0] == row.list][:-REMOVED]:
        del kept[each]
    return kept


async def load(conn: Connection, ids: Sequence[UUID]) -> Mapping[UUID, PreferencesState]:
    """Return the preferences of all of these users."""
    settings = {each.user_id: each for each in await sql.load_settings(conn, ids)}
    watchlists: dict[UUID, dict[str, WatchlistRow]] = defaultdict(dict)
    for item in await sql.load_watchlists(conn, ids):
        watchlists[item.user_id][item.symbol] = item
    views: dict[UUID, dict[UUID, ViewRow]] = defaultdict(dict)
    for view in await sql.load_views(conn, ids):
        views[view.user_id][view.id] = view
    removed: dict[UUID, dict[tuple[PreferenceList, str], RemovedRow]] = defaultdict(dict)
    for each in await sql.load_removed(conn, ids):
        removed[each.user_id][each.list, each.item] = each
    return {
        user: PreferencesState(
            user, settings.get(user) or SettingsRow(user), watchlists[user], views[user], removed[user]
        )
        for user in ids
    }


def changed_settings(transitions: Iterable[_Transition]) -> list[SettingsRow]:
    """Return the settings that have changed, as the last transition left them."""
    return changed_rows(transitions, lambda state: {"": state.settings})[0]


async def save(conn: Connection, transitions: Sequence[_Transition]) -> None:
    """Save what has changed."""
    if settings := changed_settings(transitions):
        await sql.upsert_settings(conn, settings)
    watched, unwatched = changed_rows(transitions, lambda state: state.watchlist)
    if unwatched:
        await sql.delete_watchlist(conn, unwatched)
    if watched:
        await sql.upsert_watchlist(conn, watched)
    views, deleted = changed_rows(transitions, lambda state: state.views)
    if deleted:
        await sql.delete_views(conn, [each.id for each in deleted])
    if views:
        await sql.upsert_views(conn, views)
    removed, forgotten = changed_rows(transitions, lambda state: state.removed)
    if forgotten:
        await sql.delete_removed(conn, forgotten)
    if removed:
        await sql.upsert_removed(conn, removed)
