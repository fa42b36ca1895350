"""SQL of the actor layer: the owners of actors' rows (epochs), and applied commands."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from db._postgres import Connection
from db._rows import affected

# The update waits for every transaction that holds the row through HOLD_EPOCH, so no transaction of the predecessor is
# still open once the new epoch is known.
TAKE_EPOCH = """
INSERT INTO actor_epochs AS held (actor, epoch, taken_by) VALUES ($1, 1, $2)
ON CONFLICT (actor) DO UPDATE SET epoch = held.epoch + 1, taken_at = now(), taken_by = excluded.taken_by
RETURNING epoch
"""


async def take_epoch(conn: Connection, actor: str, taken_by: str) -> int:
    """Become the owner: return the new, highest epoch, once the predecessor's open transactions have ended."""
    return int(await conn.fetchval(TAKE_EPOCH, actor, taken_by))


# Those of other numbers of shards: `lens/intake` while there are `lens/intake/0` and `lens/intake/1`. In one order, as
# actors that start together do this at once.
SUPERSEDE_EPOCHS = """
UPDATE actor_epochs SET epoch = epoch + 1, taken_at = now(), taken_by = $3 WHERE actor IN (
    SELECT actor FROM actor_epochs
    WHERE (actor = $1 OR starts_with(actor, $1 || '/') AND substr(actor, length($1) + 2) ~ '^[0-9]+$')
      AND NOT actor = ANY ($2::text[])
    ORDER BY actor FOR UPDATE
)
"""


async def supersede_epochs(conn: Connection, kind: str, names: Sequence[str], taken_by: str) -> None:
    """End the right to write of all actors of `kind` but `names`, once their open transactions have ended."""
    await conn.execute(SUPERSEDE_EPOCHS, kind, names, taken_by)


# FOR SHARE: concurrent batches of one owner do not wait for each other, a take-over waits for all of them. After such a
# wait Postgres looks at the newest version of the row, so an old epoch is never mistaken for the current one.
HOLD_EPOCH = "SELECT true FROM actor_epochs WHERE actor = $1 AND epoch = $2 FOR SHARE"


async def hold_epoch(conn: Connection, actor: str, epoch: int) -> bool:
    """Return whether `epoch` is the current one; if so, no take-over can happen until this transaction ends."""
    return await conn.fetchval(HOLD_EPOCH, actor, epoch) is not None


TERMINATE_BLOCKERS = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM unnest(pg_blocking_pids($1)) AS pid"


async def terminate_blockers(conn: Connection, waiting_pid: int) -> int:
    """End the server processes that keep the process `waiting_pid` waiting for a lock; return how many."""
    return int(await conn.fetchval(TERMINATE_BLOCKERS, waiting_pid))


FIND_COMMANDS = "SELECT command_id, reply FROM actor_commands WHERE actor = $1 AND command_id = ANY ($2::uuid[])"


async def find_commands(conn: Connection, actor: str, ids: Sequence[UUID]) -> dict[bytes, bytes]:
    """Return the encoded replies of those commands that were applied."""
    return {row[0].bytes: row[1] for row in await conn.fetch(FIND_COMMANDS, actor, ids)}


STORE_COMMANDS = """
INSERT INTO actor_commands (actor, command_id, reply)
SELECT $1, command_id, reply FROM unnest($2::uuid[], $3::bytea[]) AS u (command_id, reply)
ON CONFLICT DO NOTHING
"""


async def store_commands(conn: Connection, actor: str, ids: Sequence[UUID], replies: Sequence[bytes]) -> bool:
    """Store applied commands; return False when one was stored already (the caller must roll back then)."""
    return affected(await conn.execute(STORE_COMMANDS, actor, ids, replies)) == len(ids)


# Any actor removes the old rows of all: SKIP LOCKED keeps two of them from waiting for each other.
EXPIRE_COMMANDS = """
DELETE FROM actor_commands WHERE (actor, command_id) IN (
    SELECT actor, command_id FROM actor_commands
    WHERE applied_at < now() - make_interval(secs => $1) LIMIT $2 FOR UPDATE SKIP LOCKED
)
"""


async def expire_commands(conn: Connection, older_than_seconds: float, limit: int) -> int:
    """Delete at most `limit` commands that were applied longer ago; return how many."""
    return affected(await conn.execute(EXPIRE_COMMANDS, older_than_seconds, limit))
