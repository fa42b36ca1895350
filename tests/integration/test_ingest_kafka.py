"""Scored signals by Kafka, over a real broker: at least once, stored once, the offset committed after the write."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from actors.ingest import INGEST
from actors.ingest.ingest import Ingest
from actors.lens.messages import INTAKE, PUBLISH, RetryDeadLetter
from config import clock
from config.settings import ConfigurationError, Settings
from schemas.errors import DatabaseUnavailable
from server.supervisor.process import inherited_environment
from tests.integration.ingest_world import counted, ids, world
from tests.peers.kafka import KafkaBroker
from tests.support.lens_factory import until
from tests.support.scored import message, numbered
from tests.support.services import REPOSITORY

GROUP = "tradestream"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker without a topic; killed at the end."""
    with KafkaBroker(tmp_path) as running:
        yield running


@pytest.fixture
def reading(settings: Settings, broker: KafkaBroker) -> Settings:
    """Settings of a server that reads from it."""
    return settings.replace(kafka_bootstrap_servers=broker.servers)


async def committed(broker: KafkaBroker, offset: int, partition: int = 0) -> None:
    """Wait until the group has committed this offset."""

    async def look() -> bool:
        return await broker.committed(GROUP, partition) == offset

    await until(look)


async def test_a_message_is_published_and_then_its_offset_is_committed(reading: Settings, broker: KafkaBroker) -> None:
    await broker.create_topic(1)
    async with world(reading) as here:
        publish = here.actors.refs[PUBLISH]
        ask, tried = publish.ask, asyncio.Event()

        async def away(*_: Any, **__: Any) -> Any:
            tried.set()
            raise DatabaseUnavailable

        publish.ask = away  # type: ignore[method-assign]
        await broker.produce(numbered(3))
        await asyncio.wait_for(tried.wait(), 20)
        assert await broker.committed(GROUP) is None, "nothing is durable yet"
        publish.ask = ask  # type: ignore[method-assign]
        assert [row["reasoning"] for row in await here.stored(3)] == ["0", "1", "2"]
        await committed(broker, 3)

        async def caught_up() -> bool:
            stats = here.ingest.stats()
            return (stats["kafka_open"], stats["kafka_lag"]) == (1, 0)

        await until(caught_up)


async def test_the_consumer_goes_on_where_it_stopped_and_reads_each_once(
    reading: Settings, broker: KafkaBroker
) -> None:
    await broker.create_topic(1)
    await broker.produce(numbered(700))  # before it was ever there
    async with world(reading) as here:
        await here.stored(700)
        await committed(broker, 700)
        await here.actors.kill(INGEST)
        await broker.produce(numbered(50, start=700))
        known = counted("kafka", "known")
        await here.actors.start(INGEST, Ingest(), reading)
        rows = await here.stored(750)
        assert [row["reasoning"] for row in rows] == [str(n) for n in range(750)]
        assert counted("kafka", "known") == known, "nothing was read twice"


async def test_redelivered_messages_are_stored_once_dead_letters_too(reading: Settings, broker: KafkaBroker) -> None:
    await broker.create_topic(1)
    sent_at = clock.now()
    await broker.produce([message(id="a"), b"no json", message(id="b"), None, message(id="a")])
    async with world(reading) as here:
        await here.stored(2)
        dead_letters = await here.kept(2)
        for dead_letter in dead_letters:
            assert (dead_letter["event_id"], dead_letter["stage"], dead_letter["way"]) == (None, "enqueue", "kafka")
            assert abs(dead_letter["created_at"] - sent_at) < timedelta(seconds=10), "when it was sent"
        assert sorted(dead_letter["payload"]["raw"] for dead_letter in dead_letters) == ["", "no json"]
        await committed(broker, 5)
        known = counted("kafka", "known")
        # Another group has committed nothing: all of it is delivered once more.
        await here.actors.start(INGEST, Ingest(), reading.replace(kafka_group="another"))

        async def read_again() -> bool:
            return counted("kafka", "known") == known + 3

        await until(read_again)
        await here.stored(2)
        assert await here.dead_letters() == dead_letters


async def test_the_same_signal_by_both_ways_is_stored_once(reading: Settings, broker: KafkaBroker) -> None:
    await broker.create_topic(1)
    both = numbered(100)
    async with world(reading) as here:
        await asyncio.gather(broker.produce(both), here.publish(*both))
        await here.stored(100)
        await committed(broker, 100)
        assert len(await here.signals()) == 100


async def test_all_partitions_are_read_also_those_of_a_topic_that_is_made_later(
    reading: Settings, broker: KafkaBroker
) -> None:
    async with world(reading) as here:
        await broker.produce(numbered(200), partition=None)  # the broker makes it, of four partitions
        rows = await here.stored(200)
        assert {row["id"] for row in rows} == set(ids([f"signal-{n}" for n in range(200)]))


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_producers_may_compress(reading: Settings, broker: KafkaBroker, codec: str) -> None:
    await broker.create_topic(1)
    await broker.produce(numbered(20), compression_type=codec)
    async with world(reading) as here:
        await here.stored(20)


async def test_the_consumer_survives_a_broker_that_does_not_answer(reading: Settings, broker: KafkaBroker) -> None:
    await broker.create_topic(1)
    async with world(reading) as here:
        await broker.produce(numbered(1))
        await here.stored(1)
        await committed(broker, 1)
        broker.freeze()
        await here.publish(*numbered(5, start=1))  # the other way stays open
        await here.stored(6)
        broker.thaw()
        await broker.produce(numbered(1, start=6))
        await here.stored(7)


async def test_the_consumer_waits_for_a_broker_that_is_not_there_yet(settings: Settings, tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path)
    async with world(settings.replace(kafka_bootstrap_servers=broker.servers)) as here:
        await here.publish(*numbered(1))
        await here.stored(1)
        assert here.ingest.stats()["kafka_open"] == 0
        with broker:
            await broker.create_topic(1)
            await broker.produce(numbered(1, start=1))
            await here.stored(2)
            await here.actors.kill(INGEST)


async def test_a_dead_letter_of_kafka_is_retried_like_any_other(reading: Settings, broker: KafkaBroker) -> None:
    await broker.create_topic(1)
    await broker.produce([message(score=101)])
    async with world(reading, intake=True) as here:
        [dead_letter] = await here.kept(1)
        await here.actors.ref(INTAKE).ask("", RetryDeadLetter(dead_letter["id"], {"score": 88}))
        [row] = await here.stored(1)
        assert row["score"] == 88


async def test_a_process_that_is_killed_mid_batch_loses_nothing_and_doubles_nothing(
    reading: Settings, broker: KafkaBroker, tmp_path: Path
) -> None:
    await survive(reading, broker, tmp_path, kills=1)


@pytest.mark.slow
async def test_the_consumer_may_be_killed_again_and_again(
    reading: Settings, broker: KafkaBroker, tmp_path: Path
) -> None:
    await survive(reading, broker, tmp_path, kills=4)


async def survive(reading: Settings, broker: KafkaBroker, tmp_path: Path, *, kills: int) -> None:
    await broker.create_topic(2)
    total = 3_000
    messages = [each if n % 10 else b"bad %d" % n for n, each in enumerate(numbered(total))]
    for partition in (0, 1):
        await broker.produce(messages[partition::2], partition=partition)
    conn = await asyncpg.connect(reading.database_url)
    try:
        killed_amid = 0
        for _ in range(kills):
            with running(reading, tmp_path) as process:
                before = await stored(conn)

                async def further(least: int = before) -> bool:
                    return await stored(conn) > least

                await until(further, seconds=30)
                process.kill()
                killed_amid += await stored(conn) < total
        assert killed_amid, "it was killed with work before it"
        with running(reading, tmp_path):

            async def all_there() -> bool:
                return await stored(conn) >= total

            await until(all_there, seconds=60)
            await committed(broker, total // 2, 0)
            await committed(broker, total // 2, 1)
        assert await conn.fetchval("SELECT count(*) FROM signals") == total * 9 // 10
        assert await conn.fetchval("SELECT last_seq FROM feed_counter") == total * 9 // 10
        assert await conn.fetchval("SELECT count(*) FROM lens_dlq") == total // 10
        assert await conn.fetchval("SELECT count(DISTINCT payload) FROM lens_dlq") == total // 10
    finally:
        await conn.close()


async def stored(conn: Any) -> int:
    """Return the numbers of signals and dead letters so far."""
    return int(await conn.fetchval("SELECT (SELECT count(*) FROM signals) + (SELECT count(*) FROM lens_dlq)"))


@contextmanager
def running(settings: Settings, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that reads; end it afterwards."""
    argv = [sys.executable, "-m", "tests.integration.ingest_process"]
    environment = {**inherited_environment(), **settings.to_environment(), "PYTHONPATH": str(REPOSITORY)}
    with (tmp_path / "ingest.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=REPOSITORY, env=environment)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(10)


def test_a_server_without_the_driver_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    assert Settings.load(env_file=None).kafka_bootstrap_servers == "127.0.0.1:9092"
    monkeypatch.setattr("config._consistency.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="kafka"):
        Settings.load(env_file=None)
