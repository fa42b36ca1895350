"""Retractions on the streams: numbered like the rest, to whoever was sent the signal, live, resumed and after a gap."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from config.settings import Settings
from tests.integration.test_streams_socket import listen
from tests.support.streams import BOB, Draft, Event, Gateway, Publisher, Reader, gateway, ready, stream


@asynccontextmanager
async def two_gateways(settings: Settings, **changes: Any) -> AsyncIterator[tuple[Gateway, Gateway, Publisher]]:
    """Two gateways on the same services; `ring_signals` is Feed's."""
    settings = settings.replace(rate_limit_enabled=False, heartbeat_seconds=30.0)
    async with gateway(settings, **changes) as first, gateway(settings, **changes) as second:
        await ready(first, second)
        yield first, second, Publisher(first.pool, first.redis)


async def read(reader: Reader, count: int) -> list[Event]:
    """Return the next events that are of the feed."""
    found: list[Event] = []
    while len(found) < count:
        event = await reader.next()
        assert event is not None
        found += [event] if event.name in ("signal", "retraction") else []
    return found


async def ids_of(publisher: Publisher) -> dict[int, str]:
    """Return the ids of signals by their place in the feed."""
    return {row[0]: str(row[1]) for row in await publisher._pool.fetch("SELECT feed_seq, id FROM signals")}


async def test_a_retraction_is_the_next_event_of_whoever_was_sent_the_signal(settings: Settings) -> None:
    async with two_gateways(settings) as (first, second, publisher):
        filters: list[dict[str, Any]] = [{}, {"min_score": 60}, {"categories": "equities"}, {"provider_ids": BOB}]
        drafts = [Draft(score=70), Draft("stock", score=30), Draft(provider_id=BOB, score=10)]
        for number, wanted in enumerate(filters):
            here = (first, second)[number % 2]
            async with stream(here.port, **wanted) as reader, listen(here, **wanted) as listener:
                places = await publisher.publish(*drafts)
                passed = places if number == 0 else [places[number - 1]]
                events = await read(reader, len(passed))
                assert [each.place for each in events] == passed
                for place in places:
                    await publisher.retract(place)
                ids = await ids_of(publisher)
                events = await read(reader, len(passed))
                assert [each.name for each in events] == ["retraction"] * len(passed)
                assert [each.data["signal_id"] for each in events] == [ids[place] for place in passed]
                assert set(events[0].data) == {"signal_id", "provider_id", "retracted_at"}
                assert reader.numbers == list(range(1, 2 * len(passed) + 2))
                while listener.events[-1:] == [] or listener.events[-1].number < reader.numbers[-1]:
                    await listener.next()
                assert [(each.name, each.number) for each in listener.events] == [
                    (each.name, each.number) for each in reader.events
                ]
                assert [each.data for each in listener.events[1:]] == [each.data for each in reader.events[1:]]


@pytest.mark.parametrize("ring_signals", [4096, 4])
async def test_every_event_is_a_place_to_resume_from_among_retractions_too(
    settings: Settings, ring_signals: int
) -> None:
    async with two_gateways(settings, ring_signals=ring_signals) as (first, second, publisher):
        async with stream(first.port, min_score=50) as reader:
            passed = 0
            for _ in range(6):
                scores = random.choices(range(100), k=4)
                places = await publisher.publish(*(Draft(score=score) for score in scores))
                await publisher.retract(places[0])
                await publisher.retract(places[2])
                passed += sum(score >= 50 for score in (*scores, scores[0], scores[2]))
            whole = await read(reader, passed)
        shown = [(each.name, each.number, each.data) for each in whole]
        for position, (_, number, _) in reversed(list(enumerate(shown))):
            session = reader.last_id.partition(":")[0]
            async with stream(second.port, min_score=50, last_event_id=f"{session}:{number}") as again:
                events = await read(again, len(shown) - position - 1)
                # The numbers follow that of session_start, and a signal that was retracted since says so.
                assert [(each.name, each.number) for each in events] == [
                    (name, old + 1) for name, old, _ in shown[position + 1 :]
                ]
                for each, (_, _, data) in zip(events, shown[position + 1 :], strict=True):
                    assert each.data | {"retracted_at": None} == data | {"retracted_at": None}


async def test_a_retraction_that_redis_lost_is_a_gap_that_is_filled(settings: Settings) -> None:
    async with two_gateways(settings) as (first, _, publisher), stream(first.port) as reader:
        [place] = await publisher.publish(Draft())
        await publisher.retract(place, tell=False)
        [later] = await publisher.publish(Draft())
        events = await read(reader, 3)
        assert [each.name for each in events] == ["signal", "retraction", "signal"]
        assert [events[0].place, events[2].place] == [place, later]
        assert reader.numbers == [1, 2, 3, 4]
        await publisher.retract(later, tell=False)  # and nothing comes after it: the silence ends
        [last] = await read(reader, 1)
        assert last.data["signal_id"] == (await ids_of(publisher))[later]
