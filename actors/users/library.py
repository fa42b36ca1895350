"""The rules of what a user keeps: settings, a watchlist of at most 100 symbols, at most 50 saved views. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from actors._messages import Message
from actors._virtual import Decision
from actors.users.changes import Change, RemovalForgotten, Unwatched, ViewDeleted
from actors.users.messages import DeleteView, EditSettings, EditView, SaveView, Unwatch, Watch
from db.users.lists import ListName, RemovedRow, SettingsRow, ViewRow, WatchlistRow
from schemas._instruments import spelled_alike
from schemas.errors import Conflict, Internal, NotFound

WATCHLIST = 100
SAVED_VIEWS = 50
# Removing again what was removed is no error, as long as it is one of so many: the oldest is forgotten.
REMOVED = 100


@dataclass(frozen=True, slots=True)
class Library:
    """The state. `removed`: symbols, or ids of views as text, the one removed last at the end."""

    user_id: UUID
    settings: SettingsRow
    watchlist: Mapping[str, WatchlistRow]
    views: Mapping[UUID, ViewRow]
    removed: Mapping[ListName, tuple[str, ...]]

    @classmethod
    def empty(cls, user_id: UUID) -> Library:
        """That of a user who has set nothing."""
        return cls(user_id, SettingsRow(user_id), {}, {}, {"watchlist": (), "saved_views": ()})


Result = Decision[Library, Change]


def decide(library: Library, message: Message[Any]) -> Result:
    """What `message` leads to."""
    rule = _RULES.get(type(message))
    if rule is None:
        raise Internal(f"a library does not take {type(message).__name__}")
    return rule(library, message)


def _edit_settings(library: Library, message: EditSettings) -> Result:
    settings = replace(library.settings, **message.changes)
    changes = () if settings == library.settings else (settings,)
    return Decision(replace(library, settings=settings), settings, changes)


def _watch(library: Library, message: Watch) -> Result:
    listed = _listed(library.watchlist, message.symbol)
    if listed:
        item = library.watchlist[listed[0]]
        changed = replace(item, **message.changes)
        state = replace(library, watchlist={**library.watchlist, item.symbol: changed})
        return Decision(state, (changed, False), () if changed == item else (changed,))
    if len(library.watchlist) >= WATCHLIST:
        raise Conflict(f"The watchlist is full: {WATCHLIST} symbols")
    item = replace(WatchlistRow(library.user_id, message.symbol, None, True, None, None, message.at), **message.changes)
    state, forgotten = _unremove(library, "watchlist", item.symbol)
    state = replace(state, watchlist={**library.watchlist, item.symbol: item})
    return Decision(state, (item, True), (item, *forgotten))


def _unwatch(library: Library, message: Unwatch) -> Result:
    listed = _listed(library.watchlist, message.symbol)
    if not listed:
        if _listed(library.removed["watchlist"], message.symbol):
            return Decision(library)
        raise NotFound("The symbol is not on the watchlist")
    state = library
    changes: list[Change] = []
    for symbol in listed:  # more than one only of what was added when each spelling was a symbol of its own
        state, more = _remove(state, "watchlist", symbol, message.at)
        changes += [Unwatched(library.user_id, symbol), *more]
    rest = {symbol: item for symbol, item in library.watchlist.items() if symbol not in listed}
    return Decision(replace(state, watchlist=rest), None, tuple(changes))


def _listed(symbols: Iterable[str], symbol: str) -> list[str]:
    """Those that are another spelling of `symbol`'s instrument; itself first."""
    found = [each for each in symbols if spelled_alike(each, "crypto") == spelled_alike(symbol, "crypto")]
    return sorted(found, key=lambda each: each != symbol)


def _save_view(library: Library, message: SaveView) -> Result:
    if len(library.views) >= SAVED_VIEWS:
        raise Conflict(f"There are {SAVED_VIEWS} saved views already")
    view = ViewRow(
        message.view_id,
        library.user_id,
        message.name,
        message.description,
        dict(message.filters),
        message.is_default,
        message.at,
    )
    return _put_view(library, view)


def _edit_view(library: Library, message: EditView) -> Result:
    view = library.views.get(message.view_id)
    if view is None:
        raise NotFound("Saved view not found")
    changed = replace(view, **message.changes)
    return _put_view(library, changed) if changed != view else Decision(library, view)


def _put_view(library: Library, view: ViewRow) -> Result:
    others = [each for each in library.views.values() if each.id != view.id]
    if any(each.name == view.name for each in others):
        raise Conflict("A saved view of this name exists")
    # There is one default at most: the new one takes the place of the old.
    demoted = [replace(each, is_default=False) for each in others if view.is_default and each.is_default]
    views = {**library.views, **{each.id: each for each in demoted}, view.id: view}
    return Decision(replace(library, views=views), view, (*demoted, view))


def _delete_view(library: Library, message: DeleteView) -> Result:
    if message.view_id not in library.views:
        if str(message.view_id) in library.removed["saved_views"]:
            return Decision(library)
        raise NotFound("Saved view not found")
    state, changes = _remove(library, "saved_views", str(message.view_id), message.at)
    rest = {key: view for key, view in library.views.items() if key != message.view_id}
    return Decision(replace(state, views=rest), None, (ViewDeleted(message.view_id), *changes))


_RULES: Mapping[type[Message[Any]], Callable[[Library, Any], Result]] = {
    EditSettings: _edit_settings,
    Watch: _watch,
    Unwatch: _unwatch,
    SaveView: _save_view,
    EditView: _edit_view,
    DeleteView: _delete_view,
}


def _remove(library: Library, name: ListName, item: str, at: datetime) -> tuple[Library, list[Change]]:
    removed = (*(each for each in library.removed[name] if each != item), item)
    surplus = removed[:-REMOVED]
    changes: list[Change] = [RemovedRow(library.user_id, name, item, at)]
    changes += [RemovalForgotten(library.user_id, name, each) for each in surplus]
    return replace(library, removed={**library.removed, name: removed[-REMOVED:]}), changes


def _unremove(library: Library, name: ListName, item: str) -> tuple[Library, list[Change]]:
    if item not in library.removed[name]:
        return library, []
    removed = tuple(each for each in library.removed[name] if each != item)
    forgotten: list[Change] = [RemovalForgotten(library.user_id, name, item)]
    return replace(library, removed={**library.removed, name: removed}), forgotten
