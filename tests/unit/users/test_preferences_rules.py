"""What a library and an address make of each message, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from actors._runtime.messages import Message
from actors.users import address, preferences
from actors.users.address import EMAILS, Address
from actors.users.changes import RemovalForgotten, Unwatched, ViewDeleted
from actors.users.messages import DeleteView, EditSettings, EditView, RequestEmail, SaveView, Unwatch, Watch
from actors.users.preferences import REMOVED, SAVED_VIEWS, WATCHLIST, Library
from config.ids import uuid7
from db.users.preferences import RemovedRow, SettingsRow
from schemas.errors import Conflict, Internal, NotFound
from tests.support.users_factory import NOON

USER = uuid7()


def after(state: Library, *messages: Message[Any]) -> Library:
    for message in messages:
        state = preferences.decide(state, message).state
    return state


def view(name: str, *, view_id: UUID | None = None, is_default: bool = False) -> SaveView:
    return SaveView(view_id or uuid7(), name, None, {"actions": ["BUY"]}, is_default, NOON)


def test_settings_start_at_the_defaults_and_change_by_name() -> None:
    decision = preferences.decide(Library.empty(USER), EditSettings({"theme": "light"}))
    assert decision.reply == SettingsRow(USER, theme="light")
    assert decision.changes == (decision.reply,)
    assert preferences.decide(decision.state, EditSettings({"theme": "light"})).changes == ()


def test_a_symbol_that_is_there_is_updated_in_its_place() -> None:
    state = after(Library.empty(USER), Watch("BTC", {"notes": "hold", "alert_enabled": False}, NOON))
    item, new = preferences.decide(state, Watch("BTC", {"notes": None}, NOON + timedelta(days=1))).reply
    assert not new
    assert (item.notes, item.alert_enabled, item.added_at) == (None, False, NOON)


def test_the_watchlist_holds_a_hundred_symbols_and_still_takes_updates() -> None:
    state = after(Library.empty(USER), *(Watch(f"S{n}", {}, NOON) for n in range(WATCHLIST)))
    with pytest.raises(Conflict):
        preferences.decide(state, Watch("ONE-MORE", {}, NOON))
    assert preferences.decide(state, Watch("S7", {"notes": "x"}, NOON)).reply[1] is False
    state = after(state, Unwatch("S7", NOON), Watch("ONE-MORE", {}, NOON))
    assert len(state.watchlist) == WATCHLIST


def test_removing_a_symbol_again_is_no_error_removing_one_that_never_was_is() -> None:
    state = after(Library.empty(USER), Watch("BTC/USD", {}, NOON))
    first = preferences.decide(state, Unwatch("BTC/USD", NOON))
    assert first.changes == (Unwatched(USER, "BTC/USD"), RemovedRow(USER, "watchlist", "BTC/USD", NOON))
    assert preferences.decide(first.state, Unwatch("BTC/USD", NOON)).changes == ()
    with pytest.raises(NotFound):
        preferences.decide(first.state, Unwatch("ETH/USD", NOON))


def test_one_instrument_is_watched_once_however_it_is_spelled() -> None:
    """The kind: two names of one thing that make two of it."""
    state = after(Library.empty(USER), Watch("BTC", {"notes": "hold"}, NOON))
    item, new = preferences.decide(state, Watch("BTC/USD", {"alert_enabled": False}, NOON)).reply
    assert (new, item.symbol, item.notes, item.alert_enabled) == (False, "BTC", "hold", False)
    assert preferences.decide(state, Watch("BTC/EUR", {}, NOON)).reply[1] is True
    gone = preferences.decide(state, Unwatch("BTC-PERP", NOON))
    assert gone.state.watchlist == {}
    assert Unwatched(USER, "BTC") in gone.changes
    assert preferences.decide(gone.state, Unwatch("BTC/USD", NOON)).changes == ()


def test_spellings_that_were_added_as_two_leave_together() -> None:
    state = after(Library.empty(USER), Watch("BTC", {}, NOON))
    twin = replace(state.watchlist["BTC"], symbol="BTC/USD")
    state = replace(state, watchlist={**state.watchlist, "BTC/USD": twin})
    gone = preferences.decide(state, Unwatch("BTC/USD", NOON))
    assert gone.state.watchlist == {}
    assert {each.symbol for each in gone.changes if isinstance(each, Unwatched)} == {"BTC", "BTC/USD"}


def test_a_symbol_that_comes_back_is_not_remembered_as_removed() -> None:
    state = after(Library.empty(USER), Watch("BTC", {}, NOON), Unwatch("BTC", NOON))
    decision = preferences.decide(state, Watch("BTC", {}, NOON))
    assert RemovalForgotten(USER, "watchlist", "BTC") in decision.changes
    assert decision.state.removed["watchlist"] == ()


def test_remembered_removals_are_bounded() -> None:
    state = Library.empty(USER)
    for n in range(REMOVED + 1):
        state = after(state, Watch(f"S{n}", {}, NOON), Unwatch(f"S{n}", NOON))
    assert len(state.removed["watchlist"]) == REMOVED
    with pytest.raises(NotFound):
        preferences.decide(state, Unwatch("S0", NOON))


def test_a_name_belongs_to_one_view() -> None:
    first = uuid7()
    state = after(Library.empty(USER), view("A", view_id=first), view("B"))
    with pytest.raises(Conflict):
        preferences.decide(state, view("A"))
    with pytest.raises(Conflict):
        preferences.decide(state, EditView(first, {"name": "B"}))
    assert preferences.decide(state, EditView(first, {"name": "A"})).changes == ()
    assert after(state, EditView(first, {"name": "C"}), view("A")).views[first].name == "C"


def test_saved_views_are_at_most_fifty() -> None:
    state = after(Library.empty(USER), *(view(f"view {n}") for n in range(SAVED_VIEWS)))
    with pytest.raises(Conflict):
        preferences.decide(state, view("one more"))


def test_a_new_default_takes_the_place_of_the_old() -> None:
    first, second = uuid7(), uuid7()
    state = after(Library.empty(USER), view("A", view_id=first, is_default=True), view("B", view_id=second))
    decision = preferences.decide(state, EditView(second, {"is_default": True}))
    assert [each.is_default for each in decision.state.views.values()] == [False, True]
    assert len(decision.changes) == 2


def test_a_deleted_view_may_be_deleted_again_but_not_edited() -> None:
    first = uuid7()
    state = after(Library.empty(USER), view("A", view_id=first))
    decision = preferences.decide(state, DeleteView(first, NOON))
    assert ViewDeleted(first) in decision.changes
    assert preferences.decide(decision.state, DeleteView(first, NOON)).changes == ()
    with pytest.raises(NotFound):
        preferences.decide(decision.state, EditView(first, {}))
    with pytest.raises(NotFound):
        preferences.decide(state, DeleteView(uuid7(), NOON))


def test_an_address_gets_a_few_letters_an_hour_for_each_purpose() -> None:
    state = Address("a@example.com", {})
    for n in range(EMAILS):
        decision = address.decide(state, RequestEmail(uuid7(), "reset", NOON + timedelta(minutes=n)))
        assert len(decision.changes) == 1
        state = decision.state
    assert address.decide(state, RequestEmail(uuid7(), "reset", NOON + timedelta(minutes=9))).changes == ()
    assert address.decide(state, RequestEmail(uuid7(), "verification", NOON)).changes
    assert address.decide(state, RequestEmail(uuid7(), "reset", NOON + timedelta(hours=1))).changes


def test_a_message_to_the_wrong_entity_is_a_bug() -> None:
    with pytest.raises(Internal):
        preferences.decide(Library.empty(USER), RequestEmail(uuid7(), "reset", NOON))
    with pytest.raises(Internal):
        address.decide(Address("a@example.com", {}), EditSettings({}))
