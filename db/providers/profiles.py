"""What providers say of themselves: what their owner writes, and the list and the profile that anybody may read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db._postgres import Connection


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A provider's row. `name_key` is its name as names are compared; None for a system provider."""

    user_id: UUID
    display_name: str
    name_key: str | None
    is_system: bool
    avatar_url: str | None
    bio: str | None
    strategy_description: str | None
    banner_url: str | None
    website_url: str | None
    twitter_handle: str | None
    risk_level: str | None
    specialties: Sequence[str]
    created_at: datetime


_COLUMNS = ", ".join(ProfileRow.__match_args__)

LOAD_PROFILES = f"SELECT {_COLUMNS} FROM providers WHERE user_id = ANY ($1::uuid[])"


async def load_profiles(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, ProfileRow]:
    """Those of the providers that exist."""
    return {row[0]: ProfileRow(*row) for row in await conn.fetch(LOAD_PROFILES, ids)}


NAME_TAKEN = """
SELECT EXISTS (SELECT FROM providers WHERE name_key = $1 AND user_id <> $3)
    OR EXISTS (SELECT FROM providers WHERE is_system AND lower(display_name) = lower($2))
"""


async def name_taken(conn: Connection, profile: ProfileRow) -> bool:
    """Whether another provider has this name."""
    taken: bool = await conn.fetchval(NAME_TAKEN, profile.name_key, profile.display_name, profile.user_id)
    return taken


# Two owners may store the same name at once: the second waits for the first, and then finds it taken.
UPSERT_PROFILE = f"""
INSERT INTO providers AS p ({_COLUMNS})
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (user_id) DO UPDATE SET
    display_name = excluded.display_name, name_key = excluded.name_key, avatar_url = excluded.avatar_url,
    bio = excluded.bio, strategy_description = excluded.strategy_description, banner_url = excluded.banner_url,
    website_url = excluded.website_url, twitter_handle = excluded.twitter_handle, risk_level = excluded.risk_level,
    specialties = excluded.specialties
"""


async def upsert_profile(conn: Connection, profile: ProfileRow) -> None:
    """Store a profile. Raises UniqueViolationError when somebody else has taken the name just now."""
    await conn.execute(UPSERT_PROFILE, *(getattr(profile, name) for name in ProfileRow.__match_args__))
