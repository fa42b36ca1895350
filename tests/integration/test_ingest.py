"""Scored signals by Redis: each once, in the feed like all others; bad messages are dead-lettered, and block none."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from actors.ingest import INGEST, acceptance, redis_channel
from actors.ingest.ingest import Ingest
from actors.lens import scored as scored_module
from actors.lens.messages import (
    INTAKE,
    PUBLISH,
    Placed,
    PublishScored,
    ResolveDeadLetter,
    RetryDeadLetter,
    RetryDeadLetters,
    Retrying,
    Scored,
)
from actors.lens.publication import system_provider_id
from config import clock
from config.ids import time_of, uuid7
from config.settings import Settings
from config.tasks import spawn
from config.values import replace
from db._migrate import migrate
from db._redis import create_redis
from db.lens.dlq import DeadLetterFilters
from db.signals.writes import PublishedSignal
from schemas.errors import DatabaseUnavailable, Internal, ValidationFailed
from schemas.feed import FeedSignal
from schemas.ingest import SCORED_SIGNALS, signal_id
from tests.integration.ingest_world import World, counted, ids, world
from tests.support.breakable import breakable_postgres
from tests.support.lens_factory import until
from tests.support.scored import LIST_ITEM, TERMS, message, numbered, scored
from tests.support.services import valkey_server


def item(name: str, **changes: Any) -> Scored:
    """A signal as `lens/publish` gets it."""
    fields: dict[str, Any] = {
        "id": signal_id(name),
        "asset_type": "crypto",
        "symbol": "BTC",
        "action": "buy",
        "score": 87,
        "confidence": None,
        "reasoning": "",
        "source": "king",
        "provider_name": "King",
        "price": None,
        "asset_data": {},
        "created_at": clock.now(),
    }
    return Scored(**fields | changes)


async def place(here: World, *signals: Scored) -> Placed:
    placed: Placed = await here.actors.ref(PUBLISH).ask("", PublishScored(signals))
    return placed


async def ask(here: World, request: Any) -> Any:
    return await here.actors.ref(INTAKE).ask("", request)


async def resolved(here: World, dead_letter_id: UUID) -> None:
    async def look() -> bool:
        return bool(
            await here.conn.fetchval("SELECT resolved_at IS NOT NULL FROM lens_dlq WHERE id = $1", dead_letter_id)
        )

    await until(look)


# --- what comes in


async def test_a_close_from_outside_closes_the_side_that_its_action_leaves(settings: Settings) -> None:
    """The kind: an import that makes every signal an opening. Siblings: a short one, a prediction that is decided."""
    async with world(settings) as here:
        fed = {"symbol": "Fed", "asset_type": "prediction", "asset_category": "prediction"}
        for n, (enters, leaves, about) in enumerate([("buy", "sell", {}), ("sell", "buy", {}), ("yes", "no", fed)]):
            prices = (0.5, 1) if about else (100, 110)
            session_opened = scored(id=f"{n}o", action=enters, price=prices[0], asset_data={}, **about)
            closing = scored(id=f"{n}c", action=leaves, price=prices[1], asset_data={}, **about)
            await here.publish(orjson.dumps(session_opened | {"score": 90}))
            await here.publish(orjson.dumps(closing | {"score": 9, "event_type": "CLOSE_SIGNAL", "commentary": "Out."}))
        rows = await here.stored(6)
        assert [row["event_type"] for row in rows] == ["OPEN_SIGNAL", "CLOSE_SIGNAL"] * 3
        assert [row["direction"] for row in rows] == ["long", "long", "short", "short", "long", "long"]
        assert [row["passing_score"] for row in rows] == [None, 90] * 3, "a stream's min_score lets it through"
        assert [row["entry_price"] for row in rows[1::2]] == [110, 110, 1]
        shown = orjson.loads(rows[1]["feed_data"])
        assert [shown[name] for name in (*TERMS[:3], "commentary")] == ["CLOSE_SIGNAL", "long", 110, "Out."]


async def test_a_scored_signal_is_priced_at_its_receipt_whatever_it_says_of_its_time(settings: Settings) -> None:
    async with world(settings) as here:
        old = scored(id="o", price=100, asset_data={}, created_at="2026-02-15T12:34:56Z")
        await here.publish(orjson.dumps(old))
        await here.stored(1)
        closing = scored(id="c", action="sell", price=10**9, asset_data={})
        held = scored(id="h", action="hold", price=100, asset_data={})
        prediction = {"symbol": "Fed", "asset_type": "prediction", "asset_category": "prediction", "action": "no"}
        sold = scored(id="n", price=None, asset_data={"probability": 0.68}, **prediction)
        await here.publish(*map(orjson.dumps, (closing | {"event_type": "CLOSE_SIGNAL"}, held, sold)))
        opened, closed, hold, sells_yes = await here.stored(4)
        for row in (opened, closed, hold, sells_yes):
            assert (row["way_in"], row["quote_source"]) == ("redis", "simulated")
            assert abs((row["quote_at"] - row["received_at"]).total_seconds()) < 2
            assert (clock.now() - row["received_at"]).total_seconds() < 60
        assert opened["created_at"].year == 2026
        assert opened["record_price"] == max(opened["quote_ask"], 100)
        assert closed["record_price"] == closed["quote_bid"] < 200, "nobody gains by naming a price"
        assert hold["record_price"] is None
        assert sells_yes["record_price"] == min(Decimal("0.68"), sells_yes["quote_bid"])
        assert orjson.loads(closed["feed_data"])["verified"] is True


async def test_the_documents_message_is_in_the_feed_a_moment_later(settings: Settings) -> None:
    async with world(settings) as here, here.feed() as heard:
        await here.publish(message(price=67420))
        [row] = await here.stored(1)
        assert row["id"] == signal_id("abc123")
        assert (row["symbol"], row["action"], row["score"], row["tier"]) == ("BTC", "buy", 87, "HOT")
        assert (row["event_type"], row["direction"], row["entry_price"]) == ("OPEN_SIGNAL", "long", Decimal(67420))
        provider = await here.conn.fetchrow("SELECT * FROM providers")
        assert provider is not None
        assert (provider["user_id"], provider["display_name"], provider["is_system"]) == (
            system_provider_id("crypto-king"),
            "CryptoKing_42",
            True,
        )

        async def told() -> bool:
            return bool(heard)

        await until(told)
        [told_of] = heard
        assert told_of == FeedSignal(1, "crypto", "crypto", 87, str(provider["user_id"]), row["feed_data"].encode())
        shown = orjson.loads(told_of.data)
        same = ("asset_type", "asset_category", "symbol", "action", "score", "reasoning", "asset_data")
        assert {name: shown[name] for name in same} == {name: LIST_ITEM[name] for name in same}
        assert (shown["id"], shown["price"]) == (str(row["id"]), 67420)
        assert shown["created_at"] == "2026-02-15T12:34:56.000Z"
        assert shown["reactions"] == {}, "ours begin here"
        assert (shown["comment_count"], shown["provider"]["name"], shown["provider"]["win_rate"]) == (
            0,
            "CryptoKing_42",
            None,
        )


async def test_the_fields_of_a_scored_signal_are_those_of_a_signal_of_the_pipeline(settings: Settings) -> None:
    # As make_signal of actors/lens/publication.py writes it; the streams and lists rely on it for both.
    async with world(settings) as here:
        await here.publish(message(price=67420))
        [row] = await here.stored(1)
        assert list(orjson.loads(row["feed_data"])) == [*LIST_ITEM, *TERMS, "price"]


@pytest.mark.parametrize(
    ("changes", "entry", "price", "direction"),
    [
        ({"action": "sell"}, "67420", 67420, "short"),
        ({"action": "hold", "asset_data": {}}, None, None, None),
        ({"price": 1.5, "asset_data": {"price": 2}}, "1.5", 1.5, "long"),
        ({"asset_data": {"price": 0}}, None, 0, "long"),
        (
            {"asset_type": "option", "asset_category": ..., "symbol": "aapl 195c 3/15", "asset_data": {"premium": 4.2}},
            "4.2",
            None,
            "long",
        ),
        (
            {"asset_type": "prediction", "asset_category": ..., "action": "no", "asset_data": {"probability": 0.68}},
            "0.68",
            None,
            "short",
        ),
    ],
)
async def test_the_position_is_opened_at_what_stands_for_the_price(
    settings: Settings, changes: dict[str, Any], entry: str | None, price: float | None, direction: str | None
) -> None:
    async with world(settings) as here:
        await here.publish(message(**changes))
        [row] = await here.stored(1)
        assert row["entry_price"] == (None if entry is None else Decimal(entry))
        assert orjson.loads(row["feed_data"]).get("price") == price
        assert row["direction"] == direction


async def test_a_known_users_id_is_the_provider_and_any_other_a_system_provider(settings: Settings) -> None:
    user_id, stranger = uuid7(), uuid7()
    async with world(settings) as here:
        await here.conn.execute("INSERT INTO providers (user_id, display_name) VALUES ($1, 'Ada')", user_id)
        await here.publish(
            message(id="a", provider={"id": str(user_id), "name": "not Ada"}),
            message(id="b", provider=..., provider_id=str(user_id).upper()),
            message(id="c", provider={"id": str(stranger), "name": "Bob"}),
            message(id="d", provider={"id": str(stranger), "name": "Bobby"}),
            message(id="e", provider=..., provider_id="macro"),
        )
        rows = await here.stored(5)
        system = system_provider_id(str(stranger))
        assert [row["provider_id"] for row in rows] == [
            *(user_id, user_id, system, system),
            system_provider_id("macro"),
        ]
        names = dict(await here.conn.fetch("SELECT user_id, display_name FROM providers"))
        assert names == {user_id: "Ada", system: "Bob", system_provider_id("macro"): "macro"}


async def test_the_order_is_that_of_arrival(settings: Settings) -> None:
    async with world(settings) as here:
        await here.publish(*numbered(1_200))
        rows = await here.stored(1_200)
        assert [row["reasoning"] for row in rows] == [str(n) for n in range(1_200)]


async def test_an_id_is_stored_once_whatever_comes_later_under_it(settings: Settings) -> None:
    known = counted("redis", "known")
    async with world(settings) as here, here.feed() as heard:
        await here.publish(message(id="a", score=1), message(id="a", score=2), message(id="b"))
        await here.stored(2)
        await here.publish(message(id="a", score=3), message(id="b"), message(id="c"))
        rows = await here.stored(3)
        assert [row["id"] for row in rows] == ids("abc")
        assert rows[0]["score"] == 1, "a signal is immutable"

        async def told() -> bool:
            return len(heard) >= 3

        await until(told)
        assert [each.feed_seq for each in heard] == [1, 2, 3]
    assert counted("redis", "known") - known == 3


async def test_a_scored_signal_may_be_the_feeds_own_echo(settings: Settings) -> None:
    async with world(settings) as here:
        await here.publish(message())
        [row] = await here.stored(1)
        await here.publish(row["feed_data"].encode(), message(id="next"))
        assert [each["id"] for each in await here.stored(2)] == [row["id"], signal_id("next")]


# --- what is no signal


async def test_an_invalid_signal_is_a_dead_letter_and_the_next_is_read(settings: Settings) -> None:
    before = clock.now()
    bad = [
        message(score=101),
        b"BTC to the moon",
        b"\xff\x00",
        b'{"id": "a\\u0000"}',
        b'{"score": NaN}',
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"id": "x", "y": 1e400}',
        message(reasoning="x" * 100_000),
        b"",
    ]
    async with world(settings) as here:
        for each in bad:
            await here.publish(each, message(id=f"after {bad.index(each)}"))
        await here.stored(len(bad))
        dead_letters = await here.kept(len(bad))
        for dead_letter in dead_letters:
            assert (dead_letter["event_id"], dead_letter["stage"], dead_letter["way"]) == (None, "enqueue", "redis")
            assert (dead_letter["reason_code"], dead_letter["retry_count"], dead_letter["resolved_at"]) == (
                "VALIDATION_ERROR",
                0,
                None,
            )
            assert before <= dead_letter["created_at"] == time_of(dead_letter["id"])
            [attempt] = dead_letter["attempts"]
            assert attempt["error_message"] == dead_letter["error_message"]
        assert dead_letters[0]["payload"] == scored(score=101)
        assert dead_letters[0]["error_message"] == "score: must be between 0 and 100"
        assert dead_letters[1]["payload"] == {"raw": "BTC to the moon"}
        assert dead_letters[2]["payload"] == {"raw_base64": "/wA="}
        assert dead_letters[7]["payload"]["raw"].encode() == bad[7]


async def test_a_signal_that_postgres_refuses_is_a_dead_letter_and_its_neighbours_are_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = scored_module._make

    def poisoned(signal: Scored, *rest: Any) -> PublishedSignal:
        row = make(signal, *rest)
        return replace(row, tier="a\0b") if signal.reasoning in ("3", "6") else row

    monkeypatch.setattr(scored_module, "_make", poisoned)
    refused = counted("redis", "refused")
    async with world(settings) as here:
        await here.publish(*numbered(10))
        rows = await here.stored(8)
        assert [row["reasoning"] for row in rows] == ["0", "1", "2", "4", "5", "7", "8", "9"]
        dead_letters = await here.kept(2)
        assert [dead_letter["payload"]["raw"] is not None for dead_letter in dead_letters] == [True, True]
        assert {dead_letter["reason_code"] for dead_letter in dead_letters} == {"PUBLISH_ERROR"}
    assert counted("redis", "refused") - refused == 2


async def test_a_signal_that_the_owner_fails_on_is_found_by_halves(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(settings) as here:
        publish = here.actors.behaviours[PUBLISH]
        process = publish.process

        async def failing(batch: Any) -> list[Any]:
            if any(each.id == signal_id("signal-4") for envelope in batch for each in envelope.message.signals):
                return [Internal()]
            return list(await process(batch))

        monkeypatch.setattr(publish, "process", failing)
        await here.publish(*numbered(7))
        await here.stored(6)
        [dead_letter] = await here.kept(1)
        assert dead_letter["reason_code"] == "INTERNAL_ERROR"


async def test_a_mistake_of_ours_costs_its_batch_and_not_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = counted("redis", "lost")
    async with world(settings) as here:
        with monkeypatch.context() as patch:
            patch.setattr(acceptance, "read", lambda _: 1 / 0)
            await here.publish(message(id="a"))

            async def counted_as_lost() -> bool:
                return counted("redis", "lost") == lost + 1

            await until(counted_as_lost)
        await here.publish(message(id="b"))
        assert [row["id"] for row in await here.stored(1)] == ids("b")


# --- retries


async def test_a_retry_with_an_edited_payload_publishes_it_and_resolves_the_letter(settings: Settings) -> None:
    async with world(settings, intake=True) as here:
        await here.publish(message(score=101, price=1.000000000000000001))
        [dead_letter] = await here.kept(1)
        answer = await ask(here, RetryDeadLetter(dead_letter["id"], {"score": 88}))
        assert answer == Retrying(dead_letter["id"], "enqueue", 1)
        [row] = await here.stored(1)
        assert (row["id"], row["score"]) == (signal_id("abc123"), 88)
        await resolved(here, dead_letter["id"])
        [done] = await here.dead_letters()
        assert (done["resolution_note"], done["retrying"], done["retry_count"]) == ("Resolved by retry", False, 1)
        assert (done["event_id"], done["last_retry_at"] is not None) == (None, True)
        assert done["payload"] == dead_letter["payload"], "the original is kept beside"
        assert done["edited_payload"]["score"] == 88
        with pytest.raises(ValidationFailed, match="resolved"):
            await ask(here, RetryDeadLetter(dead_letter["id"], None))


async def test_a_retry_of_what_was_no_json_takes_the_whole_signal(settings: Settings) -> None:
    async with world(settings, intake=True) as here:
        await here.publish(b"BTC to the moon")
        [dead_letter] = await here.kept(1)
        await ask(here, RetryDeadLetter(dead_letter["id"], scored(id="mended")))
        await here.stored(1)
        await resolved(here, dead_letter["id"])
        assert (await here.dead_letters())[0]["edited_payload"] == {
            name: value for name, value in scored(id="mended").items() if name not in ("reactions", "comment_count")
        } | {"provider": {"id": "crypto-king", "name": "CryptoKing_42"}}


async def test_a_retry_that_is_still_none_is_refused_by_name_and_changes_nothing(settings: Settings) -> None:
    async with world(settings, intake=True) as here:
        await here.publish(message(score=101), b"nothing")
        first, second = await here.kept(2)
        for dead_letter_id, patch, fields in (
            (first["id"], None, ["payload.score"]),
            (first["id"], {"score": 1, "asset_data": {"price": "x"}}, ["payload.asset_data.price"]),
            (second["id"], {"score": 1}, ["payload.id", "payload.symbol", "payload.action"]),
        ):
            with pytest.raises(ValidationFailed) as refused:
                await ask(here, RetryDeadLetter(dead_letter_id, patch))
            assert [each.field for each in refused.value.details] == fields
        assert await here.dead_letters() == [first, second]


async def test_a_retry_counts_once_while_it_is_under_way_and_an_edit_counts_again(settings: Settings) -> None:
    async with world(settings, intake=True) as here:
        await here.publish(message(score=101))
        [dead_letter] = await here.kept(1)
        await here.actors.kill(INGEST)
        edit = {"score": 5}
        answers = [
            (await ask(here, RetryDeadLetter(dead_letter["id"], patch))).retry_count
            for patch in (edit, None, None, {"symbol": "ETH"})
        ]
        assert answers == [1, 1, 1, 2]
        await here.actors.start(INGEST, Ingest(), settings)
        [row] = await here.stored(1)
        assert (row["symbol"], row["score"]) == ("ETH", 5)
        await resolved(here, dead_letter["id"])


async def test_two_edits_in_one_batch_are_laid_over_one_another(settings: Settings) -> None:
    async with world(settings, intake=True) as here:
        await here.publish(message(score=101))
        [dead_letter] = await here.kept(1)
        edits = [
            RetryDeadLetter(dead_letter["id"], {"score": 5}),
            RetryDeadLetter(dead_letter["id"], {"symbol": "ETH"}),
        ]
        assert [each.retry_count for each in await here.actors.ref(INTAKE).ask_batch(edits)] == [1, 2]
        [row] = await here.stored(1)
        assert (row["symbol"], row["score"]) == ("ETH", 5)


async def test_an_edit_that_comes_while_the_first_is_published_is_taken_up_again(settings: Settings) -> None:
    async with world(settings, intake=True) as here:
        await here.publish(message(score=101))
        [dead_letter] = await here.kept(1)
        publish = here.actors.refs.pop(PUBLISH)  # every use of it fails now, and is retried later
        await ask(here, RetryDeadLetter(dead_letter["id"], {"score": 5}))
        await ask(here, RetryDeadLetter(dead_letter["id"], {"score": 6}))
        here.actors.refs[PUBLISH] = publish
        await resolved(here, dead_letter["id"])
        [row] = await here.stored(1)
        assert row["score"] == 6


async def test_a_retry_of_what_is_published_already_resolves_the_letter(settings: Settings) -> None:
    async with world(settings, intake=True) as here:
        await here.publish(message(score=101), message())
        await here.stored(1)
        [dead_letter] = await here.kept(1)
        await ask(here, RetryDeadLetter(dead_letter["id"], {"score": 5}))
        await resolved(here, dead_letter["id"])
        assert [row["score"] for row in await here.signals()] == [87]


async def test_a_retry_that_postgres_refuses_is_one_more_failed_attempt(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = scored_module._make

    def poisoned(signal: Scored, *rest: Any) -> PublishedSignal:
        row = make(signal, *rest)
        return replace(row, tier="a\0b")

    async with world(settings, intake=True) as here:
        await here.publish(message(score=101))
        [dead_letter] = await here.kept(1)
        with monkeypatch.context() as patch:
            patch.setattr(scored_module, "_make", poisoned)
            await ask(here, RetryDeadLetter(dead_letter["id"], {"score": 5}))

            async def failed_again() -> bool:
                [row] = await here.dead_letters()
                return not row["retrying"] and len(row["attempts"]) == 2

            await until(failed_again)
        [row] = await here.dead_letters()
        assert (row["reason_code"], row["resolved_at"]) == ("PUBLISH_ERROR", None)
        await ask(here, RetryDeadLetter(dead_letter["id"], None))
        await resolved(here, dead_letter["id"])
        await here.stored(1)


async def test_many_are_retried_and_resolved_by_their_filters(settings: Settings) -> None:
    async with world(settings, intake=True) as here:
        await here.publish(*(message(id=f"bad-{n}", score=101) for n in range(5)), b"nothing")
        dead_letters = await here.kept(6)
        # As if the rule that refused them had been a mistake of ours.
        await here.conn.execute("UPDATE lens_dlq SET edited_payload = payload || '{\"score\": 7}' WHERE payload ? 'id'")
        counts = await ask(here, RetryDeadLetters(DeadLetterFilters(stage="enqueue"), 100, None, is_dry=False))
        assert (counts.matched, counts.done, counts.skipped) == (6, 5, 1)
        await here.stored(5)
        for dead_letter in dead_letters[:5]:
            await resolved(here, dead_letter["id"])
        [hopeless] = [row for row in await here.dead_letters() if row["resolved_at"] is None]
        assert (len(hopeless["attempts"]), hopeless["retrying"]) == (2, False)
        await ask(here, ResolveDeadLetter(hopeless["id"], "not ours"))


# --- unavailable services


async def test_messages_wait_while_postgres_is_away_and_the_oldest_are_dropped_past_the_bound(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_channel, "BUFFER_MESSAGES", 50)
    buffer_class = redis_channel.Buffer
    monkeypatch.setattr(redis_channel, "Buffer", lambda: buffer_class(most_messages=50))
    dropped = counted("redis", "dropped")
    with breakable_postgres(tmp_path / "breakable") as postgres:
        await migrate(postgres.url)
        async with world(settings.replace(database_url=postgres.url)) as here:
            await here.publish(message(id="before"))
            await here.stored(1)
            await asyncio.to_thread(postgres.stop)
            await here.publish(message(id="under way"))

            async def is_held() -> bool:  # by the worker, which then takes nothing more out of the buffer
                return any(each.getMessage().startswith("1 messages wait") for each in caplog.records)

            await until(is_held)
            await here.publish(*numbered(60))

            async def full() -> bool:
                return here.ingest.stats()["redis_dropped"] == 10

            await until(full)
            assert here.ingest.stats()["redis_buffered"] == 50
            assert counted("redis", "dropped") - dropped == 10
            await asyncio.to_thread(postgres.start)
            rows = await here.stored(52)
            assert [row["reasoning"] for row in rows[2:]] == [str(n) for n in range(10, 60)]


async def test_a_message_that_comes_while_the_owner_is_away_is_published_when_it_is_back(settings: Settings) -> None:
    async with world(settings) as here:
        ref = here.actors.refs[PUBLISH]
        ask_it, tried = ref.ask, asyncio.Event()

        async def away(*_: Any, **__: Any) -> Any:
            tried.set()
            raise DatabaseUnavailable

        ref.ask = away  # type: ignore[method-assign]
        await here.publish(*numbered(3))
        await asyncio.wait_for(tried.wait(), 10)
        assert await here.signals() == []
        ref.ask = ask_it  # type: ignore[method-assign]
        await here.stored(3)


async def test_ingest_listens_again_when_redis_is_back(settings: Settings, tmp_path: Path) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(valkey_server(tmp_path / "valkey"))
        async with world(settings.replace(redis_url=url)) as here:
            await here.publish(message(id="before"))
            await here.stored(1)
            await asyncio.to_thread(stack.close)

            async def lost() -> bool:
                return not here.ingest.stats()["redis_open"]

            await until(lost)
            stack.enter_context(valkey_server(tmp_path / "valkey"))
            await here.listening()
            await here.publish(message(id="after"))
            assert [row["id"] for row in await here.stored(2)] == ids(["before", "after"])


async def test_ingest_starts_while_redis_is_unavailable(settings: Settings, tmp_path: Path) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(valkey_server(tmp_path / "valkey"))
        stack.close()
        spawned = spawn(_one_message(settings.replace(redis_url=url)), name="world")
        await asyncio.sleep(0)
        stack.enter_context(valkey_server(tmp_path / "valkey"))
        await asyncio.wait_for(spawned, 30)


async def _one_message(settings: Settings) -> None:
    async with world(settings) as here:
        await here.publish(message())
        await here.stored(1)


async def test_signals_held_at_the_end_become_durable(settings: Settings) -> None:
    async with world(settings) as here:
        await here.publish(*numbered(300))

        async def heard() -> bool:
            return bool(here.ingest.stats()["redis_buffered"]) or bool(await here.signals())

        await until(heard)
        await here.actors.kill(INGEST)  # its stop() is called: this is a drain
        await here.stored(300)


async def test_two_readers_store_each_signal_once(settings: Settings) -> None:
    # A process that is replaced lives on until it notices; so both may listen for a moment.
    assert settings.redis_url is not None
    before = counted("redis", "published") + counted("redis", "known")
    async with world(settings) as here:
        await here.actors.start(INGEST, Ingest(), settings)
        await here.listening()
        redis = create_redis(settings.redis_url)
        try:
            for each in numbered(200):
                assert await redis.publish(SCORED_SIGNALS, each) == 2
        finally:
            await redis.aclose()

        async def both_done() -> bool:
            return counted("redis", "published") + counted("redis", "known") == before + 400

        await until(both_done)
        await here.stored(200)


# --- the owner's side


async def test_the_same_batch_at_once_is_published_once(settings: Settings) -> None:
    async with world(settings) as here:
        batch = [item(f"s{n}") for n in range(50)]
        answers = await asyncio.gather(*(place(here, *batch) for _ in range(4)))
        assert sorted(each.published for each in answers) == [0, 0, 0, 50]
        assert all(each.published + each.known == 50 for each in answers)
        await here.stored(50)


async def test_both_ways_into_the_feed_keep_it_dense(settings: Settings) -> None:
    async with world(settings) as here:
        await asyncio.gather(
            *(place(here, *(item(f"{n}/{m}", source=f"p{m % 5}") for m in range(20))) for n in range(20))
        )
        rows = await here.stored(400)
        assert len({row["id"] for row in rows}) == 400


async def test_a_batch_is_refused_as_a_whole_while_postgres_is_away(settings: Settings, tmp_path: Path) -> None:
    with breakable_postgres(tmp_path / "breakable") as postgres:
        await migrate(postgres.url)
        async with world(settings.replace(database_url=postgres.url)) as here:
            await asyncio.to_thread(postgres.stop)
            with pytest.raises(DatabaseUnavailable):
                await place(here, item("x"))
