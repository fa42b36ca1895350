"""The messages that `users/{k}` takes, by their entity: account, preferences, address, progress, social.

Times come from the sender, so that the owner's rules stay pure. Secrets do not come at all: only their hashes.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from actors._runtime.messages import Message
from config.documents import Loaded
from config.values import Value
from db.users.accounts import AccountRow
from db.users.preferences import SettingsRow, ViewRow, WatchlistRow
from schemas._vocabulary import TokenPurpose, UserStreakType

USERS = "users"


def account_key(user_id: UUID) -> str:
    """Return the key of an account: profile, credentials, sessions."""
    return str(user_id)


def preferences_key(user_id: UUID) -> str:
    """Return the key of a user's settings, watchlist and saved views; apart, since a login needs none of it."""
    return f"preferences:{user_id}"


def address_key(email: str) -> str:
    """Return the key of an e-mail address, whether or not anybody has it."""
    return f"address:{email}"


def progress_key(user_id: UUID) -> str:
    """Return the key of a user's streaks, achievements and referrals; as a referee and as a referrer."""
    return f"progress:{user_id}"


def social_key(user_id: UUID, signal_id: UUID) -> str:
    """Return the key of a user's reactions to a signal and comments on it."""
    return f"social:{user_id}:{signal_id}"


class Profile(Value):
    """The public part of an account."""

    user_id: UUID
    email: str
    email_verified: bool
    display_name: str
    avatar_url: str | None
    bio: str | None
    created_at: datetime

    @classmethod
    def of(cls, account: AccountRow) -> Profile:
        """Return the account without its secrets."""
        return cls(
            account.id,
            account.email,
            account.email_verified,
            account.display_name,
            account.avatar_url,
            account.bio,
            account.created_at,
        )


class SignedIn(Value):
    """A live session; `revoked` are those that had to end for it."""

    profile: Profile
    session_id: UUID
    revoked: tuple[UUID, ...] = ()


class Refused(Value):
    """A refresh token that is no longer valid; `revoked`: sessions ended because it was reused."""

    reason: str
    revoked: tuple[UUID, ...] = ()


# To an account


class Register(Message[Profile]):
    """Make the account. Raises Conflict "Email already registered".

    `email_id` is that of the verification e-mail, None for an address that is verified. `identity` is (provider,
    subject) of the OAuth user who signs in to it.
    """

    account: AccountRow
    email_id: UUID | None
    referrer_id: UUID | None = None
    identity: tuple[str, str] | None = None


class SignIn(Message[SignedIn]):
    """Begin a session.

    `checked_hash` is the hash that the password was checked against; None after an OAuth sign-in. `new_hash` is one of
    the same password that takes its place. Raises Unauthorized when the password that was checked is not the account's
    any more.
    """

    session_id: UUID
    checked_hash: str | None
    refresh_hash: bytes
    user_agent: str | None
    ip: str
    at: datetime
    new_hash: str | None = None


class Refresh(Message[SignedIn | Refused]):
    """Rotate a session's refresh token; presenting one that was rotated out ends the session.

    Within 10 s the token just rotated out is taken for a concurrent retry, if it leads to the same successor.
    """

    session_id: UUID
    presented: bytes
    successor: bytes
    user_agent: str | None
    ip: str
    at: datetime


class EndSessions(Message[tuple[UUID, ...]]):
    """Revoke one session (None: all); answers the ids of those that were live."""

    idempotent: ClassVar[bool] = True

    session_id: UUID | None


class ChangePassword(Message[tuple[UUID, ...]]):
    """Set another password and end all sessions but one; their ids. Raises ValidationFailed on `current_password`."""

    checked_hash: str | None
    new_hash: str
    kept_session: UUID
    at: datetime


class ResetPassword(Message[tuple[UUID, ...]]):
    """Set another password by a mailed link and end all sessions; answers their ids.

    Following the link proves that the address is the user's, so it is verified as well. Raises ValidationFailed on
    `token`.
    """

    link_hash: bytes
    new_hash: str


class VerifyEmail(Message[Profile]):
    """Verify the address by a mailed link; raises ValidationFailed on `token`."""

    link_hash: bytes


class LinkIdentity(Message[tuple[UUID, ...]]):
    """Let an OAuth user whose provider has verified the address sign in to this account.

    An account whose own address was never verified loses its password and its sessions (their ids are the answer): its
    creator may not own the address. So do its name, its picture and its referrer: `display_name` and `avatar_url`, as
    the provider has them, take their place. Raises Conflict when the OAuth user signs in elsewhere.
    """

    provider: str
    subject: str
    at: datetime
    display_name: str | None = None
    avatar_url: str | None = None


class EditProfile(Message[Profile]):
    """Set those of `display_name`, `avatar_url`, `bio` that are named."""

    idempotent: ClassVar[bool] = True

    changes: Loaded


class ChangeCode(Message[str]):
    """Set another referral code, upper case; answers the code in force. The old one stays valid.

    Raises Conflict for a code that is or was another user's, and past so many codes of one user.
    """

    idempotent: ClassVar[bool] = True

    code: str
    at: datetime


# To an address


class RequestEmail(Message[None]):
    """Queue an e-mail to an address; past a few per hour (or day) and purpose it is dropped silently."""

    email_id: UUID
    purpose: TokenPurpose
    at: datetime


# To a user's preferences


class EditSettings(Message[SettingsRow]):
    """Set the named settings; answers all settings."""

    idempotent: ClassVar[bool] = True

    changes: Loaded


class Watch(Message[tuple[WatchlistRow, bool]]):
    """Put a symbol on the watchlist, or set the named fields of a listed one; answers the item and whether it is new.

    Raises Conflict past 100 symbols.
    """

    symbol: str
    changes: Loaded
    at: datetime


class Unwatch(Message[None]):
    """Take a symbol off the watchlist; raises NotFound for one that was never on it."""

    symbol: str
    at: datetime


class SaveView(Message[ViewRow]):
    """Save a view; raises Conflict for a name that is taken, and past 50 views."""

    view_id: UUID
    name: str
    description: str | None
    filters: Loaded
    is_default: bool
    at: datetime


class EditView(Message[ViewRow]):
    """Set the named fields of a view; raises NotFound, and Conflict for a name that is taken."""

    view_id: UUID
    changes: Loaded


class DeleteView(Message[None]):
    """Remove a view; raises NotFound for one that never existed."""

    view_id: UUID
    at: datetime


# To a user's progress. Each is absolute or of a point in time: sent again, late or twice, it changes nothing more.


class Activity(Message[None]):
    """An activity that counts for a streak of days; `zone` is the IANA zone that is in force for the user."""

    idempotent: ClassVar[bool] = True

    streak: UserStreakType
    at: datetime
    zone: str


class ProviderFacts(Message[None]):
    """A provider's facts (never a system provider's); `user_id` is the key's, and no fact ever shrinks.

    `signals` and `wins` as in provider_stats, `most_followers` the highest that the number of followers ever was.
    """

    idempotent: ClassVar[bool] = True

    signals: int
    wins: int
    most_followers: int
    level: str
    is_provider: bool
    at: datetime


class FirstFollow(Message[None]):
    """The user's first follow of a provider ever: their referrer is rewarded."""

    idempotent: ClassVar[bool] = True

    at: datetime


class Qualify(Message[None]):
    """Notify the referrer that a referee of theirs has followed or published, at `at`."""

    idempotent: ClassVar[bool] = True

    referee_id: UUID
    at: datetime


# To a user's reactions and comments on a signal. Signals do not change and are never deleted, so the sender has looked
# up that the signal exists.


class React(Message[bool]):
    """React to the signal; answers whether that is new."""

    reaction_type: str
    at: datetime


class Unreact(Message[bool]):
    """Take a reaction back; answers whether it was there. Raises NotFound for one that never was."""

    reaction_type: str
    at: datetime


class PostComment(Message[None]):
    """Comment on the signal.

    Raises Conflict for a repetition of the user's own comment within a minute. The sender has looked up that
    `parent_id` is a comment on this signal and no reply: that does not change either.
    """

    comment_id: UUID
    parent_id: UUID | None
    content: str
    at: datetime


class EditComment(Message[None]):
    """Change a comment's text; raises NotFound for one that the user has not written, or deleted."""

    comment_id: UUID
    content: str


class DeleteComment(Message[None]):
    """Delete the comment; raises NotFound for one that the user has not written."""

    comment_id: UUID
    at: datetime
