"""Follow and unfollow providers."""

from __future__ import annotations

from typing import TypeVar

from actors._runtime.messages import Message
from actors.providers.messages import PROVIDERS, Follow, SetNotify, Unfollow, provider_key
from config.clock import now
from config.documents import Document, Loaded
from db.providers.follows import FollowRow, list_following
from handlers._http.base import known_id
from handlers._http.endpoint import endpoint
from handlers.auth._account_handler import AccountHandler
from schemas.follows import FollowChange, Followed, Following, FollowingQuery, NewFollow, Unfollowed

Reply = TypeVar("Reply")


class OneFollow(AccountHandler):
    """`/api/social/follow/{provider_id}`"""

    @endpoint(
        "Follow a provider",
        body=NewFollow(),
        body_required=False,
        responds=Followed(),
        others={201: Followed()},
        errors=(404, 409, 503),
    )
    async def post(self, provider_id: str, body: Loaded) -> object:
        """201 for a new follow; 200 for an existing one, whose notification is set if it is given."""
        message = Follow(self.user_id, body.get("notify_on_signal"), now())
        follow, is_new = await self._ask(provider_id, message)
        self.set_status(201 if is_new else 200)
        return _shown(follow)

    @endpoint("Unfollow a provider", responds=Unfollowed(), errors=(404, 503))
    async def delete(self, provider_id: str) -> object:
        """Unfollowing a provider that is not followed is no error; 404 for a provider that does not exist."""
        await self._ask(provider_id, Unfollow(self.user_id, now()))
        return {"following": False, "provider_id": provider_id.lower()}

    @endpoint("Change whether one is notified", body=FollowChange(), responds=Followed(), errors=(404, 503))
    async def patch(self, provider_id: str, body: Loaded) -> object:
        """404 for a provider that the caller does not follow."""
        return _shown(await self._ask(provider_id, SetNotify(self.user_id, body["notify_on_signal"])))

    async def _ask(self, provider_id: str, message: Message[Reply]) -> Reply:
        return await self.ask(PROVIDERS, provider_key(known_id(provider_id, "Provider")), message)


class MyFollowing(AccountHandler):
    """`/api/social/following`"""

    @endpoint("List whom one follows", query=FollowingQuery(), responds=Following(), errors=(503,))
    async def get(self, query: Loaded) -> object:
        """The newest first."""
        rows, total = await self.load(list_following, self.user_id, **query)
        items = [
            {"provider": each, "notify_on_signal": each.notify_on_signal, "followed_at": each.followed_at}
            for each in rows
        ]
        return {"following": items, "total": total}


def _shown(follow: FollowRow) -> Document:
    return {
        "following": True,
        "provider_id": follow.provider_id,
        "notify_on_signal": follow.notify_on_signal,
        "followed_at": follow.followed_at,
    }
