"""SQL of providers' profiles: what their owner writes, and the public list and profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db._postgres import Connection
from db._rows import columns, names, rows_of, transposed, upsert
from db._where import WHERE, filtered
from db.signals.reads import RECENT_OF_PROVIDER, json_array
from schemas._names import RENAME_DAYS


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A provider's row; `name_key` is its name as names are compared, None for a system provider.

    `name_skeletons` is what the name looks like. The name before the present one was in force until `renamed_at`.
    """

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
    name_skeletons: Sequence[str] | None = None
    renamed_at: datetime | None = None
    former_name: str | None = None
    former_key: str | None = None
    former_skeletons: Sequence[str] | None = None


LOAD_PROFILES = f"SELECT {names(ProfileRow)} FROM providers WHERE user_id = ANY ($1::uuid[])"


async def load_profiles(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, ProfileRow]:
    """Return the profiles of those providers that exist."""
    return {each.user_id: each for each in rows_of(ProfileRow, await conn.fetch(LOAD_PROFILES, ids))}


# Two owners may store names that look alike at once, which no index forbids: the second waits for the first here.
NAMING_LOCK = "SELECT pg_advisory_xact_lock(0x6e616d65)"  # "name"

# Names of nothing but ASCII are not compared by their looks. A system provider has no key of its own.
_LOOKS = "p.{prefix}_skeletons && $4 AND NOT ($5 AND p.{name} ~ '^[ -~]*$')"
NAME_TAKEN = f"""
SELECT EXISTS (SELECT FROM providers p WHERE p.name_key = $2 AND p.user_id <> $1)
    OR EXISTS (SELECT FROM providers p WHERE p.is_system AND lower(p.display_name) = lower($3))
    OR EXISTS (SELECT FROM providers p WHERE p.user_id <> $1 AND {_LOOKS.format(prefix="name", name="display_name")})
    OR EXISTS (
        SELECT FROM providers p WHERE p.former_key = $2 AND p.user_id <> $1 AND p.renamed_at > $6
    )
    OR EXISTS (
        SELECT FROM providers p WHERE p.user_id <> $1 AND p.renamed_at > $6
            AND {_LOOKS.format(prefix="former", name="former_name")}
    )
"""


async def name_taken(conn: Connection, profile: ProfileRow, *, plain: bool, formers_since: datetime) -> bool:
    """Return whether another provider has this name or one like it, or had it until after `formers_since`.

    `plain`: the name is not compared by its looks with others that are plain, too. Until the transaction ends no other
    transaction can take a name.
    """
    await conn.execute(NAMING_LOCK)
    taken: bool = await conn.fetchval(
        NAME_TAKEN,
        profile.user_id,
        profile.name_key,
        profile.display_name,
        profile.name_skeletons,
        plain,
        formers_since,
    )
    return taken


WITHOUT_SKELETONS = "SELECT user_id, display_name FROM providers WHERE name_skeletons IS NULL LIMIT $1"


async def without_skeletons(conn: Connection, limit: int) -> list[tuple[UUID, str]]:
    """Return providers whose names' skeletons are not stored: id and name."""
    return [(row[0], row[1]) for row in await conn.fetch(WITHOUT_SKELETONS, limit)]


FILL_SKELETONS = """
UPDATE providers p SET name_skeletons = string_to_array(n.skeletons, E'\\n')
FROM unnest($1::uuid[], $2::text[]) AS n (user_id, skeletons)
WHERE p.user_id = n.user_id AND p.name_skeletons IS NULL
"""


async def fill_skeletons(conn: Connection, rows: Sequence[tuple[UUID, Sequence[str]]]) -> None:
    """Store the skeletons of names."""
    await conn.execute(FILL_SKELETONS, [each[0] for each in rows], ["\n".join(each[1]) for each in rows])


# Two owners may store the same name at once: the second waits for the first, and then finds it taken.
UPSERT_PROFILE = upsert("providers", ProfileRow, key=("user_id",), keep=("is_system", "created_at"))


async def upsert_profile(conn: Connection, profile: ProfileRow) -> None:
    """Store a profile; raises UniqueViolationError when another provider has taken the name just now."""
    await conn.execute(UPSERT_PROFILE, *columns(ProfileRow, [profile]))


SORTS = {
    "followers": "s.follower_count DESC",
    "win_rate": "s.win_rate DESC NULLS LAST",
    "return": "s.avg_return DESC NULLS LAST",
    "streak": "s.current_streak DESC",
}
"""What a list of providers may be sorted by, descending; each has its index. Ties by id."""

ORDER = "/* order */"


@dataclass(slots=True)  # not frozen: a page has a hundred
class ProviderItemRow:
    """A provider in a list."""

    user_id: UUID
    display_name: str
    bio: str | None
    avatar_url: str | None
    risk_level: str | None
    specialties: Sequence[str]
    total_signals: int
    win_rate: float | None
    avg_return: float | None
    total_return: float
    current_streak: int
    longest_streak: int
    follower_count: int
    verification_level: str

    @property
    def is_verified(self) -> bool:
        """Return whether the provider has reached the first level."""
        return self.verification_level != "none"


# The page is found in an index over the figures; only its providers are looked up.
LIST_PROVIDERS = f"""
SELECT p.user_id, p.display_name, p.bio, p.avatar_url, p.risk_level, p.specialties, s.total_signals, s.win_rate,
       s.avg_return, s.total_return, s.current_streak, s.longest_streak, s.follower_count, s.verification_level
FROM (SELECT * FROM provider_stats s {WHERE} ORDER BY {ORDER} s.provider_id LIMIT $1 OFFSET $2) s
JOIN providers p ON p.user_id = s.provider_id
ORDER BY {ORDER} s.provider_id
"""

COUNT_PROVIDERS = f"SELECT count(*) FROM provider_stats s {WHERE}"


async def list_providers(
    conn: Connection, *, sort: str, verified_only: bool, limit: int, offset: int
) -> tuple[list[ProviderItemRow], int]:
    """Return providers by one of SORTS, and their total number; raises KeyError for another sort."""
    conditions = [("s.verification_level <> 'none'", None)] if verified_only else []
    total: int = await conn.fetchval(filtered(COUNT_PROVIDERS, conditions)[0])
    if offset >= total:
        return [], total  # searching in vain would read them all
    statement, _ = filtered(LIST_PROVIDERS, conditions)
    rows = await conn.fetch(statement.replace(ORDER, SORTS[sort] + ","), limit, offset)
    return rows_of(ProviderItemRow, rows), total


@dataclass(slots=True)
class ProviderDetail:
    """A provider's profile as a viewer sees it."""

    user_id: UUID
    display_name: str
    bio: str | None
    strategy_description: str | None
    avatar_url: str | None
    banner_url: str | None
    website_url: str | None
    twitter_handle: str | None
    risk_level: str | None
    specialties: Sequence[str]
    created_at: datetime
    total_signals: int
    win_count: int
    loss_count: int
    win_rate: float | None
    avg_return: float | None
    total_return: float
    sharpe_ratio: float | None
    max_drawdown: float
    current_streak: int
    longest_streak: int
    follower_count: int
    signal_likes_total: int
    verification_level: str
    verified_at: datetime | None
    former_name: str | None
    former_name_until: datetime | None
    is_following: bool
    recent_signals: bytes  # a JSON array, the newest first


FORMER = f"interval '{RENAME_DAYS} days'"

# A system provider has no figures until its owner has read its first signal. The arrays are hidden from the planner in
# sub-selects: or else each call is planned anew for their lengths, at twice the cost.
LOAD_DETAILS = f"""
SELECT w.place, p.user_id, p.display_name, p.bio, p.strategy_description, p.avatar_url, p.banner_url, p.website_url,
       p.twitter_handle, p.risk_level, p.specialties, p.created_at, coalesce(s.total_signals, 0),
       coalesce(s.win_count, 0), coalesce(s.loss_count, 0), s.win_rate, s.avg_return, coalesce(s.total_return, 0),
       s.sharpe_ratio, coalesce(s.max_drawdown, 0), coalesce(s.current_streak, 0), coalesce(s.longest_streak, 0),
       coalesce(s.follower_count, 0), coalesce(l.likes, 0), coalesce(s.verification_level, 'none'), s.verified_at,
       CASE WHEN p.renamed_at > now() - {FORMER} THEN p.former_name END,
       CASE WHEN p.renamed_at > now() - {FORMER} THEN p.renamed_at + {FORMER} END,
       f.follower_id IS NOT NULL, r.signals
FROM unnest((SELECT $1::uuid[]), (SELECT $2::uuid[])) WITH ORDINALITY w (provider_id, viewer, place)
JOIN providers p ON p.user_id = w.provider_id
LEFT JOIN provider_stats s ON s.provider_id = p.user_id
LEFT JOIN provider_likes l ON l.provider_id = p.user_id
LEFT JOIN follows f ON f.follower_id = w.viewer AND f.provider_id = p.user_id
CROSS JOIN LATERAL {RECENT_OF_PROVIDER} AS r (signals)
"""


async def load_details(conn: Connection, wanted: Sequence[tuple[UUID, UUID | None]]) -> list[ProviderDetail | None]:
    """Return each provider as its viewer (None: anonymous) sees it; None for one that does not exist."""
    rows = await conn.fetch(LOAD_DETAILS, *transposed(wanted, 2))
    found: list[ProviderDetail | None] = [None] * len(wanted)
    for place, *values in rows:
        values[-1] = json_array(values[-1])
        found[place - 1] = ProviderDetail(*values)
    return found


EXISTS_PROVIDER = "SELECT EXISTS (SELECT FROM providers WHERE user_id = $1)"


async def exists_provider(conn: Connection, provider_id: UUID) -> bool:
    """Return whether the provider exists."""
    return bool(await conn.fetchval(EXISTS_PROVIDER, provider_id))
