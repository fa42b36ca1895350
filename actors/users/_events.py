"""Send messages to the owners of users' progress after a commit; one that gets lost is found by a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from actors._runtime.context import ActorContext
from actors._runtime.messages import Message
from actors.users.messages import USERS, Activity, Qualify, progress_key
from db import streaks
from db.referrals import ActedRow


def notify_progress(context: ActorContext, messages: Iterable[tuple[UUID, Message[None]]]) -> None:
    """Send messages to users' progress."""
    for user_id, message in messages:
        key = progress_key(user_id)
        context.ref(USERS, key).tell(key, message)


def notify_acted(context: ActorContext, rows: Iterable[ActedRow]) -> None:
    """Notify referrers that a referee of theirs has followed or published."""
    notify_progress(context, ((each.referrer_id, Qualify(each.referee_id, each.acted_at)) for each in rows))


async def notify_posts(context: ActorContext, posts: Iterable[tuple[UUID, datetime]]) -> None:
    """Count comments, (author, when), for their authors' streaks; raises DatabaseUnavailable."""
    posts = list(posts)
    async with context.connection() as conn:
        zones = await streaks.load_zones(conn, list({author for author, _ in posts}))
    activities = ((author, Activity("analysis_post", at, zones.get(author, "UTC"))) for author, at in posts)
    notify_progress(context, activities)
