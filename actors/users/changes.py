"""Save what the owner of accounts changes: each change names its row, and the last one of a row wins."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from actors.users.referrals import CODES
from db import achievements, mail, referrals, social
from db._postgres import Connection
from db.achievements import EndedStreakRow, StreakRow, UnlockedRow
from db.mail import EmailRow
from db.referrals import ActedRow, CodeRow, QualifiedRow
from db.social import CommentRow, ReactionRow
from db.users import accounts, preferences, sessions, tokens
from db.users.accounts import AccountRow, IdentityRow, ReferralRow
from db.users.preferences import RemovedRow, SettingsRow, ViewRow, WatchlistRow
from db.users.sessions import RefreshRow, SessionRow
from schemas._vocabulary import PreferenceList
from schemas.errors import Conflict, Internal, Unavailable, ValidationFailed

EMAIL_TAKEN = "Email already registered"
MAILBOX_COUNTED = "A referral by this mailbox has counted already"


@dataclass(frozen=True, slots=True)
class Created:
    """A new account."""

    account: AccountRow


@dataclass(frozen=True, slots=True)
class Changed:
    """A changed account; `is_claimed`: by its owner, from its creator, so it has no referrer."""

    account: AccountRow
    is_claimed: bool = False


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session to revoke."""

    session_id: UUID


@dataclass(frozen=True, slots=True)
class LinkUsed:
    """A mailed link to use up; the change counts only if the link was still valid."""

    hash: bytes


@dataclass(frozen=True, slots=True)
class PasswordSet:
    """A new password: voids the mailed links to reset this user's password."""

    user_id: UUID


@dataclass(frozen=True, slots=True)
class Unwatched:
    """A symbol to remove from a watchlist."""

    user_id: UUID
    symbol: str


@dataclass(frozen=True, slots=True)
class ViewDeleted:
    """A view to delete."""

    view_id: UUID


@dataclass(frozen=True, slots=True)
class RemovalForgotten:
    """A removal that need not be remembered."""

    user_id: UUID
    list: PreferenceList
    item: str


@dataclass(frozen=True, slots=True)
class Commented:
    """A new comment."""

    comment: CommentRow


@dataclass(frozen=True, slots=True)
class Counted:
    """A signal's counter to raise or lower, by its column; `provider_id` is the signal's provider."""

    signal_id: UUID
    column: str
    delta: int
    provider_id: UUID | None = None


Change = (
    Created
    | Changed
    | SessionRow
    | RefreshRow
    | SessionEnded
    | LinkUsed
    | PasswordSet
    | IdentityRow
    | ReferralRow
    | CodeRow
    | EmailRow
    | SettingsRow
    | WatchlistRow
    | Unwatched
    | ViewRow
    | ViewDeleted
    | RemovedRow
    | RemovalForgotten
    | StreakRow
    | EndedStreakRow
    | UnlockedRow
    | ActedRow
    | QualifiedRow
    | ReactionRow
    | Commented
    | CommentRow
    | Counted
)

_Kind = TypeVar("_Kind")


async def save_accounts(conn: Connection, changes: Sequence[Change]) -> None:
    """Save changes to accounts; raises Conflict and ValidationFailed: then one message of the batch is impossible."""
    created = of_kind(changes, Created)
    if created:
        await _create(conn, [each.account for each in created])
    if links := of_kind(changes, LinkUsed):
        hashes = {each.hash for each in links}
        # Fewer hashes than links: two messages of this batch follow the same one.
        if len(hashes) < len(links) or await tokens.use_links(conn, list(hashes)) < len(hashes):
            raise ValidationFailed.of("token", "is invalid, expired or used")
    if changed := last_of(of_kind(changes, Changed), lambda each: each.account.id):
        await accounts.update_accounts(conn, [each.account for each in changed])
    if passwords := of_kind(changes, PasswordSet):
        await tokens.void_resets(conn, [each.user_id for each in passwords])
    identities = of_kind(changes, IdentityRow)
    if identities and await accounts.insert_identities(conn, identities) < len(identities):
        raise Conflict("This login is linked already")
    if brought := of_kind(changes, ReferralRow):
        await accounts.insert_referrals(conn, brought)
    if claimed := [each.account.id for each in of_kind(changes, Changed) if each.is_claimed]:
        await accounts.delete_referrals(conn, claimed)
    if codes := of_kind(changes, CodeRow):
        await _change_codes(conn, codes)
    if emails := of_kind(changes, EmailRow):
        await mail.insert_emails(conn, emails)


async def save_sessions(conn: Connection, changes: Sequence[Change]) -> None:
    """Save changes to sessions."""
    if used := last_of(of_kind(changes, SessionRow), lambda each: each.id):
        await sessions.upsert_sessions(conn, used)
    if issued := of_kind(changes, RefreshRow):
        await sessions.insert_refresh_tokens(conn, issued)
    if ended := of_kind(changes, SessionEnded):
        await sessions.revoke_sessions(conn, [each.session_id for each in ended])


async def save_lists(conn: Connection, changes: Sequence[Change]) -> None:
    """Save changes to settings, watchlists and views."""
    if settings := last_of(of_kind(changes, SettingsRow), lambda each: each.user_id):
        await preferences.upsert_settings(conn, settings)
    watched: list[WatchlistRow | Unwatched] = [*_either(changes, WatchlistRow, Unwatched)]
    watched = last_of(watched, lambda each: (each.user_id, each.symbol))
    if gone := of_kind(watched, Unwatched):
        await preferences.delete_watchlist(conn, [(each.user_id, each.symbol) for each in gone])
    if kept := of_kind(watched, WatchlistRow):
        await preferences.upsert_watchlist(conn, kept)
    views: list[ViewRow | ViewDeleted] = [*_either(changes, ViewRow, ViewDeleted)]
    views = last_of(views, lambda each: each.id if isinstance(each, ViewRow) else each.view_id)
    if deleted := of_kind(views, ViewDeleted):
        await preferences.delete_views(conn, [each.view_id for each in deleted])
    if saved := of_kind(views, ViewRow):
        await preferences.upsert_views(conn, saved)
    removals: list[RemovedRow | RemovalForgotten] = [*_either(changes, RemovedRow, RemovalForgotten)]
    removals = last_of(removals, lambda each: (each.user_id, each.list, each.item))
    if forgotten := of_kind(removals, RemovalForgotten):
        await preferences.delete_removed(conn, [(each.user_id, each.list, each.item) for each in forgotten])
    if removed := of_kind(removals, RemovedRow):
        await preferences.upsert_removed(conn, removed)


async def save_progress(conn: Connection, changes: Sequence[Change]) -> None:
    """Save changes to streaks, achievements and referrals."""
    if counted := last_of(of_kind(changes, StreakRow), lambda each: (each.user_id, each.streak_type)):
        await achievements.upsert_streaks(conn, counted)
    if over := of_kind(changes, EndedStreakRow):
        await achievements.insert_ended(conn, over)
    if unlocked := of_kind(changes, UnlockedRow):
        await achievements.insert_unlocked(conn, unlocked)
    if acted := of_kind(changes, ActedRow):
        await referrals.mark_acted(conn, acted)
    qualified = of_kind(changes, QualifiedRow)
    if qualified and await referrals.take_mailboxes(conn, qualified) < len(qualified):
        raise Conflict(MAILBOX_COUNTED)
    if qualified and await referrals.qualify(conn, qualified) < len(qualified):
        raise Internal("a referral that is none was to qualify")


async def save_talks(conn: Connection, changes: Sequence[Change]) -> None:
    """Save changes to reactions and comments; the counters come last: other transactions wait for their rows."""
    reactions = of_kind(changes, ReactionRow)
    if reactions := last_of(reactions, lambda each: (each.user_id, each.signal_id, each.reaction_type)):
        await social.upsert_reactions(conn, reactions)
    comments = [
        each.comment if isinstance(each, Commented) else each for each in _either(changes, Commented, CommentRow)
    ]
    if comments := last_of(comments, lambda each: each.id):
        await social.upsert_comments(conn, comments)
    if counted := of_kind(changes, Counted):
        deltas: dict[UUID, Counter[str]] = defaultdict(Counter)
        likes: Counter[UUID] = Counter()
        for each in counted:
            deltas[each.signal_id][each.column] += each.delta
            if each.column == social.LIKES and each.provider_id is not None:
                likes[each.provider_id] += each.delta
        await social.add_to_counters(conn, deltas, likes)


def of_kind(changes: Iterable[Any], kind: type[_Kind]) -> list[_Kind]:
    """Return the changes of one kind, in order."""
    return [each for each in changes if isinstance(each, kind)]


def last_of(changes: Iterable[_Kind], row: Callable[[_Kind], object]) -> list[_Kind]:
    """Return, of several changes of one row, the last."""
    return list({row(each): each for each in changes}.values())


def _either(changes: Iterable[Any], *kinds: type[Any]) -> Iterable[Any]:
    return (each for each in changes if isinstance(each, kinds))


async def _create(conn: Connection, created: Sequence[AccountRow]) -> None:
    stored = await accounts.insert_accounts(conn, created)
    refused = [each.email for each in created if each.id not in stored]
    if not refused:
        codes = [CodeRow(each.referral_code, each.id, each.created_at) for each in created]
        if len(await referrals.take_codes(conn, codes)) == len(codes):
            return
    elif await accounts.taken_emails(conn, refused):
        raise Conflict(EMAIL_TAKEN)
    raise Unavailable("The referral code is taken; try again")


async def _change_codes(conn: Connection, codes: Sequence[CodeRow]) -> None:
    for each in codes:
        if await referrals.count_codes(conn, each.user_id, each.code) > CODES:
            raise Conflict(f"There have been {CODES} codes already")
    if len(await referrals.take_codes(conn, codes)) < len(codes):
        raise Conflict("This code is taken")
    await referrals.set_codes(conn, last_of(codes, lambda each: each.user_id))
