"""SQL of referrals: codes, referrers with their referees, and rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from db._postgres import Connection
from db._rows import affected, columns, insert, row_of, rows_of, unnest
from schemas._vocabulary import ReferralStatus, ReferralTierId


@dataclass(frozen=True, slots=True)
class ActedRow:
    """A referee's first follow or signal."""

    referee_id: UUID
    referrer_id: UUID
    acted_at: datetime


@dataclass(frozen=True, slots=True)
class QualifiedRow:
    """A referral that counts, with its rewards as they were fixed."""

    referee_id: UUID
    referrer_id: UUID
    tier: ReferralTierId
    reward_amount: Decimal
    referee_reward: Decimal
    qualified_at: datetime


@dataclass(frozen=True, slots=True)
class CodeRow:
    """A referral code of a user, upper case."""

    code: str
    user_id: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ListedReferral:
    """A referral as its referrer sees it; `reward_amount` is None until it is fixed."""

    display_name: str
    status: ReferralStatus
    reward_amount: Decimal | None
    created_at: datetime
    qualified_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReferralTotalsRow:
    """A referrer's current code and figures."""

    referral_code: str
    total: int
    qualified: int
    earned: Decimal


FIND_OWNER = "SELECT user_id FROM referral_codes WHERE code = upper($1)"


async def find_owner(conn: Connection, code: str) -> UUID | None:
    """Return the user whose referral code this is or was, ignoring case."""
    found: UUID | None = await conn.fetchval(FIND_OWNER, code)
    return found


FREE_CODES = """
SELECT code FROM unnest($1::text[]) AS candidate (code)
WHERE NOT EXISTS (SELECT FROM referral_codes taken WHERE taken.code = candidate.code)
"""


async def free_codes(conn: Connection, candidates: Sequence[str]) -> list[str]:
    """Return those of the codes that no user has or had."""
    return [row["code"] for row in await conn.fetch(FREE_CODES, candidates)]


# A code that its user had before is still theirs. Those of others are missing from the answer.
TAKE_CODES = f"""
{insert("referral_codes AS had", CodeRow)}
ON CONFLICT (code) DO UPDATE SET code = excluded.code WHERE had.user_id = excluded.user_id
RETURNING code
"""


async def take_codes(conn: Connection, rows: Sequence[CodeRow]) -> set[str]:
    """Assign codes to their users; return those that are theirs now."""
    return {row["code"] for row in await conn.fetch(TAKE_CODES, *columns(CodeRow, rows))}


COUNT_CODES = "SELECT count(*) FROM referral_codes WHERE user_id = $1 AND code <> $2"


async def count_codes(conn: Connection, user_id: UUID, besides: str) -> int:
    """Return how many codes a user has or had, not counting `besides`."""
    return int(await conn.fetchval(COUNT_CODES, user_id, besides))


MARK_ACTED = f"""
UPDATE referrals r SET acted_at = n.acted_at
FROM {unnest(ActedRow)}
WHERE r.referee_id = n.referee_id AND r.acted_at IS NULL
"""


async def mark_acted(conn: Connection, rows: Sequence[ActedRow]) -> None:
    """Store when referees first followed or published."""
    await conn.execute(MARK_ACTED, *columns(ActedRow, rows))


QUALIFY = f"""
UPDATE referrals r SET
    status = 'qualified', tier = n.tier, reward_amount = n.reward_amount, referee_reward = n.referee_reward,
    qualified_at = n.qualified_at
FROM {unnest(QualifiedRow)}
WHERE r.referee_id = n.referee_id AND r.referrer_id = n.referrer_id AND r.status = 'pending' AND r.acted_at IS NOT NULL
"""


async def qualify(conn: Connection, rows: Sequence[QualifiedRow]) -> int:
    """Qualify referrals; return how many of them were pending until now, with referees that had acted."""
    return affected(await conn.execute(QUALIFY, *columns(QualifiedRow, rows)))


# Also left out: a referee who has the referrer's own mailbox. Of two transactions for one mailbox the second waits.
TAKE_MAILBOXES = f"""
INSERT INTO referral_mailboxes (mailbox, referee_id)
SELECT u.mailbox, u.id
FROM {unnest(QualifiedRow)}
JOIN users u ON u.id = n.referee_id JOIN users b ON b.id = n.referrer_id
WHERE u.mailbox <> b.mailbox
ON CONFLICT DO NOTHING
"""


async def take_mailboxes(conn: Connection, rows: Sequence[QualifiedRow]) -> int:
    """Mark the referees' mailboxes as counted, each for good; return how many had not counted before."""
    return affected(await conn.execute(TAKE_MAILBOXES, *columns(QualifiedRow, rows)))


TOTALS = """
SELECT u.referral_code, count(r.referee_id), count(*) FILTER (WHERE r.status = 'qualified'),
       coalesce(sum(r.reward_amount), 0.00)
FROM users u LEFT JOIN referrals r ON r.referrer_id = u.id
WHERE u.id = $1
GROUP BY u.referral_code
"""


async def totals(conn: Connection, user_id: UUID) -> ReferralTotalsRow | None:
    """Return a user's code and figures; None: there is no such user."""
    return row_of(ReferralTotalsRow, await conn.fetchrow(TOTALS, user_id))


LIST_REFERRALS = """
SELECT u.display_name, r.status, r.reward_amount, r.created_at, r.qualified_at
FROM referrals r JOIN users u ON u.id = r.referee_id
WHERE r.referrer_id = $1
ORDER BY r.created_at DESC, r.referee_id LIMIT $2 OFFSET $3
"""


async def list_referrals(conn: Connection, user_id: UUID, limit: int, offset: int) -> list[ListedReferral]:
    """Return a user's referrals, newest first."""
    return rows_of(ListedReferral, await conn.fetch(LIST_REFERRALS, user_id, limit, offset))


# Lost messages: the referee's owner has stored the act, the referrer's has not received it. Referrals past the most
# that count stay pending for ever: they are skipped, a page at a time.
WALK_UNNOTIFIED = """
WITH page AS MATERIALIZED (
    SELECT referee_id, referrer_id, acted_at FROM referrals
    WHERE status = 'pending' AND acted_at IS NOT NULL AND referee_id > $1 ORDER BY referee_id LIMIT $2
), counted AS (
    SELECT someone.referrer_id, (
        SELECT count(*) FROM referrals q WHERE q.referrer_id = someone.referrer_id AND q.status = 'qualified'
    ) AS qualified
    FROM (SELECT DISTINCT referrer_id FROM page) someone
)
SELECT page.*, counted.qualified, u.mailbox = b.mailbox OR EXISTS (
    SELECT FROM referral_mailboxes m WHERE m.mailbox = u.mailbox
) AS is_spent
FROM page JOIN counted USING (referrer_id)
JOIN users u ON u.id = page.referee_id JOIN users b ON b.id = page.referrer_id
ORDER BY page.referee_id
"""


async def walk_unnotified(conn: Connection, after: UUID, limit: int, most: int) -> tuple[list[ActedRow], UUID | None]:
    """Return, of the next `limit` pending referees who acted, those whose referrers have under `most` qualified.

    Referees whose mailbox has counted already, under another address, are left out. The second value is where to
    continue, None at the end.
    """
    rows = await conn.fetch(WALK_UNNOTIFIED, after, limit)
    found = [
        ActedRow(row["referee_id"], row["referrer_id"], row["acted_at"])
        for row in rows
        if row["qualified"] < most and not row["is_spent"]
    ]
    return found, rows[-1]["referee_id"] if len(rows) == limit else None


# Acts that were lost even before the referee's owner stored them, looked for a page at a time.
WALK_IDLE = """
WITH page AS MATERIALIZED (
    SELECT referee_id, referrer_id FROM referrals
    WHERE acted_at IS NULL AND referee_id > $1 ORDER BY referee_id LIMIT $2
)
SELECT page.referee_id, page.referrer_id, least(f.first_followed_at, g.created_at)
FROM page
LEFT JOIN following_counts f ON f.follower_id = page.referee_id
LEFT JOIN LATERAL (
    SELECT created_at FROM signals WHERE provider_id = page.referee_id ORDER BY created_at LIMIT 1
) g ON true
ORDER BY page.referee_id
"""


async def walk_idle(conn: Connection, after: UUID, limit: int) -> tuple[list[ActedRow], UUID | None]:
    """Return, of the next `limit` referees without a known act, those who have followed or published.

    The second value is where to continue, None at the end.
    """
    rows = await conn.fetch(WALK_IDLE, after, limit)
    return [ActedRow(*row) for row in rows if row[2] is not None], rows[-1][0] if len(rows) == limit else None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Referees of one referrer who signed in from one network address; `is_referrers`: so did the referrer."""

    referrer_id: UUID
    address: str
    is_referrers: bool
    referees: int
    qualified: int
    rewards: Decimal
    first_at: datetime
    last_at: datetime
    referee_ids: Sequence[UUID]
    total: int


# An IPv6 address counts as its /64. Sessions are kept for a month after their end, so this covers the last weeks.
LIST_CLUSTERS = """
WITH seen AS (
    SELECT DISTINCT user_id, CASE
        WHEN ip ~ '^[0-9a-f]*:[0-9a-f:.]+$' THEN text(network(set_masklen(ip::inet, 64))) ELSE ip
    END AS address
    FROM sessions
)
SELECT r.referrer_id, s.address, coalesce(bool_or(own.user_id IS NOT NULL), false), count(*),
       count(*) FILTER (WHERE r.status = 'qualified'), coalesce(sum(r.reward_amount + r.referee_reward), 0.00),
       min(r.created_at), max(r.created_at),
       (array_agg(r.referee_id ORDER BY r.created_at DESC, r.referee_id))[1:100], count(*) OVER ()
FROM referrals r
JOIN seen s ON s.user_id = r.referee_id
LEFT JOIN seen own ON own.user_id = r.referrer_id AND own.address = s.address
GROUP BY r.referrer_id, s.address
HAVING count(*) >= $1 OR bool_or(own.user_id IS NOT NULL)
ORDER BY count(*) DESC, r.referrer_id, s.address
LIMIT $2 OFFSET $3
"""


async def list_clusters(conn: Connection, least: int, limit: int, offset: int) -> tuple[list[Cluster], int]:
    """Return referrals that share an address, `least` of one referrer or one with the referrer, and their number."""
    rows = await conn.fetch(LIST_CLUSTERS, least, limit, offset)
    if rows or offset == 0:
        return [Cluster(*row) for row in rows], rows[0][-1] if rows else 0
    first = await conn.fetch(LIST_CLUSTERS, least, 1, 0)
    return [], first[0][-1] if first else 0
