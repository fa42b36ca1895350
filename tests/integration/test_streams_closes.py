"""A close reaches every reader of the opening that it closes.

The kind: a filter looks at an event alone, though what the event means to a reader hangs on an earlier one. That is
decided once, at the publication, and stored: live delivery, replays and resumes by number count the same signals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.lens.openers import with_passing_scores
from actors.lens.publication import feed_item
from config.clock import rfc3339
from config.ids import time_of, uuid7
from config.settings import Settings
from db._postgres import transaction
from db.providers.outcomes import OutcomeRow, insert_outcomes
from db.signals.writes import PublishedSignal, insert_signals, take_feed_seq
from schemas.feed import FEED_CHANNEL, encode_batch
from tests.support.scored import TERMS
from tests.support.signals_factory import make
from tests.support.streams import Gateway, Reader, gateway, ready, stream

OPEN = {"event_type": "OPEN_SIGNAL", "signal_direction": "long"}
CLOSE = {"event_type": "CLOSE_SIGNAL", "signal_direction": "close_long"}


async def publish(server: Gateway, *drafts: dict[str, Any], tell: bool = True) -> Sequence[PublishedSignal]:
    """Publish one batch, as the publish stage stores and announces it."""
    async with transaction(server.pool) as conn:
        first = await take_feed_seq(conn, len(drafts))
        made = [await make(conn, first + place, **draft) for place, draft in enumerate(drafts)]
        rows = await with_passing_scores(conn, made)
        await insert_signals(conn, rows)
    if tell:
        await server.redis.publish(FEED_CHANNEL, encode_batch([feed_item(row) for row in rows]))
    return rows


async def ids(reader: Reader, count: int) -> list[str]:
    """Return the ids of the next signals."""
    found: list[str] = []
    while len(found) < count:
        event = await reader.next()
        assert event is not None
        found += [event.data["id"]] if event.name == "signal" else []
    return found


async def reckon(server: Gateway, opened: PublishedSignal, seq: int) -> None:
    """Apply the feed up to `seq`, with one open position, as the owner of the track records does."""
    async with transaction(server.pool) as conn:
        await conn.execute(
            "INSERT INTO provider_stats (provider_id, applied_seq) VALUES ($1, $2)", opened.provider_id, seq
        )
        row = OutcomeRow(
            opened.id, opened.provider_id, opened.symbol, "long", opened.entry_price or 1, opened.feed_seq,  # type: ignore[arg-type]
            opened.created_at,
        )  # fmt: skip
        await insert_outcomes(conn, [row])


async def test_a_close_of_what_passed_is_not_withheld_live_or_replayed_or_by_the_twin(settings: Settings) -> None:
    settings = settings.replace(rate_limit_enabled=False, heartbeat_seconds=30.0)
    ann, ben = uuid7(), uuid7()
    async with gateway(settings, ring_signals=4) as server:
        await ready(server)
        async with stream(server.port, min_score=70) as live, stream(server.port, min_score=70) as early:
            [high, low] = await publish(
                server, {**OPEN, "provider_id": ann, "score": 90}, {**OPEN, "provider_id": ben, "score": 30}
            )
            # No projection has applied them yet. For openings that did not match, the close is filtered by itself.
            [end, withheld, own] = await publish(
                server,
                {**CLOSE, "provider_id": ann, "score": 10},
                {**CLOSE, "provider_id": ben, "score": 20},
                {**CLOSE, "provider_id": ben, "score": 75},
            )
            wanted = [str(row.id) for row in (high, end, own)]
            assert await ids(live, 3) == wanted
            assert str(low.id) not in wanted
            assert str(withheld.id) not in wanted
            await ids(early, 1)
        assert [live.events[n].data["event_type"] for n in (1, 2)] == ["OPEN_SIGNAL", "CLOSE_SIGNAL"]
        await publish(server, *[{**OPEN, "score": 1} for _ in range(20)])  # past the ring: now Postgres is asked
        async with stream(server.port, min_score=70, last_event_id=early.last_id) as again:
            assert again.events[0].data["resumed"] is True
            assert await ids(again, 2) == wanted[1:]


async def test_signals_read_by_the_records_and_signals_not_yet_read_add_up(settings: Settings) -> None:
    settings = settings.replace(rate_limit_enabled=False, heartbeat_seconds=30.0)
    ann = uuid7()
    async with gateway(settings) as server:
        await ready(server)
        async with stream(server.port, min_score=70) as reader:
            [first] = await publish(server, {**OPEN, "provider_id": ann, "score": 90})
            await reckon(server, first, first.feed_seq)
            [second] = await publish(server, {**OPEN, "provider_id": ann, "score": 5}, tell=False)
            [closes_first] = await publish(server, {**CLOSE, "provider_id": ann, "score": 1}, tell=False)
            # In one batch: the low one is closed, another is opened and closed, and the last closes nothing.
            rows = await publish(
                server,
                *({**draft, "provider_id": ann} for draft in (
                    {**CLOSE, "score": 2}, {**OPEN, "score": 80}, {**CLOSE, "score": 3}, {**CLOSE, "score": 4},
                )),
            )  # fmt: skip
            assert second.passing_score is None
            assert closes_first.passing_score == 90
            assert [row.passing_score for row in rows] == [5, None, 80, None]
            assert await ids(reader, 4) == [str(row.id) for row in (first, closes_first, rows[1], rows[2])]


async def test_only_the_same_provider_symbol_and_side_is_closed(settings: Settings) -> None:
    ann = uuid7()
    async with gateway(settings.replace(rate_limit_enabled=False)) as server:
        await ready(server)
        await publish(server, {**OPEN, "provider_id": ann, "score": 90})
        others: list[dict[str, Any]] = [
            {**CLOSE, "provider_id": uuid7()},
            {**CLOSE, "provider_id": ann, "symbol": "ETH"},
            {**CLOSE, "provider_id": ann, "signal_direction": "close_short"},
        ]
        rows = await publish(server, *({**other, "score": 1} for other in others))
        assert [row.passing_score for row in rows] == [None, None, None]


async def test_a_signal_says_its_terms(settings: Settings) -> None:
    async with gateway(settings.replace(rate_limit_enabled=False)) as server:
        await ready(server)
        async with stream(server.port) as reader:
            [row] = await publish(server, {**OPEN, "score": 90, "commentary": "Up"}, tell=False)
            [*_, found] = await reader.until(lambda event: event.name == "signal")
        assert found.data["id"] == str(row.id)
        received_at = rfc3339(time_of(row.id))
        terms = ["OPEN_SIGNAL", "long", 42000.5, None, False, "Up", received_at, None]
        assert [found.data[name] for name in TERMS] == terms
