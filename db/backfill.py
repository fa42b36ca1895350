"""SQL of the development server's backfill: sets when accounts began."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from db._postgres import Connection

_PROVIDER_BEFORE = timedelta(hours=1)
_ACCOUNT_BEFORE = timedelta(days=1)

BEGIN_PROVIDERS = """
UPDATE providers p SET created_at = n.at FROM unnest($1::uuid[], $2::timestamptz[]) AS n (id, at)
WHERE p.user_id = n.id AND p.created_at > n.at
"""

BEGIN_ACCOUNTS = """
UPDATE users u SET created_at = n.at FROM unnest($1::uuid[], $2::timestamptz[]) AS n (id, at)
WHERE u.id = n.id AND u.created_at > n.at
"""


async def begin_before(conn: Connection, first: Mapping[UUID, datetime]) -> None:
    """Move the beginnings of providers, and of their accounts, before their first signals; never to a later time.

    The only place that writes rows of other owners; those write no `created_at` after the first.
    """
    ids, times = sorted(first), [first[each] for each in sorted(first)]
    await conn.execute(BEGIN_PROVIDERS, ids, [each - _PROVIDER_BEFORE for each in times])
    await conn.execute(BEGIN_ACCOUNTS, ids, [each - _ACCOUNT_BEFORE for each in times])
