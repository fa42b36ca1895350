"""`run.py check-records` and `repair-records`: compare every track record with one that is computed anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from actors._runtime.fencing import Fence
from actors._runtime.registry import SPECS, shard_of
from actors.providers.messages import PROVIDERS, provider_key
from actors.providers.rebuild import Rebuilt, rebuild, repair
from db._postgres import Pool, connection, create_pool
from db.providers.records import walk_records

PAGE = 500
Costs = Mapping[str, Decimal]

REPAIR_SECONDS = 60.0  # for one shard
_SPEC = next(each for each in SPECS if each.kind == PROVIDERS)


async def examine_records(database_url: str, say: Callable[[str], None], costs: Costs, *, mend: bool) -> int:
    """Report every wrong record, and its differences; with `mend`, correct it. Returns how many stay wrong.

    It may run beside a server: each provider is read at one moment. Mending fences the records' owners, which end, and
    start again with the corrected records. Raises DatabaseUnavailable; Fenced when an owner is back already.
    """
    pool = await create_pool(database_url, 2, name="tradestream check-records")
    try:
        count, wrong = await _examine(pool, say, costs)
        say(f"{count} records, {len(wrong)} wrong")
        if not mend or not wrong:
            return len(wrong)
        by_shard: dict[int, list[UUID]] = defaultdict(list)
        for provider_id in wrong:
            by_shard[shard_of(provider_key(provider_id), _SPEC.shards)].append(provider_id)
        for shard, provider_ids in by_shard.items():
            await _mend(pool, shard, provider_ids, costs)
        say(f"{len(wrong)} records repaired")
        return 0
    finally:
        await pool.close()


async def _examine(pool: Pool, say: Callable[[str], None], costs: Costs) -> tuple[int, Mapping[UUID, Rebuilt]]:
    count, wrong, last = 0, {}, UUID(int=0)
    while True:
        async with connection(pool) as conn:
            page = await walk_records(conn, last, PAGE)
        for provider_id in page:
            async with (
                connection(pool, deadline_seconds=None) as conn,
                conn.transaction(isolation="repeatable_read", readonly=True),
            ):
                found = await rebuild(conn, provider_id, costs)
            if found.differences:
                wrong[provider_id] = found
                say(f"{provider_id}: {'; '.join(found.differences)}")
        count += len(page)
        if len(page) < PAGE:
            return count, wrong
        last = page[-1]


async def _mend(pool: Pool, shard: int, provider_ids: Sequence[UUID], costs: Costs) -> None:
    fence = Fence(pool, _SPEC.name_of(shard), lambda: None)
    await fence.take()
    async with fence.transaction(deadline_seconds=REPAIR_SECONDS) as conn:
        for provider_id in provider_ids:
            await repair(conn, await rebuild(conn, provider_id, costs))
