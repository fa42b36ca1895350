"""Serve reactions and comments on signals, and the feed of followed providers."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from actors._runtime.messages import Message
from actors.users.messages import DeleteComment, EditComment, PostComment, React, Unreact, social_key
from config.clock import now
from config.documents import Document, Loaded
from config.ids import uuid7
from db import social
from db._postgres import connection
from db.signals.document import REACTIONS
from db.signals.reads import signal_exists
from db.social import CommentFacts
from db.social_feed import count_feed, get_followed, list_feed
from handlers._http.base import known_id
from handlers._http.endpoint import endpoint
from handlers._signal_pages import page
from handlers.auth._account_handler import AccountHandler
from schemas._queries import Paging
from schemas.errors import Forbidden, NotFound, ValidationFailed
from schemas.social import (
    Comment,
    CommentDeleted,
    CommentText,
    Feed,
    FeedQuery,
    NewComment,
    PageOfComments,
    Reacted,
    Reaction,
)

NO_SIGNAL = "Signal not found"
NO_COMMENT = "Comment not found"

Reply = TypeVar("Reply")


class SocialFeed(AccountHandler):
    """`/api/social/feed`"""

    @endpoint("List the signals of those one follows", query=FeedQuery(), responds=Feed(), errors=(503,))
    async def get(self, query: Loaded) -> bytes:
        """The newest first."""
        action, limit, offset = query["action"], query["limit"], query["offset"]
        async with connection(self.services.pool) as conn:
            followed = await get_followed(conn, self.user_id)
            total = await count_feed(conn, self.services.feed_totals, followed, action)
            items = await list_feed(conn, followed, action, limit=limit, offset=offset) if offset < total else b"[]"
        return page(items, total, limit, offset)


class OneSignalHandler(AccountHandler):
    """The base of the handlers about one signal."""

    async def find_signal(self, signal_id: str) -> UUID:
        """Return the signal's id. Raises NotFound."""
        found = known_id(signal_id, "Signal")
        if not await self.load(signal_exists, found):
            raise NotFound(NO_SIGNAL)
        return found

    async def find_own_comment(self, signal_id: str, comment_id: str) -> tuple[UUID, UUID, CommentFacts]:
        """Return signal, comment, and the comment's facts. Raises NotFound; Forbidden for another user's comment."""
        signal, comment = known_id(signal_id, "Signal"), known_id(comment_id, "Comment")
        facts = await self.load(social.get_comment_facts, comment)
        if facts is None or facts.signal_id != signal:
            raise NotFound(NO_COMMENT)
        if facts.user_id != self.user_id:
            raise NotFound(NO_COMMENT) if facts.is_deleted else Forbidden("This comment is somebody else's")
        return signal, comment, facts

    async def ask_social(self, signal_id: UUID, message: Message[Reply]) -> Reply:
        """Ask the owner of what the caller says about the signal."""
        return await self.ask_users(social_key(self.user_id, signal_id), message)

    async def show_reactions(self, signal_id: UUID, reaction_type: str) -> Document:
        """Return all reactions as they are now."""
        return {"reaction_type": reaction_type, "reactions": await self.load(social.get_reactions, signal_id)}

    async def show_comment(self, comment_id: UUID) -> Document:
        """Return the comment as it is now, without its replies."""
        found = await self.load(social.get_comment, comment_id)
        if found is None:
            raise NotFound(NO_COMMENT)
        return found


class Reactions(OneSignalHandler):
    """`/api/social/signals/{signal_id}/react`"""

    @endpoint(
        "React to a signal",
        body=Reaction(),
        responds=Reacted(),
        status=200,
        others={201: Reacted()},
        errors=(404, 503),
    )
    async def post(self, signal_id: str, body: Loaded) -> object:
        """201 for a new reaction; 200 for an existing one. Several kinds may exist beside each other."""
        signal = await self.find_signal(signal_id)
        is_new = await self.ask_social(signal, React(body["reaction_type"], now()))
        self.set_status(201 if is_new else 200)
        return await self.show_reactions(signal, body["reaction_type"])


class OneReaction(OneSignalHandler):
    """`/api/social/signals/{signal_id}/react/{reaction_type}`"""

    @endpoint("Take a reaction back", responds=Reacted(), errors=(404, 503))
    async def delete(self, signal_id: str, reaction_type: str) -> object:
        """Repeating it is no error; 404 for one that never was."""
        signal = await self.find_signal(signal_id)
        if reaction_type not in REACTIONS:
            raise NotFound("There is no such reaction")
        await self.ask_social(signal, Unreact(reaction_type, now()))
        return await self.show_reactions(signal, reaction_type)


class Comments(OneSignalHandler):
    """`/api/social/signals/{signal_id}/comments`"""

    @endpoint("List a signal's comments", query=Paging(), responds=PageOfComments(), errors=(404, 503))
    async def get(self, signal_id: str, query: Loaded) -> object:
        """The oldest first, each with its replies. `total` counts replies too; `limit` and `offset` do not."""
        signal = await self.find_signal(signal_id)
        async with connection(self.services.pool) as conn:
            comments = await social.list_comments(conn, signal, **query)
            total = await social.count_comments(conn, signal)
        return {"comments": comments, "total": total, **query}

    @endpoint("Comment on a signal", body=NewComment(), responds=Comment(), status=201, errors=(404, 409, 503))
    async def post(self, signal_id: str, body: Loaded) -> object:
        """With `parent_id`, a reply to another comment. The same text again within a minute is 409."""
        signal = await self.find_signal(signal_id)
        if body["parent_id"] is not None:
            await self._check_parent(signal, body["parent_id"])
        comment_id = uuid7()
        await self.ask_social(signal, PostComment(comment_id, body["parent_id"], body["content"], now()))
        return await self.show_comment(comment_id)

    async def _check_parent(self, signal_id: UUID, parent_id: UUID) -> None:
        parent = await self.load(social.get_comment_facts, parent_id)
        if parent is None or parent.signal_id != signal_id or not parent.is_shown:
            raise NotFound(NO_COMMENT)
        if parent.is_reply:
            raise ValidationFailed.of("parent_id", "must not be a reply")


class OneComment(OneSignalHandler):
    """`/api/social/signals/{signal_id}/comments/{comment_id}`"""

    @endpoint("Change a comment of one's own", body=CommentText(), responds=Comment(), errors=(404, 503))
    async def patch(self, signal_id: str, comment_id: str, body: Loaded) -> object:
        """From then on the comment says that it was edited."""
        signal, comment, _ = await self.find_own_comment(signal_id, comment_id)
        await self.ask_social(signal, EditComment(comment, body["content"]))
        return await self.show_comment(comment)

    @endpoint("Delete a comment of one's own", responds=CommentDeleted(), errors=(404, 503))
    async def delete(self, signal_id: str, comment_id: str) -> object:
        """Repeating it is no error. While it has replies it is still shown, without its text and its author."""
        signal, comment, facts = await self.find_own_comment(signal_id, comment_id)
        if not facts.is_deleted:
            await self.ask_social(signal, DeleteComment(comment, now()))
        return {"id": comment, "deleted": True}
