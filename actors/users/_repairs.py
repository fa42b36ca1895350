"""Find lost messages: facts without the achievement that they unlock, acts without their reward.

A turn reads one page of each table, so that it costs a few milliseconds however many users there are.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from actors._runtime.context import ActorContext
from actors.users._events import notify_acted, notify_posts, notify_progress
from actors.users.achievements import ACHIEVEMENTS
from actors.users.messages import FirstFollow, ProviderFacts
from actors.users.referrals import REFERRALS
from config.clock import now
from config.ids import first_id
from db import achievements, referrals

REPAIR_EVERY_SECONDS = 5.0
PAGE = 1_000
_START = UUID(int=0)
_DUE = [(each.id, each.fact, each.target) for each in ACHIEVEMENTS]

POSTS_SINCE = timedelta(days=2)  # a day that was lost longer ago cannot be repaired: others have counted since
POSTS_UNTIL = timedelta(seconds=20)  # younger posts have just been announced, or are not committed yet


class Repairs:
    """Walks over the tables, again and again, for as long as the actor lives; repeated messages are harmless."""

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._providers = self._referees = self._unnotified = _START
        self._posts = first_id(now() - POSTS_SINCE)

    async def turn(self) -> None:
        """Check the next page of each table; raises DatabaseUnavailable."""
        context, at = self._context, now()
        until = first_id(at - POSTS_UNTIL)
        async with context.connection() as conn:
            facts, providers = await achievements.walk_providers(conn, self._providers, PAGE, _DUE)
            acted, referees = await referrals.walk_idle(conn, self._referees, PAGE)
            unnotified, waiting = await referrals.walk_unnotified(conn, self._unnotified, PAGE, REFERRALS)
            posts = await achievements.posts(conn, self._posts, until, PAGE)
        for row in facts:
            message = ProviderFacts(row.signals, row.wins, row.most_followers, row.level, True, at)
            notify_progress(context, [(row.user_id, message)])
        notify_progress(context, ((each.referee_id, FirstFollow(each.acted_at)) for each in acted))
        notify_acted(context, unnotified)
        if posts:
            await notify_posts(context, [(each.user_id, each.created_at) for each in posts])
        self._providers, self._referees, self._unnotified = providers or _START, referees or _START, waiting or _START
        if posts:
            self._posts = posts[-1].id
