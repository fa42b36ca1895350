"""The owners of users, killed between a fact and what it unlocks: nothing is lost, nothing counts twice."""

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

from actors._directory import Directory, connect, disconnect
from actors._placement import ActorSpec
from actors.users.messages import USERS, Activity, FirstFollow, ProviderFacts, account_key, progress_key
from config.settings import Settings
from db._postgres import Pool, create_pool
from schemas.errors import AppError
from tests.breakable import ray_for_this_process
from tests.progress import until
from tests.users_factory import account_row, register

SPECS = (ActorSpec(USERS, "actors.users.users:Users", shards=2),)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE_SECONDS = 30.0  # two sweeps, and a process that starts


@pytest.fixture(scope="module")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray head for this module."""
    with ray_for_this_process(tmp_path_factory.mktemp("progress") / "ray") as address:
        yield address


@asynccontextmanager
async def owners(settings: Settings, ray_address: str) -> AsyncIterator[tuple[Directory, Pool]]:
    """Both shards of the owners as a gateway sees them, and a look behind their backs."""
    settings = settings.replace(ray_address=ray_address, log_level="WARNING")
    assert settings.database_url is not None
    await connect(settings)
    directory = Directory(settings, SPECS)
    pool = await create_pool(settings.database_url, 2, name="test")
    try:
        await directory.start()
        yield directory, pool
        await directory.stop_actors()
    finally:
        await directory.close()
        pool.terminate()
        await disconnect()


async def kill(directory: Directory, shard: int) -> None:
    """SIGKILL to the process of a shard."""
    answer = (await directory.probe())[f"{USERS}/{shard}"]
    if not isinstance(answer, AppError):
        psutil.Process(answer["pid"]).kill()


def tell(directory: Directory, user: UUID, message: Any) -> None:
    key = progress_key(user)
    directory.mailbox(USERS, key).tell(key, message)


async def newcomer(directory: Directory, referrer: UUID | None = None) -> UUID:
    row = account_row()
    key = account_key(row.id)
    await directory.mailbox(USERS, key).ask(key, register(row, referrer_id=referrer), deadline_seconds=20)
    return row.id


@pytest.mark.slow
async def test_whatever_is_killed_between_a_fact_and_its_unlock(settings: Settings, ray_address: str) -> None:
    async with owners(settings, ray_address) as (directory, pool):
        referrer = await newcomer(directory)
        referees = [await newcomer(directory, referrer) for _ in range(40)]
        traders = [await newcomer(directory) for _ in range(20)]
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
            # Some are told, some twice, some never.
            for number, each in enumerate(referees):
                if number % 4 >= since:
                    tell(directory, each, FirstFollow(NOON + timedelta(minutes=number)))
                    await asyncio.sleep(0.01)
            for number, each in enumerate(traders):
                if number % 3 >= since:
                    tell(directory, each, ProviderFacts(30, 10, 0, "none", True, NOON))
                tell(directory, each, Activity("login", NOON + timedelta(days=since), "UTC"))

        for since in (1, 2):
            killing = asyncio.gather(*(kill_later(directory, shard) for shard in (0, 1)))
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


async def kill_later(directory: Directory, shard: int) -> None:
    await asyncio.sleep(random.uniform(0.02, 0.3))
    await kill(directory, shard)
