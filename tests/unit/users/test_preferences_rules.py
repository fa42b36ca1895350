"""The rules of preferences and of an address, message by message, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from actors._runtime.messages import Message
from actors._runtime.virtual import Transition, changed_rows
from actors.users import address, preferences
from actors.users.address import EMAILS
from actors.users.messages import DeleteView, EditSettings, EditView, RequestEmail, SaveView, Unwatch, Watch
from actors.users.preferences import REMOVED, SAVED_VIEWS, WATCHLIST, PreferencesState, fresh
from config.ids import uuid7
from db.users.preferences import RemovedRow, SettingsRow
from schemas.errors import Conflict, Internal, NotFound
from tests.support.users_factory import NOON, unchanged

USER = uuid7()


def after(state: PreferencesState, *messages: Message[Any]) -> PreferencesState:
    for message in messages:
        state = preferences.decide(state, message).state
    return state


def view(name: str, *, view_id: UUID | None = None, is_default: bool = False) -> SaveView:
    return SaveView(view_id or uuid7(), name, None, {"actions": ["BUY"]}, is_default, NOON)


def test_settings_start_at_the_defaults_and_change_by_name() -> None:
    effect = preferences.decide(fresh(USER), EditSettings({"theme": "light"}))
    assert effect.reply == SettingsRow(USER, theme="light")
    assert effect.state.settings == effect.reply
    assert unchanged(effect.state, preferences.decide(effect.state, EditSettings({"theme": "light"})))


def test_a_symbol_that_is_there_is_updated_in_its_place() -> None:
    state = after(fresh(USER), Watch("BTC", {"notes": "hold", "alert_enabled": False}, NOON))
    item, new = preferences.decide(state, Watch("BTC", {"notes": None}, NOON + timedelta(days=1))).reply
    assert not new
    assert (item.notes, item.alert_enabled, item.added_at) == (None, False, NOON)


def test_the_watchlist_holds_a_hundred_symbols_and_still_takes_updates() -> None:
    state = after(fresh(USER), *(Watch(f"S{n}", {}, NOON) for n in range(WATCHLIST)))
    with pytest.raises(Conflict):
        preferences.decide(state, Watch("ONE-MORE", {}, NOON))
    assert preferences.decide(state, Watch("S7", {"notes": "x"}, NOON)).reply[1] is False
    state = after(state, Unwatch("S7", NOON), Watch("ONE-MORE", {}, NOON))
    assert len(state.watchlist) == WATCHLIST


def test_removing_a_symbol_again_is_no_error_removing_one_that_never_was_is() -> None:
    state = after(fresh(USER), Watch("BTC/USD", {}, NOON))
    first = preferences.decide(state, Unwatch("BTC/USD", NOON))
    assert first.state.watchlist == {}
    assert list(first.state.removed.values()) == [RemovedRow(USER, "watchlist", "BTC/USD", NOON)]
    assert unchanged(first.state, preferences.decide(first.state, Unwatch("BTC/USD", NOON)))
    with pytest.raises(NotFound):
        preferences.decide(first.state, Unwatch("ETH/USD", NOON))


def test_one_instrument_is_watched_once_however_it_is_spelled() -> None:
    """The kind: two names of one thing that make two of it."""
    state = after(fresh(USER), Watch("BTC", {"notes": "hold"}, NOON))
    item, new = preferences.decide(state, Watch("BTC/USD", {"alert_enabled": False}, NOON)).reply
    assert (new, item.symbol, item.notes, item.alert_enabled) == (False, "BTC", "hold", False)
    assert preferences.decide(state, Watch("BTC/EUR", {}, NOON)).reply[1] is True
    gone = preferences.decide(state, Unwatch("BTC-PERP", NOON))
    assert gone.state.watchlist == {}
    assert list(gone.state.removed) == [("watchlist", "BTC")]
    assert unchanged(gone.state, preferences.decide(gone.state, Unwatch("BTC/USD", NOON)))


def test_spellings_that_were_added_as_two_leave_together() -> None:
    state = after(fresh(USER), Watch("BTC", {}, NOON))
    twin = replace(state.watchlist["BTC"], symbol="BTC/USD")
    state = replace(state, watchlist={**state.watchlist, "BTC/USD": twin})
    gone = preferences.decide(state, Unwatch("BTC/USD", NOON))
    assert gone.state.watchlist == {}
    assert {item for _, item in gone.state.removed} == {"BTC", "BTC/USD"}


def test_a_symbol_that_comes_back_is_not_remembered_as_removed() -> None:
    state = after(fresh(USER), Watch("BTC", {}, NOON), Unwatch("BTC", NOON))
    assert list(state.removed) == [("watchlist", "BTC")]
    assert preferences.decide(state, Watch("BTC", {}, NOON)).state.removed == {}


def test_remembered_removals_are_bounded() -> None:
    state = fresh(USER)
    for n in range(REMOVED + 1):
        state = after(state, Watch(f"S{n}", {}, NOON), Unwatch(f"S{n}", NOON))
    assert list(state.removed) == [("watchlist", f"S{n}") for n in range(1, REMOVED + 1)]
    with pytest.raises(NotFound):
        preferences.decide(state, Unwatch("S0", NOON))


def test_a_name_belongs_to_one_view() -> None:
    first = uuid7()
    state = after(fresh(USER), view("A", view_id=first), view("B"))
    with pytest.raises(Conflict):
        preferences.decide(state, view("A"))
    with pytest.raises(Conflict):
        preferences.decide(state, EditView(first, {"name": "B"}))
    assert unchanged(state, preferences.decide(state, EditView(first, {"name": "A"})))
    assert after(state, EditView(first, {"name": "C"}), view("A")).views[first].name == "C"


def test_saved_views_are_at_most_fifty() -> None:
    state = after(fresh(USER), *(view(f"view {n}") for n in range(SAVED_VIEWS)))
    with pytest.raises(Conflict):
        preferences.decide(state, view("one more"))


def test_a_new_default_takes_the_place_of_the_old() -> None:
    first, second = uuid7(), uuid7()
    state = after(fresh(USER), view("A", view_id=first, is_default=True), view("B", view_id=second))
    effect = preferences.decide(state, EditView(second, {"is_default": True}))
    assert [each.is_default for each in effect.state.views.values()] == [False, True]
    changed, gone = changed_rows([Transition("", state, effect.state)], lambda each: each.views)
    assert {each.id for each in changed} == {first, second}
    assert gone == []


def test_a_deleted_view_may_be_deleted_again_but_not_edited() -> None:
    first = uuid7()
    state = after(fresh(USER), view("A", view_id=first))
    effect = preferences.decide(state, DeleteView(first, NOON))
    assert effect.state.views == {}
    assert unchanged(effect.state, preferences.decide(effect.state, DeleteView(first, NOON)))
    with pytest.raises(NotFound):
        preferences.decide(effect.state, EditView(first, {}))
    with pytest.raises(NotFound):
        preferences.decide(state, DeleteView(uuid7(), NOON))


def test_an_address_gets_a_few_emails_an_hour_for_each_purpose() -> None:
    state = address.fresh("a@example.com")
    for n in range(EMAILS):
        effect = address.decide(state, RequestEmail(uuid7(), "reset", NOON + timedelta(minutes=n)))
        assert len(effect.events) == 1
        state = effect.state
    assert unchanged(state, address.decide(state, RequestEmail(uuid7(), "reset", NOON + timedelta(minutes=9))))
    assert address.decide(state, RequestEmail(uuid7(), "verification", NOON)).events
    assert address.decide(state, RequestEmail(uuid7(), "reset", NOON + timedelta(hours=1))).events


def test_a_message_to_the_wrong_entity_is_a_bug() -> None:
    with pytest.raises(Internal):
        preferences.decide(fresh(USER), RequestEmail(uuid7(), "reset", NOON))
    with pytest.raises(Internal):
        address.decide(address.fresh("a@example.com"), EditSettings({}))
