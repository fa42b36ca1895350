"""Sessions resumed at any gateway: exactly the unseen signals, in order, none twice, numbered on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from config.ids import uuid7
from config.settings import Settings
from db._redis import create_redis
from handlers.streams.checkpoints import pack_checkpoints, unpack_checkpoints
from handlers.streams.records import SessionRecord
from handlers.streams.sessions import SessionStore
from schemas.stream import SignalFilter
from tests.support.streams import BOB, Draft, Gateway, Publisher, connect, drafts, gateway, ready, stream, token, until


@asynccontextmanager
async def two_gateways(settings: Settings, **changes: Any) -> AsyncIterator[tuple[Gateway, Gateway, Publisher]]:
    """Two gateways on the same services; `ring_signals` is Feed's, the rest are settings."""
    options = {name: changes.pop(name) for name in ("ring_signals",) if name in changes}
    settings = settings.replace(**{"rate_limit_enabled": False, "heartbeat_seconds": 30.0, **changes})
    async with gateway(settings, **options) as first, gateway(settings, **options) as second:
        await ready(first, second)
        yield first, second, Publisher(first.pool, first.redis)


async def test_a_session_goes_on_at_another_gateway_with_the_next_number(settings: Settings) -> None:
    async with two_gateways(settings) as (first, second, publisher):
        async with stream(first.port) as reader:
            await publisher.publish(*drafts(3))
            seen = await reader.signals(3)
        await publisher.publish(*drafts(2))
        async with stream(second.port, headers={"Last-Event-ID": reader.last_id}) as again:
            start = again.events[0]
            assert start.data["resumed"] is True
            assert start.data["session_id"] == reader.events[0].data["session_id"]
            assert start.number == 5
            await publisher.publish(Draft())
            assert seen + await again.signals(3) == publisher.places()
            assert again.numbers == [5, 6, 7, 8]


async def test_every_event_of_a_session_is_a_place_to_resume_from(settings: Settings) -> None:
    async with two_gateways(settings, heartbeat_seconds=0.3) as (first, second, publisher):
        async with stream(first.port, min_score=50) as reader:
            for _ in range(4):
                await publisher.publish(*(Draft(score=score) for score in random.choices(range(100), k=5)))
                await reader.until(lambda event: event.name == "heartbeat")
        await publisher.publish(Draft(score=99))
        wanted = publisher.places(lambda draft: draft.score >= 50)
        assert len({event.name for event in reader.events}) == 3
        for position, event in reversed(list(enumerate(reader.events))):
            seen = [each.place for each in reader.events[: position + 1] if each.name == "signal"]
            async with stream(second.port, min_score=50, last_event_id=event.id) as again:
                assert again.events[0].number == event.number + 1
                assert again.events[0].data["resumed"] is True
                assert seen + await again.signals(len(wanted) - len(seen)) == wanted


async def test_a_session_can_be_resumed_again_and_again(settings: Settings) -> None:
    async with two_gateways(settings, heartbeat_seconds=0.2) as (first, second, publisher):
        received: list[int] = []
        numbers: list[int] = []
        last_id: str | None = None
        for turn in range(12):
            headers = {} if last_id is None else {"Last-Event-ID": last_id}
            async with stream(random.choice([first, second]).port, headers=headers) as reader:
                assert reader.events[0].data["resumed"] is (turn > 0)
                await publisher.publish(*drafts(random.randint(1, 4)))
                received += await reader.signals(random.randint(1, len(publisher.published) - len(received)))
                if turn % 3 == 0:
                    await reader.until(lambda event: event.name == "heartbeat")
                    received += [e.place for e in reader.events if e.name == "signal" and e.place not in received]
            last_id = reader.last_id
            numbers += reader.numbers
            await publisher.publish(*drafts(random.randint(0, 2)) or [Draft()])
        async with stream(first.port, headers={"Last-Event-ID": last_id}) as reader:
            received += await reader.signals(len(publisher.published) - len(received))
        assert received == publisher.places()
        assert numbers + reader.numbers == list(range(1, len(numbers) + len(reader.numbers) + 1))


async def test_a_replay_far_older_than_the_ring_comes_from_postgres_and_goes_live_without_a_seam(
    settings: Settings,
) -> None:
    async with two_gateways(settings, ring_signals=32) as (first, second, publisher):
        async with stream(first.port, categories="crypto") as reader:
            await publisher.publish(Draft(), Draft("forex"), Draft())
            seen = await reader.signals(2)
        for _ in range(5):
            await publisher.publish(*(Draft(random.choice(["crypto", "forex"]), note="x" * 300) for _ in range(200)))
        async with stream(second.port, headers={"Last-Event-ID": reader.last_id}, categories="crypto") as again:
            for _ in range(20):
                await publisher.publish(Draft(), Draft("forex"))
            wanted = publisher.places(lambda draft: draft.asset_type == "crypto")
            assert seen + await again.signals(len(wanted) - len(seen), seconds=20) == wanted
            assert again.numbers == list(range(4, 4 + len(again.events)))


async def test_a_replay_passes_over_places_that_postgres_does_not_have(settings: Settings) -> None:
    async with two_gateways(settings) as (first, _, publisher):
        async with stream(first.port) as reader:
            pass
        await publisher.publish(*drafts(800))
        await first.pool.execute("DELETE FROM signals WHERE feed_seq BETWEEN 200 AND 330 OR feed_seq % 256 IN (0, 1)")
        left = [place for place in range(1, 801) if not 200 <= place <= 330 and place % 256 not in (0, 1)]
        async with gateway(settings.replace(rate_limit_enabled=False), ring_signals=16) as fresh:
            await ready(fresh)
            async with stream(fresh.port, headers={"Last-Event-ID": reader.last_id}) as again:
                assert await again.signals(len(left)) == left


async def test_a_new_filter_holds_from_the_place_that_was_reached(settings: Settings) -> None:
    async with two_gateways(settings) as (first, second, publisher):
        async with stream(first.port, min_score=60) as reader:
            await publisher.publish(Draft(score=10), Draft(score=70), Draft(score=20), Draft(score=80))
            seen = await reader.signals(2)
        await publisher.publish(Draft(score=30), Draft(score=90))
        async with stream(second.port, headers={"Last-Event-ID": reader.last_id}, provider_ids=str(BOB)) as again:
            assert again.events[0].data["filters"] == {"provider_ids": [str(BOB)]}
            places = await publisher.publish(Draft(provider_id=BOB, score=1), Draft())
            assert await again.signals(1) == places[:1]
        async with stream(first.port, headers={"Last-Event-ID": again.last_id}, min_score=0) as third:
            assert await third.signals(1) == places[1:]
            assert third.numbers == [again.numbers[-1] + 1, again.numbers[-1] + 2]
        assert len(seen) == 2
        # Events counted under another filter cannot be counted again.
        async with stream(first.port, headers={"Last-Event-ID": reader.events[1].id}, min_score=60) as fourth:
            assert fourth.events[0].data["resumed"] is False
            assert fourth.events[0].data["resume_error"] == "expired"


@pytest.mark.parametrize(
    "last_event_id",
    ["", "nonsense", "sess-123:4", "sess-0123456789abcdef:1", "sess-0123456789abcdef:0", "sess-0123456789ABCDEF:1"],
)
async def test_an_unknown_id_begins_a_new_session(settings: Settings, last_event_id: str) -> None:
    async with (
        two_gateways(settings) as (first, _, _),
        stream(first.port, headers={"Last-Event-ID": last_event_id}) as reader,
    ):
        assert reader.events[0].data["resumed"] is False
        assert reader.events[0].data.get("resume_error") == ("unknown" if last_event_id else None)
        assert reader.events[0].number == 1
        assert not last_event_id.startswith(reader.events[0].data["session_id"])


async def test_a_number_that_was_never_given_begins_a_new_session(settings: Settings) -> None:
    async with two_gateways(settings) as (first, second, publisher):
        async with stream(first.port) as reader:
            await publisher.publish(*drafts(3))
            await reader.signals(3)
            session = reader.events[0].data["session_id"]
        for n in (5, 100, 10**14):
            async with stream(second.port, last_event_id=f"{session}:{n}") as again:
                assert again.events[0].data["resumed"] is False
                assert again.events[0].data["resume_error"] == "unknown"


async def test_an_expired_session_is_begun_anew(settings: Settings) -> None:
    async with two_gateways(settings) as (first, second, _):
        async with stream(first.port) as reader:
            session = reader.events[0].data["session_id"]
        key = f"tradestream:stream:{session}"
        assert 890 < await first.redis.ttl(key) <= 960
        await first.redis.delete(key)
        async with stream(second.port, last_event_id=reader.last_id) as again:
            assert again.events[0].data["resumed"] is False
            assert again.events[0].data["resume_error"] == "expired"


async def test_a_session_belongs_to_who_began_it(settings: Settings) -> None:
    alice, bob = str(uuid7()), str(uuid7())
    async with two_gateways(settings) as (first, second, _):
        headers = {"Authorization": f"Bearer {token(settings, alice)}"}
        async with stream(first.port, headers=headers) as reader:
            assert reader.events[0].data["is_demo"] is False
            for other in (token(settings, bob), None):
                foreign = {"Last-Event-ID": reader.last_id} | ({"Authorization": f"Bearer {other}"} if other else {})
                for server in (first, second):
                    async with stream(server.port, headers=foreign) as again:
                        assert again.events[0].data["resumed"] is False
                        assert again.events[0].data["resume_error"] == "identity"
            # and it was not disturbed by those who tried
            assert len(first.feed._clients) == 1
        async with stream(second.port, access_token=token(settings, alice), last_event_id=reader.last_id) as again:
            assert again.events[0].data["resumed"] is True
            assert "resume_error" not in again.events[0].data
        async with stream(first.port) as nobody:  # and who had none cannot take it along to a token
            pass
        async with stream(second.port, access_token=token(settings, alice), last_event_id=nobody.last_id) as again:
            assert again.events[0].data["resume_error"] == "identity"


async def test_two_connections_that_resume_at_once_leave_one(settings: Settings) -> None:
    async with two_gateways(settings, heartbeat_seconds=30.0) as (first, second, publisher):
        async with stream(first.port) as reader:
            await publisher.publish(*drafts(3))
            await reader.signals(3)
        headers = {"Last-Event-ID": reader.last_id}
        missed = await publisher.publish(Draft())
        rivals = await asyncio.gather(*(connect(server.port, headers=headers) for server in (first, second, first)))
        starts = [await each.next() for each in rivals]
        assert sorted(start.data["resumed"] for start in starts if start is not None) == [False, False, True]
        places = await publisher.publish(Draft())
        for each in rivals:  # and each gets what it has missed, and what comes
            assert await each.signals(2) == missed + places
            assert each.numbers == list(range(each.numbers[0], each.numbers[0] + 3))
            await each.close()
        assert sorted(each.numbers[0] for each in rivals) == [1, 1, 5]


async def test_sessions_survive_the_loss_of_everything_redis_knew(settings: Settings) -> None:
    async with two_gateways(settings, heartbeat_seconds=60.0) as (first, second, publisher):
        async with stream(first.port) as reader, stream(first.port) as gone:
            await publisher.publish(*drafts(2))
            await reader.signals(2)
            await gone.signals(1)
            await gone.close()
            await until(lambda: len(first.feed._clients) == 1)
            await first.redis.flushall()
            await first.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # as a restart would
            await until(lambda: first.redis.exists(f"tradestream:stream:{reader.events[0].data['session_id']}"))
        for each in (reader, gone):
            async with stream(second.port, headers={"Last-Event-ID": each.last_id}) as again:
                assert again.events[0].data["resumed"] is True


async def test_an_event_without_a_signal_is_recorded_before_it_can_be_received(settings: Settings) -> None:
    async with two_gateways(settings, heartbeat_seconds=0.1) as (first, _, publisher), stream(first.port) as reader:
        key = f"tradestream:stream:{reader.events[0].data['session_id']}"
        assert (1, 0) in checkpoints_of(await first.redis.get(key))
        for number in range(12):
            if number % 4 == 0:  # Redis is slow: signals that come meanwhile wait for the heartbeat
                await first.redis.execute_command("CLIENT", "PAUSE", 150, "WRITE")
                await publisher.publish(Draft(), tell=False)
            [*_, beat] = await reader.until(lambda event: event.name == "heartbeat")
            seen = [event.place for event in reader.events if event.name == "signal"]
            assert (beat.number, (seen or [0])[-1]) in checkpoints_of(await first.redis.get(key))


async def test_heartbeats_go_on_when_redis_hangs(settings: Settings) -> None:
    async with two_gateways(settings, heartbeat_seconds=0.1) as (first, second, publisher):
        async with stream(first.port) as reader:
            await first.redis.execute_command("CLIENT", "PAUSE", 2500, "WRITE")
            for _ in range(3):
                await reader.until(lambda event: event.name == "heartbeat", seconds=2)
            assert first.feed._store.is_behind
            await until(lambda: not first.feed._store.is_behind)
            await reader.until(lambda event: event.name == "heartbeat")
            await publisher.publish(Draft())
            await reader.signals(1)
        await publisher.publish(Draft())
        async with stream(second.port, headers={"Last-Event-ID": reader.last_id}) as again:
            assert again.events[0].data["resumed"] is True
            assert await again.signals(1) == publisher.places()[1:]


def checkpoints_of(record: bytes | str | None) -> list[tuple[int, int]]:
    """Return the checkpoints in a stored record."""
    assert isinstance(record, bytes)
    return unpack_checkpoints(SessionRecord.decode(record).checkpoints)


@pytest.mark.parametrize("kept_in", ["redis", "postgres"])
async def test_a_record_never_replaces_a_newer_one(settings: Settings, kept_in: str) -> None:
    async with two_gateways(settings) as (first, _, _), AsyncExitStack() as stack:
        redis = first.redis if kept_in == "redis" else create_redis("redis://127.0.0.1:1")
        stack.push_async_callback(redis.aclose)
        store = SessionStore(redis, first.pool, ttl_seconds=60)
        session, other = b"sess-00000000000000aa", b"sess-00000000000000bb"
        older, newer, newest = (
            SessionRecord(epoch, n, "", SignalFilter(), pack_checkpoints([(n, 7)]))
            for epoch, n in [(9, 30), (10, 4), (10, 5)]
        )
        assert await store.save([(session, older)]) == set()
        assert await store.save([(session, older)], take_over=True) == {session}
        assert await store.save([(session, newer)], take_over=True) == set()
        assert await store.save([(session, older), (other, older)]) == {session}
        assert await store.save([(session, newest)]) == set()
        assert await store.save([(session, newer)]) == set(), "late, but its own: no reason to give the session up"
        assert await store.load(session) == newest
        assert await store.load(other) == older
        rows = await first.pool.fetchval("SELECT count(*) FROM stream_sessions")
        assert rows == (2 if kept_in == "postgres" else 0)
