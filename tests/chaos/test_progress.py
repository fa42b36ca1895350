"""The owners of users are killed between a fact and its achievement: nothing is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
import pytest

from actors._runtime.placement import ActorSpec
from actors._runtime.registry import ActorRegistry, connect, disconnect
from actors.users.messages import USERS, Activity, FirstFollow, ProviderFacts, account_key, progress_key
from config.settings import Settings
from db._postgres import Pool, create_pool
from schemas.errors import AppError
from tests.support.breakable import ray_for_this_process
from tests.support.progress import until
from tests.support.users_factory import account_row, register

SPECS = (ActorSpec(USERS, "actors.users.users:Users", shards=2),)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE_SECONDS = 30.0  # two sweeps, and a process that starts


@pytest.fixture(scope="module")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray head for this module."""
    with ray_for_this_process(tmp_path_factory.mktemp("progress") / "ray") as address:
        yield address


@asynccontextmanager
async def owners(settings: Settings, ray_address: str) -> AsyncIterator[tuple[ActorRegistry, Pool]]:
    """Both shards of the owners as a gateway sees them, and a connection to their database."""
    settings = settings.replace(ray_address=ray_address, log_level="WARNING")
    assert settings.database_url is not None
    await connect(settings)
    registry = ActorRegistry(settings, SPECS)
    pool = await create_pool(settings.database_url, 2, name="test")
    try:
        await registry.start()
        yield registry, pool
        await registry.stop_actors()
    finally:
        await registry.close()
        pool.terminate()
        await disconnect()


async def kill(registry: ActorRegistry, shard: int) -> None:
    """Send SIGKILL to the process of a shard."""
    answer = (await registry.probe())[f"{USERS}/{shard}"]
    if not isinstance(answer, AppError):
        psutil.Process(answer["pid"]).kill()


def tell(registry: ActorRegistry, user: UUID, message: Any) -> None:
    key = progress_key(user)
    registry.ref(USERS, key).tell(key, message)


async def newcomer(registry: ActorRegistry, referrer: UUID | None = None) -> UUID:
    row = account_row()
    key = account_key(row.id)
    await registry.ref(USERS, key).ask(key, register(row, referrer_id=referrer), deadline_seconds=20)
    return row.id


@pytest.mark.slow
async def test_an_unlock_survives_any_kill_after_its_fact(settings: Settings, ray_address: str) -> None:
    async with owners(settings, ray_address) as (registry, pool):
        referrer = await newcomer(registry)
        referees = [await newcomer(registry, referrer) for _ in range(40)]
        traders = [await newcomer(registry) for _ in range(20)]
        # The facts, as their owners have committed them.
        await pool.executemany(
            "INSERT INTO following_counts VALUES ($1, 1, $2)",
            [(each, NOON + timedelta(minutes=n)) for n, each in enumerate(referees)],
        )
        await pool.executemany(
            "INSERT INTO providers (user_id, display_name) VALUES ($1, $2)", [(each, str(each)) for each in traders]
        )
        await pool.executemany(
            "INSERT INTO provider_stats (provider_id, total_signals, win_count) VALUES ($1, 30, 10)",
            [(each,) for each in traders],
        )

        async def news(since: int) -> None:
            # Some messages are sent, some twice, some never.
            for number, each in enumerate(referees):
                if number % 4 >= since:
                    tell(registry, each, FirstFollow(NOON + timedelta(minutes=number)))
                    await asyncio.sleep(0.01)
            for number, each in enumerate(traders):
                if number % 3 >= since:
                    tell(registry, each, ProviderFacts(30, 10, 0, "none", True, NOON))
                tell(registry, each, Activity("login", NOON + timedelta(days=since), "UTC"))

        for since in (1, 2):
            killing = asyncio.gather(*(kill_later(registry, shard) for shard in (0, 1)))
            await news(since)
            await killing

        async def done() -> bool:
            rewarded = await pool.fetchval("SELECT count(*) FROM referrals WHERE status = 'qualified'")
            unlocked = await pool.fetchval("SELECT count(*) FROM achievements WHERE user_id = ANY ($1)", traders)
            logins = await pool.fetchval("SELECT count(*) FROM user_streaks")
            return bool(rewarded == len(referees) and unlocked == 4 * len(traders) and logins == len(traders))

        await until(done, seconds=PATIENCE_SECONDS)
        rows = await pool.fetch("SELECT referee_id, reward_amount, acted_at, qualified_at FROM referrals")
        assert sorted(int(row["reward_amount"]) for row in rows) == [25] * 4 + [50] * 5 + [75] * 31
        dates = {each: NOON + timedelta(minutes=n) for n, each in enumerate(referees)}
        assert {row["referee_id"]: row["qualified_at"] for row in rows} == dates
        mine = await pool.fetch("SELECT achievement_id FROM achievements WHERE user_id = $1", referrer)
        assert {row[0] for row in mine} == {"referral_1", "referral_5", "referral_10"}
        names = await pool.fetch("SELECT DISTINCT achievement_id FROM achievements WHERE user_id = ANY ($1)", traders)
        assert {row[0] for row in names} == {"first_signal", "first_win", "win_10", "provider_first"}


async def kill_later(registry: ActorRegistry, shard: int) -> None:
    await asyncio.sleep(random.uniform(0.02, 0.3))
    await kill(registry, shard)
