"""The records of providers/{k} over a real Postgres: every signal once through crashes, equal to a recomputation."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from actors.ledger.messages import LEDGER
from actors.providers import log_consumer
from actors.providers.messages import PROVIDERS, Follow, Unfollow, provider_key
from actors.providers.providers import Providers
from actors.providers.rebuild import rebuild
from actors.records.returns import return_of
from config.settings import Settings
from config.tasks import spawn
from db._migrate import MIGRATIONS
from db._postgres import Connection, Pool, connection, create_pool, transaction
from db.log import read_state
from db.providers.outcomes import OutcomeRow, load_outcomes_of
from db.providers.records import RecordRow, load_figures, load_records
from db.users.accounts import insert_accounts
from server._records import examine_records
from tests.support.local_actors import LocalActors, local_actors
from tests.support.providers_factory import Trade, add_system_provider, publish
from tests.support.quiet_ledger import append_feed, quiet_ledger, with_log_key
from tests.support.records_factory import RecordStats, add_stats
from tests.support.users_factory import NOON, account_row
from tests.unit.test_track_record import recomputed

SHARDS = 2


class Owners:
    """Both shards of the actor, and a connection to their database."""

    def __init__(self, actors: LocalActors, settings: Settings, pool: Pool) -> None:
        self.actors = actors
        self.settings = settings
        self.pool = pool

    async def start(self, shard: int) -> None:
        await self.actors.start(PROVIDERS, Providers(), self.settings, shard=shard, shards=SHARDS)

    async def crash(self, shard: int) -> None:
        """Replace the actor as after a crash of its process."""
        await self.actors.kill(f"{PROVIDERS}/{shard}")
        await self.start(shard)

    async def ask(self, provider_id: UUID, message: Any) -> Any:
        return await self.actors.ref(PROVIDERS, provider_key(provider_id)).ask(provider_key(provider_id), message)

    async def publish(self, trades: Sequence[Trade], *, at: datetime = NOON) -> list[Any]:
        async with transaction(self.pool) as conn:
            return await publish(conn, trades, at=at)

    async def catch_up(self) -> None:
        await append_feed(self.actors)
        for shard in range(SHARDS):
            behaviour = self.actors.behaviours[f"{PROVIDERS}/{shard}"]
            assert isinstance(behaviour, Providers)
            reached = await behaviour.log_consumer.catch_up()
            async with connection(self.pool) as conn:
                assert reached == (await read_state(conn)).size

    async def system_providers(self, count: int) -> list[UUID]:
        async with transaction(self.pool) as conn:
            return [await add_system_provider(conn) for _ in range(count)]

    async def users(self, count: int) -> list[UUID]:
        rows = [account_row() for _ in range(count)]
        async with transaction(self.pool) as conn:
            await insert_accounts(conn, rows)
        return [row.id for row in rows]

    async def record(self, provider_id: UUID) -> RecordRow:
        async with connection(self.pool) as conn:
            return (await load_records(conn, [provider_id]))[provider_id]

    async def results(self, provider_id: UUID) -> list[OutcomeRow]:
        async with connection(self.pool) as conn:
            return await load_outcomes_of(conn, [provider_id])

    async def value(self, statement: str, *arguments: Any) -> Any:
        async with connection(self.pool) as conn:
            return await conn.fetchval(statement, *arguments)

    async def execute(self, statement: str, *arguments: Any) -> None:
        async with transaction(self.pool) as conn:
            await conn.execute(statement, *arguments)

    async def differences(self, provider_id: UUID) -> Sequence[str]:
        async with connection(self.pool) as conn, conn.transaction(isolation="repeatable_read"):
            return (await rebuild(conn, provider_id, self.settings.costs_bps)).differences


@asynccontextmanager
async def owners_of(settings: Settings) -> AsyncIterator[Owners]:
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test")
    try:
        with with_log_key(settings) as settings:
            async with local_actors(settings, {LEDGER: quiet_ledger()}) as actors:
                owners = Owners(actors, settings, pool)
                for shard in range(SHARDS):
                    await owners.start(shard)
                yield owners
    finally:
        pool.terminate()


async def test_a_close_takes_up_the_oldest_open_position_on_its_symbol_and_side(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        [who] = await owners.system_providers(1)
        signals = await owners.publish(
            [
                Trade(who, price=Decimal(100)),
                Trade(who, price=Decimal(200)),
                Trade(who, direction="short", price=Decimal(100)),
                Trade(who, symbol="ETH", price=Decimal(100)),
                Trade(who, opens=False, price=Decimal(110)),
                Trade(who, opens=False, direction="short", price=Decimal(110)),
                Trade(who, opens=False, symbol="SOL"),
                Trade(who, direction=None),
                Trade(who, price=None),
            ]
        )
        await owners.catch_up()
        rows = await owners.results(who)
        assert [row.status for row in rows] == ["PROFIT", "PENDING", "LOSS", "PENDING"]
        assert [row.closed_by for row in rows] == [signals[4].id, None, signals[5].id, None]
        assert [row.returned for row in rows] == [10**11, None, -(10**11), None]
        record = await owners.record(who)
        assert record.total_signals == 9
        assert (record.win_count, record.loss_count, record.return_sum) == (1, 1, 0)
        await owners.publish([Trade(who, opens=False, price=Decimal(200))])
        await owners.catch_up()
        assert [row.status for row in await owners.results(who)] == ["PROFIT", "BREAKEVEN", "LOSS", "PENDING"]


async def test_positions_are_of_one_instrument_however_it_is_spelled_and_of_one_asset_type(settings: Settings) -> None:
    """The kind: signals of one instrument that are matched by spelling, or by half of the key."""
    async with owners_of(settings) as owners:
        [who] = await owners.system_providers(1)
        option, etf = {"asset_type": "option"}, {"asset_type": "etf"}
        march, next_march = "2026-03-20", "2027-03-20"
        signals = await owners.publish(
            [
                Trade(who, symbol="BTC"),
                Trade(who, symbol="BTC/USD", opens=False, price=Decimal(110)),  # closes the first
                Trade(who, symbol="SPY", **etf),
                Trade(who, symbol="SPY", opens=False, asset_type="stock"),  # closes nothing
                Trade(who, symbol="SPY/USD", opens=False, price=Decimal(90), **etf),
                Trade(who, symbol="AAPL 195C 3/20", expiry=march, **option),
                Trade(who, symbol="AAPL 195C 3/20", expiry=next_march, opens=False, **option),  # of another year
                Trade(who, symbol="AAPL 195.0C 3/20/2026", opens=False, price=Decimal(120), **option),
            ],
            at=datetime(2026, 2, 15, 12, 0, tzinfo=UTC),
        )
        await owners.catch_up()
        closed = {each.signal_id: (each.symbol, each.asset_type, each.closed_by) for each in await owners.results(who)}
        assert closed == {
            signals[0].id: ("BTC", "crypto", signals[1].id),
            signals[2].id: ("SPY", "etf", signals[4].id),
            signals[5].id: ("AAPL 195C 2026-03-20", "option", signals[7].id),
        }
        record = await owners.record(who)
        assert (record.total_signals, record.win_count, record.loss_count) == (8, 2, 1)
        assert await owners.differences(who) == []


async def test_an_option_that_is_over_counts_as_a_signal_and_nowhere_else(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        [who] = await owners.system_providers(1)
        over = {"asset_type": "option", "symbol": "AAPL 195C 3/15", "expiry": "2024-03-15"}
        await owners.publish([Trade(who, **over), Trade(who, opens=False, price=Decimal(900), **over)])
        await owners.catch_up()
        record = await owners.record(who)
        assert (record.total_signals, record.closed_count, record.return_sum) == (2, 0, 0)
        assert await owners.results(who) == []
        assert await owners.differences(who) == []


async def test_a_published_signal_is_in_the_record_at_once_and_without_redis_within_seconds(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        [who] = await owners.system_providers(1)
        await owners.publish([Trade(who)])
        deadline = asyncio.get_running_loop().time() + 4  # it is not announced: the poll finds it
        while (await owners.record(who)).total_signals < 1:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("seed", range(3))
async def test_records_equal_a_recomputation_to_the_last_digit_whatever_dies(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(log_consumer, "PAGE", 9)
    async with owners_of(settings) as owners:
        providers = await owners.system_providers(6)
        users = await owners.users(8)
        over = asyncio.Event()

        async def follow() -> None:
            while not over.is_set():
                message = rng.choice([Follow, Unfollow])
                arguments = (rng.choice(users), *((None,) if message is Follow else ()), NOON)
                with suppress(Exception):  # a dead actor does not answer
                    await owners.ask(rng.choice(providers), message(*arguments))
                await asyncio.sleep(0)

        followers = [spawn(follow(), name="follow") for _ in range(3)]
        for step in range(40):
            await owners.publish([_random_trade(rng, providers) for _ in range(rng.randint(1, 15))])
            if step % 4 == 3:
                shard = rng.randrange(SHARDS)
                if rng.random() < 0.3:  # the log is delivered from its beginning, again
                    await owners.execute("UPDATE provider_offsets SET index = 0")
                await owners.crash(shard)
            await asyncio.sleep(rng.random() * 0.02)
        over.set()
        await asyncio.gather(*followers)
        await owners.catch_up()
        expected = await _positions(owners.pool)
        for provider_id in providers:
            assert await owners.differences(provider_id) == []
            rows = await owners.results(provider_id)
            assert [(row.signal_id, row.status, row.returned, row.closed_by) for row in rows] == expected[provider_id]
            ends = sorted((row for row in rows if row.closed_seq), key=lambda row: row.closed_seq or 0)
            async with connection(owners.pool) as conn:
                figures = await load_figures(conn, provider_id)
            assert figures == recomputed([(row.returned or 0, row.status) for row in ends])
            total = await owners.value("SELECT count(*) FROM signals WHERE provider_id = $1", provider_id)
            assert (await owners.record(provider_id)).total_signals == total


def _random_trade(rng: random.Random, providers: Sequence[UUID]) -> Trade:
    return Trade(
        rng.choice(providers),
        opens=rng.random() < 0.55,
        symbol=rng.choice(["BTC", "ETH"]),
        direction=rng.choice(["long", "short", "short", None]),
        price=rng.choice([None, *(Decimal(rng.randint(1, 10**6)).scaleb(-3) for _ in range(12))]),
    )


async def _positions(pool: Pool) -> dict[UUID, list[Any]]:
    """Work out the outcome of every opening signal from the signals alone."""
    async with connection(pool) as conn:
        log = await conn.fetch("SELECT * FROM signals ORDER BY feed_seq")
    rows: dict[UUID, list[Any]] = defaultdict(list)
    waiting: dict[Any, deque[tuple[int, Any]]] = defaultdict(deque)
    for signal in log:
        side, price = signal["direction"], signal["entry_price"]
        if side is None or price is None:
            continue
        mine, place = rows[signal["provider_id"]], (signal["provider_id"], signal["symbol"], side)
        if signal["event_type"] == "OPEN_SIGNAL":
            waiting[place].append((len(mine), price))
            mine.append((signal["id"], "PENDING", None, None))
        elif waiting[place]:
            index, entry = waiting[place].popleft()
            returned = return_of("crypto", side, entry, price)
            gain = price - entry if side == "long" else entry - price
            status = "PROFIT" if gain > 0 else "LOSS" if gain < 0 else "BREAKEVEN"
            mine[index] = (mine[index][0], status, returned, signal["id"])
    return rows


async def test_parallel_follows_and_unfollows_leave_exact_counters(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        providers = await owners.system_providers(4)
        users = await owners.users(50)
        rng = random.Random(1)
        pairs = [(user, provider) for user in users for provider in rng.sample(providers, 2)]
        assert len(pairs) == 100
        await asyncio.gather(*(owners.ask(provider, Follow(user, True, NOON)) for user, provider in pairs))
        assert await owners.value("SELECT sum(follower_count) FROM provider_stats") == 100
        messages = [
            (provider, rng.choice([Follow(user, True, NOON), Unfollow(user, NOON)]))
            for user, provider in pairs
            for _ in range(3)
        ]
        rng.shuffle(messages)
        await asyncio.gather(*(owners.ask(*each) for each in messages))
        for provider in providers:
            assert await owners.differences(provider) == []
            count = await owners.value("SELECT count(*) FROM follows WHERE provider_id = $1", provider)
            assert (await owners.record(provider)).follower_count == count
        wrong = """
        SELECT count(*) FROM following_counts c
        WHERE following <> (SELECT count(*) FROM follows f WHERE f.follower_id = c.follower_id)
        """
        assert await owners.value(wrong) == 0
        await asyncio.gather(*(owners.ask(provider, Unfollow(user, NOON)) for user, provider in pairs))
        assert await owners.value("SELECT sum(follower_count) FROM provider_stats") == 0
        assert await owners.value("SELECT sum(following) FROM following_counts") == 0
        assert await owners.value("SELECT count(*) FROM following_counts WHERE first_followed_at IS NULL") == 0


async def test_the_limit_of_follows_holds_over_all_shards_at_once(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        providers = await owners.system_providers(520)
        [user] = await owners.users(1)
        answers = await asyncio.gather(
            *(owners.ask(each, Follow(user, None, NOON)) for each in providers), return_exceptions=True
        )
        assert sum(isinstance(each, tuple) for each in answers) == 500
        assert {str(each) for each in answers if not isinstance(each, tuple)} == {
            "At most 500 providers can be followed"
        }
        assert await owners.value("SELECT following FROM following_counts") == 500
        assert await owners.value("SELECT count(*) FROM follows") == 500
        assert await owners.value("SELECT sum(follower_count) FROM provider_stats") == 500


async def test_a_level_is_kept_through_everything_that_dies(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        [who] = await owners.system_providers(1)
        shard = next(
            each
            for each in range(SHARDS)
            if owners.actors.ref(PROVIDERS, str(who)) is (owners.actors.refs[f"{PROVIDERS}/{each}"])
        )
        async with owners.pool.acquire() as conn:
            await add_stats(conn, [RecordStats(who, age=4, is_eligible=True)], day=NOON.date())  # type: ignore[arg-type]
        wins = [Trade(who, opens=n % 2 == 0, price=Decimal(100 + n % 2), minutes=n) for n in range(100)]
        await owners.publish(wins)
        users = await owners.users(30)
        await owners.catch_up()
        verified_at = NOON + timedelta(minutes=9)
        before = await owners.record(who)
        assert (before.verification_level, before.verified_at) == ("basic", verified_at)
        await asyncio.gather(*(owners.ask(who, Follow(user, None, NOON)) for user in users))
        assert (await owners.record(who)).verification_level == "pro"
        await owners.crash(shard)
        await asyncio.gather(*(owners.ask(who, Unfollow(user, NOON)) for user in users))
        losses = [Trade(who, opens=n % 2 == 0, price=Decimal(100 - n % 2), minutes=120 + n) for n in range(200)]
        await owners.publish(losses)
        await owners.crash(shard)
        await owners.catch_up()
        after = await owners.record(who)
        assert (after.verification_level, after.verified_at, after.win_count) == ("pro", verified_at, 50)
        assert after.most_followers == 30
        assert await owners.differences(who) == ["statistics"]  # those that were put there


async def test_a_record_that_is_wrong_is_named_and_repaired(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        [who] = await owners.system_providers(1)
        await owners.publish([Trade(who), Trade(who, opens=False, price=Decimal(101)), Trade(who)])
        await owners.catch_up()
        right = await owners.record(who), await owners.results(who)
        await owners.execute("UPDATE provider_stats SET win_count = 7, return_sum = return_sum + 1e-12, win_rate = 0.5")
        await owners.execute("DELETE FROM signal_outcomes WHERE status = 'PENDING'")
        names = [each.partition(":")[0] for each in await owners.differences(who)]
        assert names == ["win_count", "return_sum", "figures", "outcomes"]
        said: list[str] = []
        assert owners.settings.database_url is not None
        checked = owners.settings.database_url, said.append, owners.settings.costs_bps
        assert await examine_records(*checked, mend=False) == 1
        assert said[0].startswith(f"{who}: win_count: 7, not 1; return_sum: ")
        assert said[1] == "1 records, 1 wrong"
        assert await examine_records(*checked, mend=True) == 0
        assert said[-1] == "1 records repaired"
        assert await owners.differences(who) == []
        assert (await owners.record(who), await owners.results(who)) == right


async def test_other_numbers_of_shards_lose_nothing_and_count_nothing_twice(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        providers = await owners.system_providers(5)
        await owners.publish([Trade(each) for each in providers])
        await owners.catch_up()
        for shard in range(SHARDS):
            await owners.actors.kill(f"{PROVIDERS}/{shard}")
        await owners.publish([Trade(each) for each in providers])
        only = Providers()
        await owners.actors.start(PROVIDERS, only, owners.settings)
        await append_feed(owners.actors)
        assert await only.log_consumer.catch_up() == 10
        for each in providers:
            assert (await owners.record(each)).total_signals == 2
            assert await owners.differences(each) == []


async def test_a_signal_that_cannot_be_reckoned_holds_nobody_up(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        [bad, good] = await owners.system_providers(2)
        await owners.publish([Trade(bad), Trade(good)])
        await owners.catch_up()
        # The value does not fit into any record, as if impossible data were stored.
        await owners.execute("UPDATE provider_stats SET total_signals = 2147483647 WHERE provider_id = $1", bad)
        for shard in range(SHARDS):
            await owners.crash(shard)
        await owners.publish([Trade(good), Trade(bad), Trade(good), Trade(bad), Trade(good)])
        await owners.catch_up()
        assert (await owners.record(good)).total_signals == 4


async def test_days_of_a_persons_signals_and_profits_are_streaks_in_their_zone(settings: Settings) -> None:
    async with owners_of(settings) as owners:
        [who] = await owners.users(1)
        await owners.execute("INSERT INTO providers (user_id, display_name, name_key) VALUES ($1, 'King', 'king')", who)
        await owners.execute(
            "INSERT INTO user_settings VALUES ($1, 'moderate', 0.6, '{}', 'dark', 'Pacific/Auckland', false, 0)", who
        )
        start = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)  # 23:30 in that zone

        async def trade(hours: float, price: int) -> None:
            pair = [Trade(who, price=Decimal(100)), Trade(who, opens=False, price=Decimal(price))]
            await owners.publish(pair, at=start + timedelta(hours=hours))
            await owners.catch_up()

        async def streaks() -> dict[str, tuple[Any, ...]]:
            async with connection(owners.pool) as conn:
                rows = await conn.fetch(
                    "SELECT streak_type, current_count, longest_count, last_on FROM provider_streaks ORDER BY 1"
                )
            return {row[0]: tuple(row[1:]) for row in rows}

        await trade(0, 101)
        await trade(1, 102)  # after midnight in that zone
        assert await streaks() == {
            "profitable_signal": (2, 2, date(2026, 3, 2)),
            "provider_signal": (2, 2, date(2026, 3, 2)),
        }
        for shard in range(SHARDS):
            await owners.crash(shard)
        await trade(25, 99)
        assert await streaks() == {
            "profitable_signal": (0, 2, date(2026, 3, 2)),
            "provider_signal": (3, 3, date(2026, 3, 3)),
        }
        await trade(24 * 5, 101)
        assert await streaks() == {
            "profitable_signal": (1, 2, date(2026, 3, 6)),
            "provider_signal": (1, 3, date(2026, 3, 6)),
        }
        async with connection(owners.pool) as conn:
            runs = await conn.fetch("SELECT streak_type, count, started_on, ended_on FROM provider_streak_runs")
        assert [tuple(row) for row in runs] == [
            ("profitable_signal", 2, date(2026, 3, 1), date(2026, 3, 2)),
            ("provider_signal", 3, date(2026, 3, 1), date(2026, 3, 3)),
        ]


async def test_the_tables_of_providers_are_undone_by_their_migration(settings: Settings) -> None:
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 1, name="test")
    try:
        async with transaction(pool) as conn:
            await _run_down(conn)
    finally:
        pool.terminate()


async def _run_down(conn: Connection) -> None:
    for path in sorted(MIGRATIONS.glob("*.sql"), reverse=True):
        await conn.execute(path.read_text().partition("-- migrate:down")[2])
        if path.name.startswith("0006"):
            break
    await conn.execute((MIGRATIONS / "0006_providers.sql").read_text().partition("-- migrate:down")[0])
