"""Decide account messages (pure): registration, sign-in, refresh tokens, passwords and links."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from actors._runtime.messages import Message
from actors._runtime.virtual import Decision
from actors.users.changes import EMAIL_TAKEN, Change, Changed, Created, LinkUsed, PasswordSet, SessionEnded
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
from db.mail import EmailRow
from db.referrals import CodeRow
from db.users.accounts import AccountRow, IdentityRow, ReferralRow
from db.users.sessions import RefreshRow, SessionRow
from schemas.errors import Conflict, NotFound, Unauthorized, ValidationFailed

SESSION_LIFETIME = timedelta(days=7)  # since its last use
RETRY_GRACE = timedelta(seconds=10)
SESSIONS = 50  # live ones per account; the next login ends the least recently used
USER_AGENT_CHARACTERS = 300
BAD_CREDENTIALS = "Invalid credentials"


@dataclass(frozen=True, slots=True)
class Account:
    """The state of an account; `row` is None while there is none; `sessions` are in the order of their last use."""

    row: AccountRow | None
    sessions: Mapping[UUID, SessionRow]


Result = Decision[Account, Change]


def decide(account: Account, message: Message[Any]) -> Result:
    """Return the result of `message`; raises NotFound for an account that does not exist."""
    if isinstance(message, Register):
        return _register(account, message)
    if account.row is None:
        raise NotFound("User not found")
    return _RULES[type(message)](account, account.row, message)


def _register(account: Account, message: Register) -> Result:
    if account.row is not None:
        raise Conflict(EMAIL_TAKEN)
    row = message.account
    changes: list[Change] = [Created(row)]
    if message.identity is not None:
        changes.append(IdentityRow(*message.identity, row.id, row.created_at))
    if message.referrer_id is not None:
        changes.append(ReferralRow(row.id, message.referrer_id, row.created_at))
    if message.email_id is not None:
        changes.append(EmailRow(message.email_id, "verification", row.email, row.created_at))
    return Decision(Account(row, {}), Profile.of(row), tuple(changes))


def _sign_in(account: Account, row: AccountRow, message: SignIn) -> Result:
    if message.checked_hash is not None and message.checked_hash != row.password_hash:
        raise Unauthorized(BAD_CREDENTIALS)
    if message.new_hash is not None:
        row = replace(row, password_hash=message.new_hash)
    sessions = _live(account.sessions, message.at)
    surplus = tuple(sessions)[: max(0, len(sessions) - SESSIONS + 1)]
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
    kept = {key: each for key, each in sessions.items() if key not in surplus}
    changes: tuple[Change, ...] = (begun, RefreshRow(begun.current_hash, begun.id, row.id, message.at))
    changes += tuple(map(SessionEnded, surplus))
    if message.new_hash is not None:
        changes += (Changed(row),)
    return Decision(
        Account(row, kept | {begun.id: begun}), SignedIn(Profile.of(row), message.session_id, surplus), changes
    )


def _refresh(account: Account, row: AccountRow, message: Refresh) -> Result:
    session = account.sessions.get(message.session_id)
    if session is None or session.expires_at <= message.at:
        return Decision(account, Refused("The session has ended"))
    if message.presented != session.current_hash:
        retried = (
            message.presented == session.previous_hash
            and message.successor == session.current_hash
            and session.rotated_at is not None
            and message.at - session.rotated_at <= RETRY_GRACE
        )
        if retried:
            return Decision(account, SignedIn(Profile.of(row), session.id))
        return Decision(
            _without(account, (session.id,)),
            Refused("The refresh token was used before; its session has been ended", (session.id,)),
            (SessionEnded(session.id),),
        )
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
    others = {key: each for key, each in account.sessions.items() if key != session.id}
    return Decision(
        Account(row, others | {session.id: rotated}),
        SignedIn(Profile.of(row), session.id),
        (rotated, RefreshRow(message.successor, session.id, row.id, message.at)),
    )


def _end_sessions(account: Account, row: AccountRow, message: EndSessions) -> Result:
    ended = tuple(each for each in account.sessions if message.session_id in (None, each))
    return Decision(_without(account, ended), ended, tuple(map(SessionEnded, ended)))


def _change_password(account: Account, row: AccountRow, message: ChangePassword) -> Result:
    if row.password_hash is None or message.checked_hash != row.password_hash:
        raise ValidationFailed.of("current_password", "is wrong")
    return _set_password(account, row, message.new_hash, kept=message.kept_session)


def _reset_password(account: Account, row: AccountRow, message: ResetPassword) -> Result:
    result = _set_password(account, replace(row, email_verified=True), message.new_hash)
    return replace(result, changes=(LinkUsed(message.link_hash), *result.changes))


def _set_password(account: Account, row: AccountRow, new_hash: str, kept: UUID | None = None) -> Result:
    changed = replace(row, password_hash=new_hash)
    ended = tuple(each for each in account.sessions if each != kept)
    return Decision(
        replace(_without(account, ended), row=changed),
        ended,
        (Changed(changed), PasswordSet(row.id), *map(SessionEnded, ended)),
    )


def _verify_email(account: Account, row: AccountRow, message: VerifyEmail) -> Result:
    verified = replace(row, email_verified=True)
    return Decision(
        replace(account, row=verified), Profile.of(verified), (LinkUsed(message.link_hash), Changed(verified))
    )


def _link_identity(account: Account, row: AccountRow, message: LinkIdentity) -> Result:
    identity = IdentityRow(message.provider, message.subject, row.id, message.at)
    if row.email_verified:
        return Decision(account, (), (identity,))
    # Nothing of the account's creator may stay: not the password, not the name and picture, not the referrer.
    claimed = replace(
        row,
        email_verified=True,
        password_hash=None,
        display_name=message.display_name or row.display_name,
        avatar_url=message.avatar_url,
        bio=None,
    )
    ended = tuple(account.sessions)
    changes: tuple[Change, ...] = (identity, Changed(claimed, is_claimed=True), PasswordSet(row.id))
    changes += tuple(map(SessionEnded, ended))
    return Decision(Account(claimed, {}), ended, changes)


def _edit_profile(account: Account, row: AccountRow, message: EditProfile) -> Result:
    edited = replace(row, **message.changes)
    changes = () if edited == row else (Changed(edited),)
    return Decision(replace(account, row=edited), Profile.of(edited), changes)


def _change_code(account: Account, row: AccountRow, message: ChangeCode) -> Result:
    if message.code == row.referral_code:
        return Decision(account, message.code)
    changed = replace(row, referral_code=message.code)
    return Decision(replace(account, row=changed), message.code, (CodeRow(message.code, row.id, message.at),))


_RULES: Mapping[type[Message[Any]], Callable[[Account, AccountRow, Any], Result]] = {
    SignIn: _sign_in,
    Refresh: _refresh,
    EndSessions: _end_sessions,
    ChangePassword: _change_password,
    ResetPassword: _reset_password,
    VerifyEmail: _verify_email,
    LinkIdentity: _link_identity,
    EditProfile: _edit_profile,
    ChangeCode: _change_code,
}


def _live(sessions: Mapping[UUID, SessionRow], at: datetime) -> dict[UUID, SessionRow]:
    return {key: each for key, each in sessions.items() if each.expires_at > at}


def _without(account: Account, ended: tuple[UUID, ...]) -> Account:
    return Account(account.row, {key: each for key, each in account.sessions.items() if key not in ended})


def cut_agent(user_agent: str | None) -> str | None:
    """Return a `User-Agent` as sessions store it."""
    return None if user_agent is None else user_agent[:USER_AGENT_CHARACTERS]
