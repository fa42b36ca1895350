"""Two owners of users that count at the same signals: no deadlock and no lost count, through crashes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from actors.users.messages import React, Unreact, social_key
from actors.users.users import Users
from config.clock import now
from config.settings import Settings
from db._postgres import create_pool
from tests.support.local_actors import local_actors
from tests.support.signals_factory import publish
from tests.support.users_factory import account_row

SHARDS = ("users/0", "users/1")


async def test_counters_are_exact_over_two_owners_one_of_which_dies(settings: Settings) -> None:
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test")
    try:
        signals = await publish(pool, [{} for _ in range(8)])
        rows = [account_row() for _ in range(20)]
        async with pool.acquire() as conn:
            await conn.executemany(
                """INSERT INTO users (id, email, email_verified, display_name, referral_code, created_at)
                   VALUES ($1, $2, true, 'x', $3, now())""",
                [(row.id, row.email, row.referral_code) for row in rows],
            )
        async with local_actors(settings, {name: Users() for name in SHARDS}) as actors:
            owner = {row.id: SHARDS[place % 2] for place, row in enumerate(rows)}

            async def everybody(kind: str, message: type[React] | type[Unreact]) -> list[bool]:
                pairs = [(row.id, signal) for row in rows for signal in signals]
                random.Random(kind).shuffle(pairs)  # any order, the same in each run
                return await asyncio.gather(
                    *(actors.ref(owner[user]).ask(social_key(user, s.id), message(kind, now())) for user, s in pairs)
                )

            assert all(await everybody("like", React))
            async with pool.acquire() as conn:
                liked = dict(await conn.fetch("SELECT provider_id, likes FROM provider_likes"))
                assert liked == {each: len(rows) * n for each, n in Counter(s.provider_id for s in signals).items()}
            await actors.kill("users/0")
            await actors.start("users/0", Users(), settings)
            assert not any(await everybody("like", React))
            assert all(await everybody("sad", React))
            assert all(await everybody("like", Unreact))
        async with pool.acquire() as conn:
            counted = await conn.fetch("SELECT likes, fires, rockets, sads, comments FROM signal_counters")
            assert [tuple(row) for row in counted] == [(0, 0, 0, 20, 0)] * 8
            assert await conn.fetchval("SELECT sum(likes) FROM provider_likes") == 0
    finally:
        await pool.close()
