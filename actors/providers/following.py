"""Decide follows (pure): new once, 500 at most, counted exactly, over a ledger of the pairs that a batch names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from actors.providers.messages import Follow, SetNotify, Unfollow
from actors.providers.record import followed
from db.providers.follows import FollowerChange, FollowingRow, FollowRow
from db.providers.records import RecordRow
from schemas.errors import Conflict, NotFound, Unauthorized, ValidationFailed

MOST_FOLLOWED = 500

Pair = tuple[UUID, UUID]
"""Follower and provider."""


class Ledger:
    """The state that a batch of messages starts from, updated message by message."""

    def __init__(
        self, records: Mapping[UUID, RecordRow], followings: Iterable[FollowingRow], follows: Iterable[FollowRow]
    ) -> None:
        self.before = records
        self.records = dict(records)
        self.followings = {each.follower_id: each for each in followings}
        self.follows: dict[Pair, FollowRow | None] = {(each.follower_id, each.provider_id): each for each in follows}
        self.changes: list[FollowerChange] = []
        self.touched: set[Pair] = set()
        self.first: dict[UUID, datetime] = {}  # since when users follow who had never followed anybody

    def decide(self, provider_id: UUID, message: Follow | Unfollow | SetNotify) -> object:
        """Return the answer to one message; raises AppError, and has changed nothing then."""
        if provider_id not in self.records:
            raise NotFound("Provider not found")
        if isinstance(message, Follow):
            return self._follow(provider_id, message)
        if isinstance(message, Unfollow):
            self._unfollow(provider_id, message)
            return None
        return self._set_notify(provider_id, message)

    def _follow(self, provider_id: UUID, message: Follow) -> tuple[FollowRow, bool]:
        if message.follower_id == provider_id:
            raise ValidationFailed.of("provider_id", "must not be oneself")
        pair = (message.follower_id, provider_id)
        known = self.follows.get(pair)
        if known is not None:
            wanted = known.notify_on_signal if message.notify_on_signal is None else message.notify_on_signal
            return self._set(pair, replace(known, notify_on_signal=wanted)), False
        following = self.followings.get(message.follower_id)
        if following is None:
            raise Unauthorized("The account of this token does not exist")
        if following.following >= MOST_FOLLOWED:
            raise Conflict(f"At most {MOST_FOLLOWED} providers can be followed")
        first = following.first_followed_at
        if first is None:
            first = message.at
            self.first[message.follower_id] = first
        self.followings[message.follower_id] = FollowingRow(message.follower_id, following.following + 1, first)
        self._count(provider_id, message, 1)
        return self._set(pair, FollowRow(*pair, message.notify_on_signal is not False, message.at)), True

    def _unfollow(self, provider_id: UUID, message: Unfollow) -> None:
        pair = (message.follower_id, provider_id)
        if self.follows.get(pair) is None:
            return
        following = self.followings[message.follower_id]
        self.followings[message.follower_id] = replace(following, following=following.following - 1)
        self._count(provider_id, message, -1)
        self.follows[pair] = None
        self.touched.add(pair)

    def _set_notify(self, provider_id: UUID, message: SetNotify) -> FollowRow:
        pair = (message.follower_id, provider_id)
        known = self.follows.get(pair)
        if known is None:
            raise NotFound("You do not follow this provider")
        return self._set(pair, replace(known, notify_on_signal=message.notify_on_signal))

    def _set(self, pair: Pair, row: FollowRow) -> FollowRow:
        if self.follows.get(pair) != row:
            self.follows[pair] = row
            self.touched.add(pair)
        return row

    def _count(self, provider_id: UUID, message: Follow | Unfollow, delta: int) -> None:
        record = self.records[provider_id]
        self.records[provider_id] = followed(record, delta, message.at)
        self.changes.append(FollowerChange(provider_id, message.at, delta, record.applied_seq))
