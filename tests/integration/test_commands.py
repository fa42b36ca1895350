"""Batches, commands, epochs and virtual actors in this process, on a real Postgres."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import pytest

from actors._runtime.context import Behaviour
from actors._runtime.fencing import Fence
from actors._runtime.messages import Envelope, Message
from actors._runtime.virtual import Transition
from config.ids import uuid7
from config.settings import Settings
from config.tasks import spawn
from db import actors as sql
from db._postgres import Connection, Pool, create_pool
from schemas.errors import Conflict, DatabaseUnavailable, Fenced, Internal, NotFound
from tests.integration.counters import SCHEMA, Add, Counters, SetTo, Total
from tests.support.local_actors import LocalActors, local_actors

KIND = "test/actor"


@asynccontextmanager
async def an_actor(settings: Settings, behaviour: Behaviour) -> AsyncIterator[LocalActors]:
    """The behaviour in its context, with the counters' tables."""
    assert settings.database_url is not None
    conn = await asyncpg.connect(settings.database_url)
    await conn.execute(SCHEMA)
    await conn.close()
    async with local_actors(settings, {KIND: behaviour}) as actors:
        yield actors


@asynccontextmanager
async def a_pool(settings: Settings, size: int = 4) -> AsyncIterator[Pool]:
    """A pool of the test's own."""
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, size, name="test")
    try:
        yield pool
    finally:
        pool.terminate()


class Write(Message[str]):
    """Insert a row; answered with how many deliveries were applied together."""

    tag: str
    trouble: str = ""


class Log(Behaviour):
    """Owns `additions`: one row for each write. Answers, and fails, as the messages say."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.before_return = asyncio.Event()
        self.before_return.set()

    async def process(self, batch: Sequence[Envelope]) -> Sequence[Any]:
        """See Behaviour."""
        return await self.context.write(batch, self._apply)

    async def _apply(self, conn: Connection, batch: Sequence[Envelope]) -> Sequence[Any]:
        self.calls.append([each.message.tag for each in batch])
        replies: list[Any] = []
        for each in batch:
            tag = None if each.message.trouble == "constraint" else each.message.tag
            await conn.execute("INSERT INTO additions (id, tag) VALUES ($1, $2)", each.key, tag)
            if each.message.trouble == "raised":
                raise Conflict("raised")
            if each.message.trouble == "bug":
                raise ZeroDivisionError
            replies.append(NotFound("a value") if each.message.trouble == "value" else f"{len(batch)}")
        await self.before_return.wait()
        return replies


def a_command(tag: str, trouble: str = "", *, id_: UUID | None = None, suspect: bool = False) -> Envelope:
    """A delivery of `Write`."""
    return Envelope("k", Write(tag, trouble), (id_ or uuid7()).bytes, suspect)


async def tags(conn: Connection | Pool) -> list[str]:
    """Return the written tags, in order."""
    return [row[0] for row in await conn.fetch("SELECT tag FROM additions ORDER BY at")]


# --- a batch


async def test_a_batch_is_one_transaction_and_its_answers_are_kept(settings: Settings) -> None:
    log = Log()
    async with an_actor(settings, log), a_pool(settings) as pool:
        batch = [a_command(f"{n}") for n in range(5)]
        assert await log.process(batch) == ["5"] * 5
        assert log.calls == [["0", "1", "2", "3", "4"]]
        assert await pool.fetchval("SELECT count(DISTINCT xmin::text) FROM additions") == 1
        kept = await sql.find_commands(pool, KIND, [UUID(bytes=each.command_id) for each in batch if each.command_id])  # type: ignore[arg-type]
        assert set(kept) == {each.command_id for each in batch}


@pytest.mark.parametrize(
    ("trouble", "answer"), [("constraint", Internal()), ("raised", Conflict("raised")), ("bug", Internal())]
)
async def test_a_failing_command_fails_alone_and_the_others_keep_their_order(
    settings: Settings, trouble: str, answer: Exception
) -> None:
    log = Log()
    async with an_actor(settings, log), a_pool(settings) as pool:
        batch = [a_command("a"), a_command("b", trouble), a_command("c"), a_command("d", trouble), a_command("e")]
        assert await log.process(batch) == ["1", answer, "1", answer, "1"]
        assert await tags(pool) == ["a", "c", "e"]
        assert await pool.fetchval("SELECT count(*) FROM actor_commands") == 3, "what failed may be tried again"
        assert log.calls[0] == ["a", "b", "c", "d", "e"] or log.calls[0] == ["a", "b"]


async def test_an_error_that_is_returned_as_a_value_rolls_nothing_back(settings: Settings) -> None:
    log = Log()
    async with an_actor(settings, log), a_pool(settings) as pool:
        assert await log.process([a_command("a"), a_command("b", "value")]) == ["2", NotFound("a value")]
        assert await tags(pool) == ["a", "b"]
        assert await pool.fetchval("SELECT count(*) FROM actor_commands") == 1


async def test_a_batch_delivered_again_changes_nothing_and_is_answered_as_before(settings: Settings) -> None:
    log = Log()
    async with an_actor(settings, log), a_pool(settings) as pool:
        first = [a_command(f"{n}") for n in range(3)]
        await log.process(first)
        again = [each._replace(suspect=True) for each in first]
        assert await log.process([again[0], a_command("new"), *again[1:]]) == ["3", "1", "3", "3"]
        assert await log.process(again) == ["3", "3", "3"]
        assert await tags(pool) == ["0", "1", "2", "new"]


async def test_a_hostile_row_runs_nothing(settings: Settings, tmp_path: Path) -> None:
    """Whatever the stored row holds, its command is not applied again, and the rest of the batch is answered."""
    log = Log()
    mark = tmp_path / "mark"
    async with an_actor(settings, log), a_pool(settings) as pool:
        hostile, other = (a_command(each) for each in ("hostile", "other"))
        await log.process([hostile, other])
        assert b"\x80" not in {row[0][:1] for row in await pool.fetch("SELECT reply FROM actor_commands")}
        bomb = f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode()
        assert hostile.command_id is not None
        await pool.execute(
            "UPDATE actor_commands SET reply = $2 WHERE command_id = $1",
            UUID(bytes=hostile.command_id),
            b"\x80\x05" + bomb,
        )
        assert await log.process([each._replace(suspect=True) for each in (hostile, other)]) == [Internal(), "2"]
        assert not mark.exists()
        assert await tags(pool) == ["hostile", "other"]


async def test_a_command_that_is_twice_in_a_batch_is_applied_once_and_answered_twice(settings: Settings) -> None:
    log = Log()
    async with an_actor(settings, log), a_pool(settings) as pool:
        twice = a_command("twice", suspect=True)
        assert await log.process([twice, a_command("other"), twice]) == ["2", "2", "2"]
        assert await tags(pool) == ["twice", "other"]


async def test_two_batches_at_once_with_the_same_command_apply_it_once(settings: Settings) -> None:
    log = Log()
    async with an_actor(settings, log), a_pool(settings) as pool:
        same = a_command("same", suspect=True)
        log.before_return.clear()
        both = [spawn(log.process([same, a_command(tag)]), name=tag) for tag in ("x", "y")]
        async with asyncio.timeout(5):
            while len(log.calls) < 2:  # noqa: ASYNC110 - until both have looked it up and found nothing
                await asyncio.sleep(0.001)
        log.before_return.set()
        replies = await asyncio.gather(*both)
        assert replies[0][0] == replies[1][0] == "2"
        assert sorted(await tags(pool)) == ["same", "x", "y"]


async def test_an_id_that_was_not_suspected_but_is_known_is_found_out_in_time(settings: Settings) -> None:
    log = Log()
    async with an_actor(settings, log), a_pool(settings) as pool:
        one = a_command("one")
        await log.process([one])
        assert await log.process([a_command("two"), one]) == ["1", "1"]
        assert await tags(pool) == ["one", "two"]


async def test_commands_of_different_actors_do_not_meet(settings: Settings) -> None:
    log = Log()
    async with an_actor(settings, log) as actors, a_pool(settings) as pool:
        other = Log()
        await actors.start("test/other", other, settings)
        shared = a_command("shared", suspect=True)
        assert await log.process([shared]) == ["1"]
        assert await other.process([shared]) == ["1"]
        assert await tags(pool) == ["shared", "shared"]


async def test_old_commands_are_forgotten_a_bounded_number_at_a_time(settings: Settings) -> None:
    async with a_pool(settings) as pool, pool.acquire() as conn:
        for actor, age, count in (("a", 7200, 30), ("b", 7200, 5), ("a", 60, 7)):
            await conn.execute(
                "INSERT INTO actor_commands (actor, command_id, reply, applied_at) "
                "SELECT $1, gen_random_uuid(), '', now() - make_interval(secs => $2) FROM generate_series(1, $3)",
                actor,
                age,
                count,
            )
        assert await sql.expire_commands(conn, 3600, 20) == 20
        assert await sql.expire_commands(conn, 3600, 20) == 15
        assert await sql.expire_commands(conn, 3600, 20) == 0
        assert await conn.fetchval("SELECT count(*) FROM actor_commands") == 7


# --- epochs


async def test_a_newer_epoch_ends_the_right_to_write_and_tells_so_once(settings: Settings) -> None:
    lost: list[str] = []
    async with a_pool(settings) as old_pool, a_pool(settings) as new_pool:
        old = Fence(old_pool, "x", lambda: lost.append("old"))
        new = Fence(new_pool, "x", lambda: lost.append("new"))
        assert await old.take() == 1
        async with old.transaction():
            pass
        assert await new.take() == 2
        for _ in range(2):
            with pytest.raises(Fenced):
                async with old.transaction():
                    raise AssertionError("the body must not run")
        async with new.transaction():
            pass
        assert lost == ["old"]


async def test_a_take_over_waits_for_an_open_transaction_that_is_about_to_commit(settings: Settings) -> None:
    async with a_pool(settings) as old_pool, a_pool(settings) as new_pool:
        await new_pool.execute(SCHEMA)
        old, new = Fence(old_pool, "x", lambda: None), Fence(new_pool, "x", lambda: None)
        await old.take()
        async with old.transaction() as conn:
            await conn.execute("INSERT INTO counters VALUES ('k', 1)")
            taking = spawn(new.take(), name="take")
            await asyncio.sleep(0.1)
            assert not taking.done()
        assert await taking == 2
        assert await new_pool.fetchval("SELECT total FROM counters") == 1


async def test_a_take_over_ends_a_transaction_that_stays_open_and_nothing_of_it_is_left(settings: Settings) -> None:
    async with a_pool(settings) as old_pool, a_pool(settings) as new_pool:
        await new_pool.execute(SCHEMA)
        old, new = Fence(old_pool, "x", lambda: None), Fence(new_pool, "x", lambda: None)
        await old.take()

        async def hang() -> None:
            async with old.transaction() as conn:
                await conn.execute("INSERT INTO counters VALUES ('k', 1)")
                started = time.monotonic()
                assert await new.take() == 2
                assert time.monotonic() - started < 2.0
                await conn.execute("INSERT INTO counters VALUES ('l', 1)")

        with pytest.raises(DatabaseUnavailable):
            await hang()
        assert await new_pool.fetchval("SELECT count(*) FROM counters") == 0
        with pytest.raises(Fenced):
            async with old.transaction():
                pass


async def test_an_actor_of_another_number_of_shards_writes_no_more(settings: Settings) -> None:
    async with a_pool(settings) as old_pool, a_pool(settings) as new_pool:
        others = [Fence(old_pool, name, lambda: None) for name in ("x", "x/2", "x/17")]
        bystanders = [Fence(old_pool, name, lambda: None) for name in ("x/0", "y", "xy", "x/y", "x/1/2", "x2")]
        for each in (*others, *bystanders):
            await each.take()
        successor = Fence(new_pool, "x/1", lambda: None, kind="x", names=("x/0", "x/1"))
        async with others[0].transaction():
            taking = spawn(successor.take(), name="take")
            await asyncio.sleep(0.1)
            assert not taking.done(), "it waits for a transaction that is about to commit"
        assert await taking == 1
        for each in others:
            with pytest.raises(Fenced):
                async with each.transaction():
                    raise AssertionError("the body must not run")
        for each in (*bystanders, successor):
            async with each.transaction():
                pass


async def test_of_two_hosts_of_one_name_only_the_newer_one_writes(settings: Settings) -> None:
    zombie, successor = Counters(), Counters()
    async with an_actor(settings, zombie) as actors, a_pool(settings) as pool:
        assert await zombie.process([Envelope("k", Add(1), uuid7().bytes)]) == [1]
        await actors.start(KIND, successor, settings)
        assert await successor.process([Envelope("k", Add(1), uuid7().bytes)]) == [2]
        with pytest.raises(Fenced):
            await zombie.process([Envelope("k", Add(1), uuid7().bytes)])
        assert await pool.fetchval("SELECT total FROM counters WHERE id = 'k'") == 2


# --- virtual actors


class Watched(Counters):
    """Counters that record what they do."""

    idle_seconds: ClassVar[float] = 0.2

    def __init__(self) -> None:
        self.loads: list[list[str]] = []
        self.saves: list[int] = []
        self.committed: list[Transition[int, str]] = []
        self.trouble: list[Exception] = []

    async def load(self, conn: Connection, keys: Sequence[str]) -> Any:
        """See VirtualActor."""
        self.loads.append(list(keys))
        if "poison" in keys:
            raise asyncpg.DataError("a key that cannot be looked up")
        return await super().load(conn, keys)

    async def save(self, conn: Connection, transitions: Sequence[Transition[int, str]]) -> None:
        """See VirtualActor."""
        self.saves.append(len(transitions))
        await super().save(conn, transitions)

    async def published(self, transitions: Sequence[Transition[int, str]]) -> None:
        """See VirtualActor."""
        if self.trouble:
            raise self.trouble.pop()
        self.committed += transitions


async def test_a_batch_loads_once_saves_once_and_publishes_what_was_committed(settings: Settings) -> None:
    counters = Watched()
    async with an_actor(settings, counters):
        batch = [Envelope(f"{n % 3}", Add(1), uuid7().bytes) for n in range(9)]
        assert await counters.process(batch) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
        assert counters.loads == [["0", "1", "2"]]
        assert counters.saves == [9]
        await counters.stop()
        assert [(each.key, each.after) for each in counters.committed] == [(f"{n % 3}", n // 3 + 1) for n in range(9)]


async def test_a_command_that_changes_nothing_opens_no_transaction_and_is_not_published(settings: Settings) -> None:
    counters = Watched()
    async with an_actor(settings, counters), a_pool(settings) as pool:
        await counters.process([Envelope("k", SetTo(5))])
        written = await pool.fetchval("SELECT xmin::text FROM actor_epochs")
        assert await counters.process([Envelope("k", SetTo(5)), Envelope("k", Total())]) == [5, 5]
        assert counters.saves == [1]
        assert await pool.fetchval("SELECT xmin::text FROM actor_epochs") == written
        await counters.stop()
        assert len(counters.committed) == 1


async def test_a_publication_that_fails_stops_neither_the_actor_nor_later_ones(settings: Settings) -> None:
    counters = Watched()
    counters.trouble.append(ConnectionError("Redis is away"))
    async with an_actor(settings, counters):
        assert await counters.process([Envelope("k", Add(1), uuid7().bytes)]) == [1]
        async with asyncio.timeout(2):
            while counters.trouble:  # noqa: ASYNC110 - until the publisher has met it
                await asyncio.sleep(0.001)
        assert await counters.process([Envelope("k", Add(1), uuid7().bytes)]) == [2]
        await counters.stop()
        assert [each.after for each in counters.committed] == [2]


async def test_an_idle_id_leaves_memory_and_comes_back_as_it_was(settings: Settings) -> None:
    counters = Watched()
    async with an_actor(settings, counters):
        await counters.process([Envelope("k", Add(4), uuid7().bytes)])
        assert counters.stats()["in_memory"] == 1
        async with asyncio.timeout(3):
            while counters.stats()["in_memory"]:  # noqa: ASYNC110 - until it was dropped
                await asyncio.sleep(0.01)
        assert await counters.process([Envelope("k", Total())]) == [4]
        assert counters.loads == [["k"], ["k"]]


async def test_a_key_that_cannot_be_loaded_fails_alone(settings: Settings) -> None:
    counters = Watched()
    async with an_actor(settings, counters):
        replies = await counters.process(
            [Envelope(key, Add(1), uuid7().bytes) for key in ("a", "poison", "b", "unknown", "a")]
        )
        assert [reply for reply in replies if isinstance(reply, int)] == [1, 1, 2]
        assert isinstance(replies[1], Internal)
        assert isinstance(replies[3], NotFound)


async def test_a_command_applied_before_does_not_change_memory_either(settings: Settings) -> None:
    counters, successor = Watched(), Watched()
    async with an_actor(settings, counters) as actors:
        command = Envelope("k", Add(5), uuid7().bytes, suspect=True)
        assert await counters.process([command]) == [5]
        assert await counters.process([command]) == [5]
        assert await counters.process([Envelope("k", Total())]) == [5]
        assert await counters.process([command, Envelope("k", Add(1), uuid7().bytes), command]) == [5, 6, 5]
        await actors.start(KIND, successor, settings)
        assert await successor.process([command]) == [5]
        assert await successor.process([Envelope("k", Total())]) == [6]


async def test_state_is_read_again_after_a_commit_of_unknown_outcome(settings: Settings) -> None:
    counters = Watched()
    async with an_actor(settings, counters), a_pool(settings) as pool:
        await counters.process([Envelope("k", Add(1), uuid7().bytes)])
        # The connection is lost in the middle of the commit: who asked for it cannot know how it ended.
        await pool.execute(
            "CREATE FUNCTION drop_connection() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; "
            "CREATE CONSTRAINT TRIGGER lose AFTER UPDATE ON counters DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION drop_connection()"
        )
        with pytest.raises(DatabaseUnavailable):
            await counters.process([Envelope("k", Add(1), uuid7().bytes)])
        await pool.execute("DROP TRIGGER lose ON counters; UPDATE counters SET total = 40")
        assert await counters.process([Envelope("k", Total())]) == [40]


async def test_every_statement_of_the_actor_layer_is_valid(settings: Settings) -> None:
    statements = {name: text for name, text in vars(sql).items() if name.isupper() and isinstance(text, str)}
    assert len(statements) == 7
    async with a_pool(settings) as pool, pool.acquire() as conn:
        for text in statements.values():
            await conn.prepare(text)


async def test_looking_up_commands_and_expiring_them_use_an_index(settings: Settings) -> None:
    async with a_pool(settings) as pool, pool.acquire() as conn:
        await conn.execute(
            "INSERT INTO actor_commands SELECT 'a', gen_random_uuid(), '', now() FROM generate_series(1, 20000)"
        )
        await conn.execute("ANALYZE actor_commands")
        found = await conn.fetch(f"EXPLAIN {sql.FIND_COMMANDS}", "a", [uuid7()])
        assert "actor_commands_pkey" in str(found)
        expired = await conn.fetch(f"EXPLAIN {sql.EXPIRE_COMMANDS}", 3600.0, 100)
        assert "actor_commands_age" in str(expired)
