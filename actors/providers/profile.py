"""The rules of a provider's profile: one per user, a name that nobody else has. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.providers.messages import Become, EditProvider
from db.providers.profiles import ProfileRow
from schemas.errors import Conflict, Forbidden

NAME_TAKEN = "This display name is taken"


def become(known: ProfileRow | None, user_id: UUID, message: Become) -> ProfileRow:
    """The profile of a user who becomes a provider. Raises Conflict for one who is."""
    if known is not None:
        raise Conflict("You are a provider already")
    return _with(_blank(user_id, message.at), message.profile)


def edit(known: ProfileRow | None, message: EditProvider) -> ProfileRow:
    """The profile after an edit. Raises Forbidden for who is no provider."""
    if known is None or known.is_system:
        raise Forbidden("You are not a provider")
    return _with(known, message.changes)


def name_key(display_name: str) -> str:
    """A name as names are compared: ignoring case, forms of letters and width, and how many spaces there are."""
    return " ".join(unicodedata.normalize("NFKC", display_name).casefold().split())


def _with(profile: ProfileRow, changes: Mapping[str, Any]) -> ProfileRow:
    changed = replace(profile, **changes)
    return replace(changed, name_key=name_key(changed.display_name), specialties=tuple(changed.specialties))


def _blank(user_id: UUID, at: datetime) -> ProfileRow:
    return ProfileRow(
        user_id=user_id,
        display_name="",
        name_key=None,
        is_system=False,
        avatar_url=None,
        bio=None,
        strategy_description=None,
        banner_url=None,
        website_url=None,
        twitter_handle=None,
        risk_level=None,
        specialties=(),
        created_at=at,
    )
