"""The rules of accounts, message by message, without a database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors._runtime.messages import Message
from actors._runtime.virtual import Effect, Transition
from actors.users import account as rules
from actors.users.account import SESSIONS, AccountState, Claimed, LinkUsed, PasswordSet, ended_sessions
from actors.users.messages import (
    ChangePassword,
    EditProfile,
    EndSessions,
    LinkIdentity,
    Refused,
    ResetPassword,
    SignedIn,
    VerifyEmail,
)
from config import values
from config.ids import uuid7
from db.mail import EmailRow
from db.users.accounts import IdentityRow, ReferralRow
from schemas.errors import Conflict, NotFound, Unauthorized, ValidationFailed
from tests.support.users_factory import NOON, account_row, an_account, digest, refresh, register, sign_in, unchanged

WEEK = 7 * 24 * 3600


def after(account: AccountState, *messages: Message[Any]) -> AccountState:
    """Return the account after these messages."""
    for message in messages:
        account = rules.decide(account, message).state
    return account


def kinds(events: tuple[Any, ...]) -> list[type]:
    return [type(each) for each in events]


def ended(account: AccountState, effect: Effect[AccountState, Any]) -> list[UUID]:
    """Return the sessions that the message has ended."""
    return ended_sessions([Transition("", account, effect.state)])


def test_registering_makes_the_account_and_queues_its_verification() -> None:
    row = account_row(email_verified=False)
    effect = rules.decide(AccountState(None, {}), register(row))
    assert effect.state.row == row
    assert kinds(effect.events) == [EmailRow]
    assert effect.reply.email == row.email
    assert not hasattr(effect.reply, "password_hash")


def test_registering_through_a_provider_and_a_referrer_stores_both() -> None:
    row, referrer = account_row(), uuid7()
    effect = rules.decide(AccountState(None, {}), register(row, referrer_id=referrer, identity=("google", "g-1")))
    assert kinds(effect.events) == [IdentityRow, ReferralRow]


def test_an_account_is_made_once() -> None:
    with pytest.raises(Conflict, match="Email already registered"):
        rules.decide(an_account(), register(account_row()))


@pytest.mark.parametrize("message", [sign_in("t"), EndSessions(None), VerifyEmail(b""), EditProfile({})])
def test_an_account_that_is_not_there_takes_a_registration_only(message: Message[Any]) -> None:
    with pytest.raises(NotFound):
        rules.decide(AccountState(None, {}), message)


def test_a_login_whose_password_was_changed_meanwhile_is_refused() -> None:
    account = an_account(password_hash="new")
    with pytest.raises(Unauthorized, match="Invalid credentials"):
        rules.decide(account, sign_in("t", checked="old"))
    assert isinstance(rules.decide(account, sign_in("t", checked="new")).reply, SignedIn)


def test_the_login_past_the_bound_ends_the_session_that_was_used_longest_ago() -> None:
    ids = [uuid7() for _ in range(SESSIONS)]
    account = after(an_account(), *(sign_in(f"t{i}", session_id=each, seconds=i) for i, each in enumerate(ids)))
    account = after(account, refresh(ids[0], "t0", "t0'", seconds=100))
    effect = rules.decide(account, sign_in("one more", seconds=200))
    assert effect.reply.revoked == (ids[1],)
    assert len(effect.state.sessions) == SESSIONS


def test_each_use_rotates_the_refresh_token_and_slides_the_week() -> None:
    session = uuid7()
    account = after(an_account(), sign_in("a", session_id=session), refresh(session, "a", "b", seconds=WEEK - 1))
    effect = rules.decide(account, refresh(session, "b", "c", seconds=2 * WEEK - 2))
    assert isinstance(effect.reply, SignedIn)
    assert effect.state.sessions[session].current_hash == digest("c")


def test_a_session_that_was_not_used_for_a_week_is_over() -> None:
    session = uuid7()
    account = after(an_account(), sign_in("a", session_id=session))
    effect = rules.decide(account, refresh(session, "a", "b", seconds=WEEK))
    assert isinstance(effect.reply, Refused)
    assert unchanged(account, effect)


def test_a_concurrent_retry_gets_the_same_successor_and_changes_nothing() -> None:
    session = uuid7()
    account = after(an_account(), sign_in("a", session_id=session), refresh(session, "a", "b", seconds=1))
    effect = rules.decide(account, refresh(session, "a", "b", seconds=11))
    assert isinstance(effect.reply, SignedIn)
    assert unchanged(account, effect)


@pytest.mark.parametrize(
    ("presented", "successor", "seconds", "why"),
    [
        ("a", "b", 11.1, "the grace is over"),
        ("a", "x", 2, "it does not lead to the same successor"),
        ("never", "b", 2, "it was never current"),
    ],
)
def test_a_rotated_out_token_ends_the_whole_family(presented: str, successor: str, seconds: float, why: str) -> None:
    session, other = uuid7(), uuid7()
    account = after(
        an_account(),
        sign_in("o", session_id=other),
        sign_in("a", session_id=session),
        refresh(session, "a", "b", seconds=1),
    )
    effect = rules.decide(account, refresh(session, presented, successor, seconds=seconds))
    assert isinstance(effect.reply, Refused), why
    assert effect.reply.revoked == (session,)
    assert ended(account, effect) == [session]
    assert effect.events == ()
    assert list(effect.state.sessions) == [other]
    again = rules.decide(effect.state, refresh(session, "b", "c", seconds=seconds + 1))
    assert isinstance(again.reply, Refused)
    assert unchanged(effect.state, again)


def test_the_token_before_the_last_one_has_no_grace() -> None:
    session = uuid7()
    account = after(
        an_account(),
        sign_in("a", session_id=session),
        refresh(session, "a", "b", seconds=1),
        refresh(session, "b", "c", seconds=2),
    )
    assert isinstance(rules.decide(account, refresh(session, "a", "b", seconds=3)).reply, Refused)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 30)), max_size=12))
def test_two_tokens_of_a_family_are_never_good_beyond_the_grace(uses: list[tuple[int, float]]) -> None:
    """Tokens descend from one another, t0 → t1 → …; in any order of use, only one line of descent stays valid."""
    session, seconds = uuid7(), 0.0
    account = after(an_account(), sign_in("t0", session_id=session))
    newest, rotated_at = 0, -100.0
    for number, pause in uses:
        seconds += pause
        alive = session in account.sessions
        effect = rules.decide(account, refresh(session, f"t{number}", f"t{number + 1}", seconds=seconds))
        good = alive and (number == newest or (number == newest - 1 and seconds - rotated_at <= 10))
        # A microsecond decides at the edge of the grace.
        if not (alive and number == newest - 1 and abs(seconds - rotated_at - 10) < 1e-3):
            assert isinstance(effect.reply, SignedIn) == good
        account = effect.state
        if alive and number == newest:
            newest, rotated_at = newest + 1, seconds


def test_ending_sessions_is_idempotent() -> None:
    one, two = uuid7(), uuid7()
    account = after(an_account(), sign_in("a", session_id=one), sign_in("b", session_id=two))
    assert rules.decide(account, EndSessions(one)).reply == (one,)
    assert set(rules.decide(account, EndSessions(None)).reply) == {one, two}
    account = after(account, EndSessions(None))
    effect = rules.decide(account, EndSessions(one))
    assert effect.reply == ()
    assert unchanged(account, effect)


def test_changing_the_password_keeps_only_the_session_that_asked() -> None:
    one, two = uuid7(), uuid7()
    account = after(an_account(password_hash="old"), sign_in("a", session_id=one), sign_in("b", session_id=two))
    effect = rules.decide(account, ChangePassword("old", "new", one, NOON))
    assert effect.reply == (two,)
    assert list(effect.state.sessions) == [one]
    assert effect.state.row is not None
    assert effect.state.row.password_hash == "new"
    assert PasswordSet(effect.state.row.id) in effect.events


@pytest.mark.parametrize(("stored", "checked"), [("now", "then"), (None, None)])
def test_a_wrong_current_password_changes_nothing(stored: str | None, checked: str | None) -> None:
    with pytest.raises(ValidationFailed) as caught:
        rules.decide(an_account(password_hash=stored), ChangePassword(checked, "new", uuid7(), NOON))
    assert [each.field for each in caught.value.details] == ["current_password"]


def test_a_reset_uses_its_link_verifies_the_address_and_ends_every_session() -> None:
    session = uuid7()
    account = after(an_account(email_verified=False), sign_in("a", session_id=session))
    effect = rules.decide(account, ResetPassword(b"link", "new"))
    assert effect.reply == (session,)
    assert effect.events[0] == LinkUsed(b"link")
    assert effect.state.row is not None
    assert effect.state.row.email_verified
    assert not effect.state.sessions


def test_linking_leaves_a_verified_account_as_it_was() -> None:
    account = after(an_account(), sign_in("a"))
    effect = rules.decide(account, LinkIdentity("google", "g-1", NOON))
    assert effect.state == account
    assert kinds(effect.events) == [IdentityRow]


def test_linking_takes_an_unverified_account_from_whoever_made_it() -> None:
    session = uuid7()
    account = after(an_account(email_verified=False), sign_in("a", session_id=session))
    effect = rules.decide(account, LinkIdentity("google", "g-1", NOON))
    assert effect.state.row is not None
    assert effect.state.row.email_verified
    assert effect.state.row.password_hash is None
    assert effect.reply == (session,)
    assert kinds(effect.events) == [IdentityRow, PasswordSet, Claimed]
    assert ended(account, effect) == [session]


def test_linking_an_unverified_account_takes_the_providers_name_and_picture_and_drops_the_rest() -> None:
    account = an_account(email_verified=False, display_name="Squatter", avatar_url="https://a.example/x", bio="x")
    for message, name, picture in (
        (LinkIdentity("google", "g-1", NOON, "Ann", "https://a.example/ann"), "Ann", "https://a.example/ann"),
        (LinkIdentity("google", "g-1", NOON), "Squatter", None),
    ):
        row = rules.decide(account, message).state.row
        assert row is not None
        assert (row.display_name, row.avatar_url, row.bio) == (name, picture, None)


def test_an_edit_sets_what_it_names_and_nothing_else() -> None:
    account = an_account(bio="before", display_name="Kept")
    effect = rules.decide(account, EditProfile({"bio": None}))
    assert effect.state.row == replace(_row(account), bio=None)
    assert unchanged(effect.state, rules.decide(effect.state, EditProfile({"bio": None})))


def _row(account: AccountState) -> Any:
    assert account.row is not None
    return account.row


def test_a_session_remembers_no_more_of_a_user_agent_than_fits() -> None:
    session: UUID = uuid7()
    message = values.replace(sign_in("a", session_id=session), user_agent="x" * 10_000)
    kept = rules.decide(an_account(), message).state.sessions[session].user_agent
    assert kept is not None
    assert len(kept) == 300
