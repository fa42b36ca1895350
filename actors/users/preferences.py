"""Decide preferences messages (pure): settings, a watchlist of at most 100 symbols, at most 50 saved views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from actors._runtime.messages import Message
from actors._runtime.virtual import Decision
from actors.users.changes import Change, RemovalForgotten, Unwatched, ViewDeleted
from actors.users.messages import DeleteView, EditSettings, EditView, SaveView, Unwatch, Watch
from db.users.preferences import RemovedRow, SettingsRow, ViewRow, WatchlistRow
from schemas._instruments import spelled_alike
from schemas._vocabulary import PreferenceList
from schemas.errors import Conflict, Internal, NotFound

WATCHLIST = 100
SAVED_VIEWS = 50
# Removing again what was removed is no error, as long as it is one of so many: the oldest is forgotten.
REMOVED = 100


@dataclass(frozen=True, slots=True)
class Library:
    """The state; `removed`: symbols, or ids of views as text, the last removed at the end."""

    user_id: UUID
    settings: SettingsRow
    watchlist: Mapping[str, WatchlistRow]
    views: Mapping[UUID, ViewRow]
    removed: Mapping[PreferenceList, tuple[str, ...]]

    @classmethod
    def empty(cls, user_id: UUID) -> Library:
        """Return the state of a user who has set nothing."""
        return cls(user_id, SettingsRow(user_id), {}, {}, {"watchlist": (), "saved_views": ()})


Result = Decision[Library, Change]


def decide(preferences: Library, message: Message[Any]) -> Result:
    """Return the result of `message`."""
    rule = _RULES.get(type(message))
    if rule is None:
        raise Internal(f"a library does not take {type(message).__name__}")
    return rule(preferences, message)


def _edit_settings(preferences: Library, message: EditSettings) -> Result:
    settings = replace(preferences.settings, **message.changes)
    changes = () if settings == preferences.settings else (settings,)
    return Decision(replace(preferences, settings=settings), settings, changes)


def _watch(preferences: Library, message: Watch) -> Result:
    listed = _listed(preferences.watchlist, message.symbol)
    if listed:
        item = preferences.watchlist[listed[0]]
        changed = replace(item, **message.changes)
        state = replace(preferences, watchlist={**preferences.watchlist, item.symbol: changed})
        return Decision(state, (changed, False), () if changed == item else (changed,))
    if len(preferences.watchlist) >= WATCHLIST:
        raise Conflict(f"The watchlist is full: {WATCHLIST} symbols")
    item = replace(
        WatchlistRow(preferences.user_id, message.symbol, None, True, None, None, message.at), **message.changes
    )
    state, forgotten = _unremove(preferences, "watchlist", item.symbol)
    state = replace(state, watchlist={**preferences.watchlist, item.symbol: item})
    return Decision(state, (item, True), (item, *forgotten))


def _unwatch(preferences: Library, message: Unwatch) -> Result:
    listed = _listed(preferences.watchlist, message.symbol)
    if not listed:
        if _listed(preferences.removed["watchlist"], message.symbol):
            return Decision(preferences)
        raise NotFound("The symbol is not on the watchlist")
    state = preferences
    changes: list[Change] = []
    for symbol in listed:  # more than one only if added when each spelling was a symbol of its own
        state, more = _remove(state, "watchlist", symbol, message.at)
        changes += [Unwatched(preferences.user_id, symbol), *more]
    rest = {symbol: item for symbol, item in preferences.watchlist.items() if symbol not in listed}
    return Decision(replace(state, watchlist=rest), None, tuple(changes))


def _listed(symbols: Iterable[str], symbol: str) -> list[str]:
    """Return the listed spellings of `symbol`'s instrument; itself first."""
    found = [each for each in symbols if spelled_alike(each, "crypto") == spelled_alike(symbol, "crypto")]
    return sorted(found, key=lambda each: each != symbol)


def _save_view(preferences: Library, message: SaveView) -> Result:
    if len(preferences.views) >= SAVED_VIEWS:
        raise Conflict(f"There are {SAVED_VIEWS} saved views already")
    view = ViewRow(
        message.view_id,
        preferences.user_id,
        message.name,
        message.description,
        dict(message.filters),
        message.is_default,
        message.at,
    )
    return _put_view(preferences, view)


def _edit_view(preferences: Library, message: EditView) -> Result:
    view = preferences.views.get(message.view_id)
    if view is None:
        raise NotFound("Saved view not found")
    changed = replace(view, **message.changes)
    return _put_view(preferences, changed) if changed != view else Decision(preferences, view)


def _put_view(preferences: Library, view: ViewRow) -> Result:
    others = [each for each in preferences.views.values() if each.id != view.id]
    if any(each.name == view.name for each in others):
        raise Conflict("A saved view of this name exists")
    # There is one default at most: the new one replaces the old.
    demoted = [replace(each, is_default=False) for each in others if view.is_default and each.is_default]
    views = {**preferences.views, **{each.id: each for each in demoted}, view.id: view}
    return Decision(replace(preferences, views=views), view, (*demoted, view))


def _delete_view(preferences: Library, message: DeleteView) -> Result:
    if message.view_id not in preferences.views:
        if str(message.view_id) in preferences.removed["saved_views"]:
            return Decision(preferences)
        raise NotFound("Saved view not found")
    state, changes = _remove(preferences, "saved_views", str(message.view_id), message.at)
    rest = {key: view for key, view in preferences.views.items() if key != message.view_id}
    return Decision(replace(state, views=rest), None, (ViewDeleted(message.view_id), *changes))


_RULES: Mapping[type[Message[Any]], Callable[[Library, Any], Result]] = {
    EditSettings: _edit_settings,
    Watch: _watch,
    Unwatch: _unwatch,
    SaveView: _save_view,
    EditView: _edit_view,
    DeleteView: _delete_view,
}


def _remove(preferences: Library, name: PreferenceList, item: str, at: datetime) -> tuple[Library, list[Change]]:
    removed = (*(each for each in preferences.removed[name] if each != item), item)
    surplus = removed[:-REMOVED]
    changes: list[Change] = [RemovedRow(preferences.user_id, name, item, at)]
    changes += [RemovalForgotten(preferences.user_id, name, each) for each in surplus]
    return replace(preferences, removed={**preferences.removed, name: removed[-REMOVED:]}), changes


def _unremove(preferences: Library, name: PreferenceList, item: str) -> tuple[Library, list[Change]]:
    if item not in preferences.removed[name]:
        return preferences, []
    removed = tuple(each for each in preferences.removed[name] if each != item)
    forgotten: list[Change] = [RemovalForgotten(preferences.user_id, name, item)]
    return replace(preferences, removed={**preferences.removed, name: removed}), forgotten
