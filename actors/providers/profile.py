"""Decide changes to a provider's profile (pure): one per user, under a name of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from actors.providers.messages import Become, EditProvider
from config.documents import Loaded
from db.providers.profiles import ProfileRow
from schemas._confusables import name_key, skeletons
from schemas._names import RENAME_DAYS, has_idle_characters
from schemas._people import IDLE_CHARACTERS
from schemas.errors import Conflict, Forbidden, ValidationFailed

RENAMING = timedelta(days=RENAME_DAYS)
NAME_TAKEN = "This display name is taken"


def become(known: ProfileRow | None, user_id: UUID, message: Become) -> ProfileRow:
    """Return the profile of a user who becomes a provider; raises Conflict if the user is one already."""
    if known is not None:
        raise Conflict("You are a provider already")
    return _with(_blank(user_id, message.at), message.profile)


def edit(known: ProfileRow | None, message: EditProvider) -> ProfileRow:
    """Return the profile after an edit; raises Forbidden for a non-provider, Conflict for a second name in 30 days."""
    if known is None or known.is_system:
        raise Forbidden("You are not a provider")
    edited = _with(known, message.changes)
    if edited.name_key == known.name_key:
        return edited
    if known.renamed_at is not None and message.at - known.renamed_at < RENAMING:
        raise Conflict(f"A provider is renamed once in {RENAME_DAYS} days")
    return replace(
        edited,
        renamed_at=message.at,
        former_name=known.display_name,
        former_key=known.name_key,
        former_skeletons=skeletons(known.display_name),
    )


def check_characters(display_name: str) -> None:
    """Raise ValidationFailed for a name with characters that show nothing and do nothing."""
    if has_idle_characters(display_name):
        raise ValidationFailed.of("display_name", IDLE_CHARACTERS)


def _with(profile: ProfileRow, changes: Loaded) -> ProfileRow:
    changed = replace(profile, **changes)
    if changed.display_name != profile.display_name:
        looks = skeletons(changed.display_name)
        changed = replace(changed, name_key=name_key(changed.display_name), name_skeletons=looks)
    return replace(changed, specialties=tuple(changed.specialties))


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
