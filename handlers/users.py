"""The user's preferences: settings, the watchlist, saved views."""

from __future__ import annotations

from typing import TypeVar

from actors._runtime.messages import Message
from actors.users.messages import (
    DeleteView,
    EditSettings,
    EditView,
    SaveView,
    Unwatch,
    Watch,
    preferences_key,
)
from config.clock import now
from config.documents import Loaded
from config.ids import uuid7
from db.users import preferences
from db.users.preferences import SettingsRow
from handlers._http.base import known_id
from handlers._http.endpoint import endpoint
from handlers.auth._account_handler import AccountHandler
from schemas.errors import NotFound
from schemas.users import (
    NewView,
    SavedView,
    SavedViews,
    SettingsChange,
    Unwatched,
    UserSettings,
    ViewChange,
    ViewDeleted,
    Watchlist,
    WatchlistEntry,
    WatchlistItem,
    stored_symbol,
)

Reply = TypeVar("Reply")


class PreferencesHandler(AccountHandler):
    """The base of the handlers of the caller's own preferences."""

    async def ask_preferences(self, message: Message[Reply]) -> Reply:
        """Ask the owner of the caller's preferences."""
        return await self.ask_users(preferences_key(self.user_id), message)


class MySettings(PreferencesHandler):
    """`/api/user/settings`"""

    @endpoint("Get one's settings", responds=UserSettings(), errors=(503,))
    async def get(self) -> object:
        """For a user who has set nothing, the defaults."""
        rows = await self.load(preferences.load_settings, [self.user_id])
        return rows[0] if rows else SettingsRow(self.user_id)

    @endpoint("Change one's settings", body=SettingsChange(), responds=UserSettings(), errors=(503,))
    async def put(self, body: Loaded) -> object:
        """Sets the fields that are given; answers all settings."""
        edited = await self.ask_preferences(EditSettings(body))
        self.gateway.activity_recorder.forget(str(self.user_id))  # in another zone it may be another day
        return edited


class MyWatchlist(PreferencesHandler):
    """`/api/user/watchlist`"""

    @endpoint("Get one's watchlist", responds=Watchlist(), errors=(503,))
    async def get(self) -> object:
        """In the order in which symbols were added."""
        return {"watchlist": await self.load(preferences.load_watchlists, [self.user_id])}

    @endpoint(
        "Watch a symbol",
        body=WatchlistEntry(),
        responds=WatchlistItem(),
        others={201: WatchlistItem()},
        errors=(409, 503),
    )
    async def post(self, body: Loaded) -> object:
        """201 for a symbol that is new; 200 for one that is there, whose given fields are set."""
        changes = {name: value for name, value in body.items() if name != "symbol"}
        item, is_new = await self.ask_preferences(Watch(body["symbol"], changes, now()))
        self.set_status(201 if is_new else 200)
        return item


class OneSymbol(PreferencesHandler):
    """`/api/user/watchlist/{symbol}`"""

    @endpoint("Stop watching a symbol", responds=Unwatched(), errors=(404, 503))
    async def delete(self, symbol: str) -> object:
        """Its `/` may be encoded or not. Repeating it is no error; 404 for a symbol that never was there."""
        try:
            stored = stored_symbol(symbol)
        except ValueError:
            raise NotFound("The symbol is not on the watchlist") from None
        await self.ask_preferences(Unwatch(stored, now()))
        return {"symbol": stored, "removed": True}


class MyViews(PreferencesHandler):
    """`/api/user/saved-views`"""

    @endpoint("Get one's saved views", responds=SavedViews(), errors=(503,))
    async def get(self) -> object:
        """The newest first."""
        return {"saved_views": await self.load(preferences.load_views, [self.user_id])}

    @endpoint("Save a view", body=NewView(), responds=SavedView(), status=201, errors=(409, 503))
    async def post(self, body: Loaded) -> object:
        """Its name must differ from those of the user's other views."""
        return await self.ask_preferences(SaveView(uuid7(), **body, at=now()))


class OneView(PreferencesHandler):
    """`/api/user/saved-views/{view_id}`"""

    @endpoint("Change a saved view", body=ViewChange(), responds=SavedView(), errors=(404, 409, 503))
    async def put(self, view_id: str, body: Loaded) -> object:
        """Sets the fields that are given."""
        return await self.ask_preferences(EditView(known_id(view_id, "Saved view"), body))

    @endpoint("Delete a saved view", responds=ViewDeleted(), errors=(404, 503))
    async def delete(self, view_id: str) -> object:
        """Repeating it is no error; 404 for a view that never was."""
        deleted = known_id(view_id, "Saved view")
        await self.ask_preferences(DeleteView(deleted, now()))
        return {"id": deleted, "deleted": True}
