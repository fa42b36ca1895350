"""Send messages between the owners of users after a commit; one that gets lost is found by a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from actors._runtime.context import ActorContext
from actors._runtime.messages import Message
from actors.users.messages import USERS, Activity, FirstFollow, ProviderFacts, Qualify, progress_key
from db import streaks
from db.achievements import FactsRow
from db.referrals import ActedRow


def tell_acted(context: ActorContext, rows: Iterable[ActedRow]) -> None:
    """Notify referrers that a referee of theirs has followed or published."""
    for each in rows:
        _tell(context, each.referrer_id, Qualify(each.referee_id, each.acted_at))


async def tell_posts(context: ActorContext, posts: Iterable[tuple[UUID, datetime]]) -> None:
    """Count comments, (author, when), for their authors' streaks; raises DatabaseUnavailable."""
    posts = list(posts)
    async with context.connection() as conn:
        zones = await streaks.load_zones(conn, list({user_id for user_id, _ in posts}))
    for user_id, at in posts:
        _tell(context, user_id, Activity("analysis_post", at, zones.get(user_id, "UTC")))


def tell_first_follows(context: ActorContext, follows: Iterable[tuple[UUID, datetime]]) -> None:
    """Notify users' owners of a first follow or publication."""
    for user_id, at in follows:
        _tell(context, user_id, FirstFollow(at))


def tell_facts(context: ActorContext, rows: Iterable[FactsRow], at: datetime) -> None:
    """Send users' track records to their owners."""
    for each in rows:
        _tell(context, each.user_id, provider_facts(each, at))


def provider_facts(row: FactsRow, at: datetime) -> ProviderFacts:
    """Return a provider's track record as a message."""
    return ProviderFacts(row.signals, row.wins, row.most_followers, row.level, True, at)


def _tell(context: ActorContext, user_id: UUID, message: Message[None]) -> None:
    key = progress_key(user_id)
    context.ref(USERS, key).tell(key, message)
