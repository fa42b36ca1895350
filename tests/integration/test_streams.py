"""The stream as its readers see it: heads, events, ids, filters, and no loss through failures of Redis."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import urllib3
from redis.asyncio import Redis

from config.settings import Settings
from config.tasks import spawn
from handlers.streams import fanout, source
from handlers.streams.client import SseClient
from schemas.stream import Filterable, SignalFilter
from tests.support.streams import ALICE, BOB, Draft, Gateway, Publisher, connect, drafts, gateway, ready, stream, until


@asynccontextmanager
async def serving(settings: Settings, **changes: object) -> AsyncIterator[tuple[Gateway, Publisher]]:
    """One gateway, ready, without request limits."""
    settings = settings.replace(**{"rate_limit_enabled": False, "heartbeat_seconds": 30.0, **changes})
    async with gateway(settings) as server:
        await ready(server)
        yield server, Publisher(server.pool, server.redis)


async def test_the_head_is_that_of_an_event_stream_that_no_proxy_holds_back(settings: Settings) -> None:
    async with (
        serving(settings) as (server, _),
        stream(server.port, headers={"Origin": "https://tradestream.io", "X-Request-ID": "abc-1"}) as reader,
    ):
        assert reader.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert reader.headers["Cache-Control"] == "no-cache, no-transform"
        assert reader.headers["X-Accel-Buffering"] == "no"
        assert reader.headers["X-Request-Id"] == "abc-1"
        assert reader.headers["Access-Control-Allow-Origin"] == "https://tradestream.io"
        assert reader.headers["X-Content-Type-Options"] == "nosniff"
        assert "Content-Length" not in reader.headers
        assert reader.headers["Transfer-Encoding"] == "chunked"
        assert reader.headers["Connection"] == "close"
        assert reader.retry == [2000]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_no_block_is_without_data_and_the_first_line_says_when_to_come_back(
    settings: Settings, version: str
) -> None:
    """The kind: what is no event (`retry`, a comment) in a block of its own, which some clients deliver."""
    async with serving(settings, heartbeat_seconds=0.2) as (server, publisher):
        reader = await connect(server.port, version=version)
        await publisher.publish(*drafts(2))
        blocks = [await reader.content.readuntil(b"\n\n") for _ in range(5)]
        spawn(server.feed.drain(1.0), name="drain")
        while b"SERVER_DRAINING" not in blocks[-1]:
            blocks.append(await reader.content.readuntil(b"\n\n"))
        await reader.close()
    assert blocks[0].startswith(b"retry: 2000\nevent: session_start\nid: sess-")
    assert all(b"\ndata: " in block and b"event: " in block for block in blocks)


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId", "Last-Event-Id", "Last-Event-ID", "lastEventID"])
async def test_the_last_id_is_taken_by_every_name_that_polyfills_have_for_it(settings: Settings, name: str) -> None:
    async with serving(settings) as (server, publisher):
        async with stream(server.port) as reader:
            pass
        places = await publisher.publish(*drafts(2))
        # A polyfill leaves what the page's URL says, and puts its own behind it.
        first, query = reader.last_id, {"last_event_id": "nonsense", name: reader.last_id}
        async with stream(server.port, **query) as again:
            assert again.events[0].data["resumed"] is True
            assert await again.signals(2) == places
        async with stream(server.port, headers={"Last-Event-ID": again.last_id}, **{name: first}) as third:
            assert third.events[0].number == again.events[-1].number + 1


async def test_a_session_starts_and_numbers_its_events_from_one(settings: Settings) -> None:
    async with serving(settings) as (server, publisher), stream(server.port) as reader:
        start = reader.events[0]
        session = start.data["session_id"]
        assert re.fullmatch(r"sess-[0-9a-f]{16}", session)
        assert start.id == f"{session}:1"
        assert start.data | {"timestamp": "", "session_id": ""} == {
            "session_id": "", "timestamp": "", "is_demo": True, "resumed": False, "filters": {},
        }  # fmt: skip
        places = await publisher.publish(*drafts(3))
        assert await reader.signals(3) == places
        assert reader.numbers == [1, 2, 3, 4]
        assert all(event.id == f"{session}:{event.number}" for event in reader.events)


async def test_each_reader_gets_what_matches_its_filter_in_the_one_order(settings: Settings) -> None:
    mixed = [
        Draft("crypto", 90, ALICE), Draft("stock", 10, ALICE), Draft("option", 80, BOB),
        Draft("forex", 60, BOB), Draft("prediction", 70, ALICE), Draft("etf", 75, BOB),
    ]  # fmt: skip
    filters = [
        ({}, lambda d: True),
        ({"categories": "crypto, equities,"}, lambda d: d.asset_type in {"crypto", "stock", "option", "etf"}),
        ({"asset_types": "option,forex"}, lambda d: d.asset_type in {"option", "forex"}),
        ({"min_score": 70}, lambda d: d.score >= 70),
        ({"provider_ids": str(BOB).upper()}, lambda d: d.provider_id == BOB),
        ({"provider_ids": f"{BOB},{ALICE}"}, lambda d: True),
        ({"categories": "equities", "min_score": 76, "provider_ids": str(BOB)}, lambda d: d.asset_type == "option"),
    ]
    async with serving(settings) as (server, publisher):
        for query, matches in filters:
            async with stream(server.port, **query) as reader:
                published = await publisher.publish(*mixed)
                more = await publisher.publish(Draft("crypto", 100, BOB), Draft("option", 100), Draft("forex", 99, BOB))
                await until(lambda last=more[-1]: server.feed._fanout.place == last)
                expected = [place for place, draft in zip(published, mixed, strict=True) if matches(draft)]
                assert await reader.signals(len(expected)) == expected
                assert reader.numbers == list(range(1, len(expected) + 2))


async def test_a_filter_is_evaluated_once_for_each_signal_however_many_readers_share_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: Counter[SignalFilter] = Counter()
    predicate = SignalFilter.predicate

    def counted(wanted: SignalFilter) -> Callable[[Filterable], bool]:
        matches = predicate(wanted)

        def count(signal: Filterable) -> bool:
            evaluated[wanted] += 1
            return matches(signal)

        return count

    monkeypatch.setattr(SignalFilter, "predicate", counted)
    queries = [{"min_score": 60, "categories": "crypto,forex"}, {"categories": "forex,crypto", "min_score": "060"}]
    async with serving(settings) as (server, publisher), AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(stream(server.port, **queries[n % 2])) for n in range(20)]
        for _ in range(3):
            await stack.enter_async_context(stream(server.port, provider_ids=str(BOB)))
        await publisher.publish(*drafts(4), *drafts(3, score=80), Draft(score=90, provider_id=BOB))
        for reader in readers:
            assert await reader.signals(4) == [5, 6, 7, 8]
        # The second names a provider: it is not even looked at for the signals of others.
        assert evaluated == {SignalFilter(("crypto", "forex"), None, 60): 8, SignalFilter(provider_ids=(str(BOB),)): 1}


async def test_the_filters_in_force_are_shown_at_the_start(settings: Settings) -> None:
    async with (
        serving(settings) as (server, _),
        stream(
            server.port, categories="equities,crypto", min_score=0, provider_ids=f"{BOB},{ALICE},{BOB}", asset_types=""
        ) as reader,
    ):
        assert reader.events[0].data["filters"] == {
            "categories": ["crypto", "equities"], "min_score": 0, "provider_ids": sorted([str(ALICE), str(BOB)]),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "field", "named"),
    [
        ({"categories": "crypto,gold"}, "categories", "gold"),
        ({"asset_types": "bond"}, "asset_types", "bond"),
        ({"min_score": "101"}, "min_score", "100"),
        ({"min_score": "many"}, "min_score", "integer"),
        ({"provider_ids": f"{ALICE},me"}, "provider_ids", "me"),
    ],
)
async def test_a_bad_filter_is_refused_before_any_event(
    settings: Settings, query: dict[str, str], field: str, named: str
) -> None:
    async with serving(settings) as (server, _):
        reader = await connect(server.port, **query)
        assert reader.status == 400
        assert reader.headers["Content-Type"].startswith("application/json")
        error = (await reader.body())["error"]
        assert error["code"] == "VALIDATION_ERROR"
        assert [each["field"] for each in error["details"]] == [field]
        assert named in error["details"][0]["message"]
        assert len(server.feed._clients) == 0
        await reader.close()


async def test_head_answers_with_the_head_alone(settings: Settings) -> None:
    async with serving(settings) as (server, _):
        reader = await connect(server.port, method="HEAD")
        assert reader.status == 200
        assert reader.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        reader.writer.write(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        assert await reader.reader.readline() == b"HTTP/1.1 200 OK\r\n"  # and not the rest of a body
        assert server.feed.limits.open == 0
        await reader.close()


async def test_http_1_0_clients_are_served(settings: Settings) -> None:
    async with serving(settings) as (server, publisher), stream(server.port, version="1.0") as reader:
        places = await publisher.publish(Draft())
        assert await reader.signals(1) == places


async def test_heartbeats_are_events_with_numbers_of_their_own(settings: Settings) -> None:
    async with serving(settings, heartbeat_seconds=0.2) as (server, publisher), stream(server.port) as reader:
        for _ in range(5):
            await publisher.publish(Draft())
            await reader.until(lambda event: event.name == "heartbeat")
        assert reader.numbers == list(range(1, len(reader.events) + 1))
        beat = next(event for event in reader.events if event.name == "heartbeat")
        assert beat.data["connected_providers"] == 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", beat.data["timestamp"])


async def test_signals_that_redis_lost_arrive_in_their_place(settings: Settings) -> None:
    async with serving(settings) as (server, publisher), stream(server.port) as reader:
        await publisher.publish(Draft())
        await publisher.publish(*drafts(3), tell=False)
        await publisher.publish(Draft())
        await publisher.publish(*drafts(2), tell=False)  # nothing follows it: found by the silence
        assert await reader.signals(7) == publisher.places()


async def test_a_hole_and_a_new_subscription_are_filled_at_once_and_not_after_a_silence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "SILENCE_SECONDS", 3600.0)
    async with serving(settings) as (server, publisher), stream(server.port) as reader:
        await publisher.publish(*drafts(3), tell=False)
        await publisher.publish(Draft())
        assert await reader.signals(4) == [1, 2, 3, 4]
        await publisher.publish(*drafts(2), tell=False)
        await _cut_subscriptions(server.redis)
        assert await reader.signals(2) == [5, 6]


async def test_messages_that_overtake_each_other_or_come_twice_change_nothing(settings: Settings) -> None:
    async with serving(settings) as (server, publisher), stream(server.port) as reader:
        await publisher.publish(*drafts(5), tell=False)
        items = [item for item, _ in publisher.published]
        for batch in ([items[4]], items[2:4], items[1:3], items[:2], items):
            await publisher.tell(batch)
        await publisher.publish(Draft())
        assert await reader.signals(6) == publisher.places()
        assert reader.numbers == [1, 2, 3, 4, 5, 6, 7]


async def test_nonsense_on_the_channel_is_passed_over(settings: Settings) -> None:
    async with serving(settings) as (server, publisher), stream(server.port) as reader:
        await server.redis.publish("tradestream:feed", b"nonsense")
        await server.redis.publish("tradestream:decisions", b"[1]\n")
        places = await publisher.publish(Draft())
        assert await reader.signals(1) == places


async def test_a_subscription_that_is_cut_is_made_again_and_nothing_is_missing(settings: Settings) -> None:
    async with serving(settings) as (server, publisher), stream(server.port) as reader:
        for _ in range(3):
            await _cut_subscriptions(server.redis)
            await publisher.publish(*drafts(2))
            await publisher.publish(*drafts(2), tell=False)
        assert await reader.signals(12) == publisher.places()


async def test_a_large_backlog_is_delivered_whole(settings: Settings) -> None:
    async with gateway(settings, ring_signals=64) as server:
        await ready(server)
        publisher = Publisher(server.pool, server.redis)
        async with stream(server.port) as reader:
            for _ in range(4):
                await publisher.publish(*drafts(300, note="x" * 500), tell=False)
            await publisher.publish(Draft())
            assert await reader.signals(1201, seconds=20) == publisher.places()


async def test_a_stream_of_a_gateway_that_has_just_started_begins_with_what_is_new(settings: Settings) -> None:
    async with serving(settings) as (_, publisher):
        await publisher.publish(*drafts(50))
        async with gateway(settings.replace(rate_limit_enabled=False)) as fresh:
            while (reader := await connect(fresh.port)).status == 503:
                await reader.close()
            await publisher.publish(Draft())
            assert await reader.signals(1) == [51]
            await reader.close()


async def test_a_failure_in_the_fan_out_sends_its_clients_to_resume_and_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(settings) as (server, publisher):
        async with stream(server.port) as one, stream(server.port) as other:
            await publisher.publish(*drafts(2))
            received = {reader: await reader.signals(2) for reader in (one, other)}
            with monkeypatch.context() as patch:
                patch.setattr(SseClient, "_transmit", _fail_every_second_time())
                await publisher.publish(Draft())
                for reader in (one, other):
                    while (event := await reader.next()) is not None:
                        received[reader].append(event.place)
        assert "the fan-out failed" in caplog.text
        for reader, places in received.items():
            async with stream(server.port, headers={"Last-Event-ID": reader.last_id}) as again:
                await publisher.publish(Draft())
                places += await again.signals(len(publisher.published) - len(places))
                assert places == publisher.places()


def _fail_every_second_time() -> Callable[[SseClient, bytes], bool]:
    calls = itertools.count()
    transmit = SseClient._transmit

    def fail(self: SseClient, data: bytes) -> bool:
        if next(calls) % 2:
            raise RuntimeError("as if it were a mistake in the code")
        return transmit(self, data)

    return fail


async def test_readers_that_come_and_go_within_one_dispatch_get_each_signal_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each send is a slice of its own: between any two, others may join, leave or catch up.
    monkeypatch.setattr(fanout, "SLICE_STEPS", 1)
    monkeypatch.setattr(fanout, "SLICE_SECONDS", -1.0)

    async def come_and_go(server: Gateway, matches: Callable[[Draft], bool], **query: object) -> None:
        received: list[int] = []
        last_id = ""
        for _ in range(12):
            async with stream(server.port, last_event_id=last_id, **query) as reader:
                received += await reader.signals(random.randint(1, 6))
            last_id = reader.last_id
        places = publisher.places(matches)
        begin = places.index(received[0])
        assert received == places[begin : begin + len(received)]

    async with serving(settings, heartbeat_seconds=0.3) as (server, publisher):
        readers = [
            spawn(come_and_go(server, lambda _: True), name="reader of all") if number % 2 else
            spawn(come_and_go(server, lambda draft: draft.score >= 50, min_score=50), name="reader of some")
            for number in range(30)
        ]  # fmt: skip
        while not all(reader.done() for reader in readers):
            await publisher.publish(*(Draft(score=random.randrange(100)) for _ in range(random.randint(1, 3))))
        await asyncio.gather(*readers)


async def test_a_client_that_leaves_leaves_nothing_behind(settings: Settings) -> None:
    async with serving(settings) as (server, publisher):
        for _ in range(3):
            readers = [await connect(server.port, min_score=number) for number in range(20)]
            await until(lambda: len(server.feed._clients) == 20)
            for reader in readers:
                await reader.close()
            await until(lambda: len(server.feed._clients) == 0 and server.feed.limits.open == 0)
        assert server.feed._fanout._groups == {}
        await publisher.publish(Draft())


async def test_clients_that_ask_for_so_many_bytes_get_each_event_at_once(settings: Settings) -> None:
    async with serving(settings) as (server, publisher):
        # As Python's requests does; without chunks it would wait until there are 4096 bytes.
        response = await asyncio.to_thread(
            urllib3.request,
            "GET",
            f"http://127.0.0.1:{server.port}/api/signals/stream",
            preload_content=False,
            timeout=5,
        )
        pieces = response.stream(4096)
        try:
            assert b"session_start" in await asyncio.to_thread(_until, pieces, b"session_start")
            await publisher.publish(Draft())
            assert b"event: signal" in await asyncio.to_thread(_until, pieces, b"event: signal")
        finally:
            response.close()


def _until(pieces: Iterator[bytes], mark: bytes) -> bytes:
    return next(piece for piece in pieces if mark in piece)


async def test_a_client_that_leaves_during_its_admission_is_not_counted(settings: Settings) -> None:
    async with serving(settings) as (server, _):
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /api/signals/stream HTTP/1.1\r\nHost: test\r\n\r\n")
            await writer.drain()
            writer.close()
        await until(lambda: server.feed.limits.open == 0 and server.application.gateway.lifecycle.in_flight == 0)


async def _cut_subscriptions(redis: Redis) -> None:
    await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
