"""The messages that `providers/{k}` takes, each for one provider, by its id; times come from the sender."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from actors._runtime.messages import Message
from config.clock import now
from config.documents import Loaded
from config.values import field
from db.providers.follows import FollowRow

PROVIDERS = "providers"


def provider_key(provider_id: UUID) -> str:
    """Return the key of a provider, a person or a system provider."""
    return str(provider_id)


class Follow(Message[tuple[FollowRow, bool]]):
    """Follow a provider; answers the follow and whether it is new.

    `notify_on_signal` None: as it is, or true for a new one. Raises NotFound for an unknown provider, ValidationFailed
    for oneself, Conflict past 500, Unauthorized for an unknown user.
    """

    follower_id: UUID
    notify_on_signal: bool | None
    at: datetime


class Unfollow(Message[None]):
    """Unfollow a provider; no error when not following. Raises NotFound for an unknown provider."""

    follower_id: UUID
    at: datetime


class SetNotify(Message[FollowRow]):
    """Set whether a follower is notified of signals; raises NotFound when it does not follow."""

    idempotent: ClassVar[bool] = True

    follower_id: UUID
    notify_on_signal: bool


class Become(Message[None]):
    """Make a user a provider.

    `profile` has at least `display_name`; the names are those of ProfileRow. Raises Conflict when the user is one
    already, and when the name is taken or looks like one that is.
    """

    profile: Loaded
    at: datetime


class EditProvider(Message[None]):
    """Set the named fields of a person's profile.

    Raises Forbidden when the user is no provider, Conflict for a name that is taken, and for a second one in 30 days.
    """

    idempotent: ClassVar[bool] = True

    changes: Loaded
    at: datetime = field(default_factory=now)
