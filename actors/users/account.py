"""Accounts: registration, sign-in, refresh tokens, passwords and links. The rules are pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from actors._runtime.messages import Message
from actors._runtime.virtual import Effect, Transition, events_of
from actors.users.messages import (
    ChangeCode,
    ChangePassword,
    EditProfile,
    EndSessions,
    LinkIdentity,
    Profile,
    Refresh,
    Refused,
    Register,
    ResetPassword,
    SignedIn,
    SignIn,
    VerifyEmail,
)
from actors.users.referrals import CODES
from config.values import Value
from db import mail, referrals
from db._postgres import Connection
from db.mail import EmailRow
from db.referrals import CodeRow
from db.users import accounts, sessions, tokens
from db.users.accounts import AccountRow, IdentityRow, ReferralRow
from db.users.sessions import RefreshRow, SessionRow
from schemas.errors import Conflict, Internal, NotFound, Unauthorized, Unavailable, ValidationFailed

SESSION_LIFETIME = timedelta(days=7)  # since its last use
RETRY_GRACE = timedelta(seconds=10)
SESSIONS = 50  # live ones per account; the next login ends the least recently used
USER_AGENT_CHARACTERS = 300
BAD_CREDENTIALS = "Invalid credentials"
EMAIL_TAKEN = "Email already registered"


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account; `row` is None while there is none; `sessions` are in the order of their last use."""

    row: AccountRow | None
    sessions: Mapping[UUID, SessionRow]


class LinkUsed(Value):
    """A mailed link is used up; the message counts only if the link was still valid."""

    hash: bytes


class PasswordSet(Value):
    """Another password is set, which voids the mailed links to reset this user's password."""

    user_id: UUID


class Claimed(Value):
    """An account has passed from its creator to the owner of its address; it has no referrer then."""

    user_id: UUID


Event = EmailRow | IdentityRow | ReferralRow | CodeRow | LinkUsed | PasswordSet | Claimed
_Effect = Effect[AccountState, Event]
_Transition = Transition[AccountState, Event]


def fresh(user_id: UUID) -> AccountState:
    """Return the state of an account that is not there."""
    return AccountState(None, {})


def decide(account: AccountState, message: Message[object]) -> _Effect:
    """Return the effect of `message`; raises NotFound for an account that does not exist."""
    if isinstance(message, Register):
        return _register(account, message)
    row = account.row
    if row is None:
        raise NotFound("User not found")
    match message:
        case SignIn():
            return _sign_in(account, row, message)
        case Refresh():
            return _refresh(account, row, message)
        case EndSessions():
            ended = tuple(each for each in account.sessions if message.session_id in (None, each))
            return Effect(_without(account, ended), ended)
        case ChangePassword():
            if row.password_hash is None or message.checked_hash != row.password_hash:
                raise ValidationFailed.of("current_password", "is wrong")
            return _set_password(account, row, message.new_hash, kept=message.kept_session)
        case ResetPassword():
            effect = _set_password(account, replace(row, email_verified=True), message.new_hash)
            return replace(effect, events=(LinkUsed(message.link_hash), *effect.events))
        case VerifyEmail():
            row = replace(row, email_verified=True)
            return Effect(replace(account, row=row), Profile.of(row), (LinkUsed(message.link_hash),))
        case LinkIdentity():
            return _link_identity(account, row, message)
        case EditProfile():
            row = replace(row, **message.changes)
            return Effect(replace(account, row=row), Profile.of(row))
        case ChangeCode():
            return _change_code(account, row, message)
    raise Internal(f"an account does not take {type(message).__name__}")


def _register(account: AccountState, message: Register) -> _Effect:
    if account.row is not None:
        raise Conflict(EMAIL_TAKEN)
    row = message.account
    events: list[Event] = []
    if message.identity is not None:
        events.append(IdentityRow(*message.identity, row.id, row.created_at))
    if message.referrer_id is not None:
        events.append(ReferralRow(row.id, message.referrer_id, row.created_at))
    if message.email_id is not None:
        events.append(EmailRow(message.email_id, "verification", row.email, row.created_at))
    return Effect(AccountState(row, {}), Profile.of(row), tuple(events))


def _sign_in(account: AccountState, row: AccountRow, message: SignIn) -> _Effect:
    if message.checked_hash is not None and message.checked_hash != row.password_hash:
        raise Unauthorized(BAD_CREDENTIALS)
    if message.new_hash is not None:
        row = replace(row, password_hash=message.new_hash)
    live = [key for key, each in account.sessions.items() if each.expires_at > message.at]
    surplus = tuple(live[: max(0, len(live) - SESSIONS + 1)])
    begun = SessionRow(
        id=message.session_id,
        user_id=row.id,
        created_at=message.at,
        last_used_at=message.at,
        expires_at=message.at + SESSION_LIFETIME,
        user_agent=cut_agent(message.user_agent),
        ip=message.ip,
        current_hash=message.refresh_hash,
        previous_hash=None,
        rotated_at=None,
    )
    kept = _without(account, surplus).sessions
    state = AccountState(row, {**kept, begun.id: begun})
    return Effect(state, SignedIn(Profile.of(row), message.session_id, surplus))


def _refresh(account: AccountState, row: AccountRow, message: Refresh) -> _Effect:
    session = account.sessions.get(message.session_id)
    if session is None or session.expires_at <= message.at:
        return Effect(account, Refused("The session has ended"))
    if message.presented != session.current_hash:
        is_retry = (
            message.presented == session.previous_hash
            and message.successor == session.current_hash
            and session.rotated_at is not None
            and message.at - session.rotated_at <= RETRY_GRACE
        )
        if is_retry:
            return Effect(account, SignedIn(Profile.of(row), session.id))
        refusal = Refused("The refresh token was used before; its session has been ended", (session.id,))
        return Effect(_without(account, (session.id,)), refusal)
    rotated = replace(
        session,
        last_used_at=message.at,
        expires_at=message.at + SESSION_LIFETIME,
        user_agent=cut_agent(message.user_agent),
        ip=message.ip,
        current_hash=message.successor,
        previous_hash=message.presented,
        rotated_at=message.at,
    )
    others = _without(account, (session.id,)).sessions
    return Effect(AccountState(row, {**others, session.id: rotated}), SignedIn(Profile.of(row), session.id))


def _set_password(account: AccountState, row: AccountRow, new_hash: str, kept: UUID | None = None) -> _Effect:
    ended = tuple(each for each in account.sessions if each != kept)
    state = replace(_without(account, ended), row=replace(row, password_hash=new_hash))
    return Effect(state, ended, (PasswordSet(row.id),))


def _link_identity(account: AccountState, row: AccountRow, message: LinkIdentity) -> _Effect:
    identity = IdentityRow(message.provider, message.subject, row.id, message.at)
    if row.email_verified:
        return Effect(account, (), (identity,))
    # Nothing of the account's creator may stay: not the password, not the name and picture, not the referrer.
    claimed = replace(
        row,
        email_verified=True,
        password_hash=None,
        display_name=message.display_name or row.display_name,
        avatar_url=message.avatar_url,
        bio=None,
    )
    events = (identity, PasswordSet(row.id), Claimed(row.id))
    return Effect(AccountState(claimed, {}), tuple(account.sessions), events)


def _change_code(account: AccountState, row: AccountRow, message: ChangeCode) -> _Effect:
    if message.code == row.referral_code:
        return Effect(account, message.code)
    state = replace(account, row=replace(row, referral_code=message.code))
    return Effect(state, message.code, (CodeRow(message.code, row.id, message.at),))


def _without(account: AccountState, ended: Sequence[UUID]) -> AccountState:
    return AccountState(account.row, {key: each for key, each in account.sessions.items() if key not in ended})


def cut_agent(user_agent: str | None) -> str | None:
    """Return a `User-Agent` as sessions store it."""
    return None if user_agent is None else user_agent[:USER_AGENT_CHARACTERS]


async def load(conn: Connection, ids: Sequence[UUID]) -> Mapping[UUID, AccountState]:
    """Return the accounts that exist, with their live sessions."""
    live: dict[UUID, dict[UUID, SessionRow]] = defaultdict(dict)
    for each in await sessions.load_sessions(conn, ids):
        live[each.user_id][each.id] = each
    return {row.id: AccountState(row, live[row.id]) for row in await accounts.load_accounts(conn, ids)}


async def save(conn: Connection, transitions: Sequence[_Transition]) -> None:
    """Save accounts, then their sessions; raises Conflict, ValidationFailed, Unavailable: one message is impossible."""
    created: list[AccountRow] = []
    changed: dict[UUID, AccountRow] = {}
    for each in transitions:
        if each.after.row is not None and each.after.row is not each.before.row:
            if each.before.row is None:
                created.append(each.after.row)
            else:
                changed[each.after.row.id] = each.after.row
    if created:
        await _create(conn, created)
    await _use_links(conn, [each.hash for each in events_of(transitions, LinkUsed)])
    if codes := events_of(transitions, CodeRow):
        await _take_codes(conn, codes)
    if changed:
        await accounts.update_accounts(conn, list(changed.values()))
    if passwords := events_of(transitions, PasswordSet):
        await tokens.void_resets(conn, [each.user_id for each in passwords])
    identities = events_of(transitions, IdentityRow)
    if identities and await accounts.insert_identities(conn, identities) < len(identities):
        raise Conflict("This login is linked already")
    if brought := events_of(transitions, ReferralRow):
        await accounts.insert_referrals(conn, brought)
    if claimed := events_of(transitions, Claimed):
        await accounts.delete_referrals(conn, [each.user_id for each in claimed])
    if emails := events_of(transitions, EmailRow):
        await mail.insert_emails(conn, emails)
    await _save_sessions(conn, transitions)


def ended_sessions(transitions: Iterable[_Transition]) -> list[UUID]:
    """Return the sessions that have ended."""
    return [key for each in transitions for key in each.before.sessions if key not in each.after.sessions]


async def _create(conn: Connection, created: Sequence[AccountRow]) -> None:
    stored = await accounts.insert_accounts(conn, created)
    refused = [each.email for each in created if each.id not in stored]
    if refused and await accounts.taken_emails(conn, refused):
        raise Conflict(EMAIL_TAKEN)
    codes = [CodeRow(each.referral_code, each.id, each.created_at) for each in created]
    if refused or len(await referrals.take_codes(conn, codes)) < len(codes):
        raise Unavailable("The referral code is taken; try again")


async def _use_links(conn: Connection, hashes: Sequence[bytes]) -> None:
    # A hash that is there twice: two messages of this batch follow the same link.
    if hashes and (len(set(hashes)) < len(hashes) or await tokens.use_links(conn, hashes) < len(hashes)):
        raise ValidationFailed.of("token", "is invalid, expired or used")


async def _take_codes(conn: Connection, codes: Sequence[CodeRow]) -> None:
    for each in codes:
        if await referrals.count_codes(conn, each.user_id, each.code) > CODES:
            raise Conflict(f"There have been {CODES} codes already")
    if len(await referrals.take_codes(conn, codes)) < len(codes):
        raise Conflict("This code is taken")


async def _save_sessions(conn: Connection, transitions: Sequence[_Transition]) -> None:
    # Every token that was issued is stored, also one that has been rotated out within the batch.
    used = [
        session
        for each in transitions
        for key, session in each.after.sessions.items()
        if each.before.sessions.get(key) is not session
    ]
    if used:
        await sessions.upsert_sessions(conn, list({each.id: each for each in used}.values()))
        issued = [RefreshRow(each.current_hash, each.id, each.user_id, each.last_used_at) for each in used]
        await sessions.insert_refresh_tokens(conn, issued)
    if ended := ended_sessions(transitions):
        await sessions.revoke_sessions(conn, ended)
