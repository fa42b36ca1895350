"""The four stages over a real Postgres and Valkey: each signal once, through losses, delays, defects and kills."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from prometheus_client import REGISTRY

from actors.lens._results import StageResult
from actors.lens.enrich import Enrich
from actors.lens.evaluate import Evaluate
from actors.lens.intake import Intake
from actors.lens.market import MarketData, MarketRequest
from actors.lens.market.quotes import PricedInstrument
from actors.lens.market.source import PricesByType
from actors.lens.messages import ENRICH, EVALUATE, INTAKE, PUBLISH, Receipt, Work
from actors.lens.model import Evaluation, Features, MarketSnapshot, QueryFailure, RawSignal
from actors.lens.models import Model
from actors.lens.models.technical import TechnicalModel
from actors.lens.publish import Publish
from actors.lens.quote import VenueQuote
from actors.lens.scoring import opportunity_score
from config import clock
from config.clock import rfc3339
from config.ids import derived_uuid7, milliseconds_of, time_of, uuid7
from config.settings import Settings
from config.values import replace
from db._postgres import create_pool
from db._redis import create_redis
from db.lens.reads import get_event
from schemas.errors import AppError, IdempotencyMismatch
from schemas.feed import DECISIONS_CHANNEL, FEED_CHANNEL, decode_batch, decode_decisions
from tests.support.lens_factory import finished, submit, until
from tests.support.local_actors import LocalActors, local_actors


class ScriptedMarket:
    """The market that is configured, except for symbols that hang or have no data."""

    inner: MarketData

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hanging = asyncio.Event()
        self.released = asyncio.Event()
        self.dead = {"DEAD"}

    def snapshot_at_once(self, request: MarketRequest) -> None:
        """Return None, so that every snapshot has to be waited for."""

    async def snapshot(self, request: MarketRequest) -> MarketSnapshot:
        self.asked.append(request.symbol)
        if request.symbol == "STUCK":
            self.hanging.set()
            await self.released.wait()
        if request.symbol in self.dead:
            return MarketSnapshot(failures=(QueryFailure("mid", "NETWORK_ERROR", "Hyperliquid API timeout"),))
        return await self.inner.snapshot(request)

    async def close(self) -> None:
        await self.inner.close()


class ScriptedPrices(PricesByType):
    """The prices that are configured, except for symbols without data."""

    def __init__(self, inner: PricesByType, dead: set[str]) -> None:
        super().__init__(inner._sources)
        self.dead = dead

    async def quote(self, instrument: PricedInstrument) -> VenueQuote | None:
        return None if instrument.symbol in self.dead else await super().quote(instrument)


class ScriptedEnrich(Enrich):
    """Enrich with a market of the test's own."""

    def __init__(self, market: ScriptedMarket) -> None:
        super().__init__()
        self.market = market

    async def prepare(self) -> None:
        await super().prepare()
        self.market.inner, self._market = self._market, self.market
        self._prices = ScriptedPrices(self._prices, self.market.dead)


class ScriptedModel(TechnicalModel):
    """The technical model under another name, which fails as often as it is told to."""

    def __init__(self, name: str, failures: int = 0, *, poison: str = "") -> None:
        self.name = name
        self.failures = failures
        self.poison = poison
        self.asked = 0

    async def judge(self, signal: RawSignal, features: Features) -> Evaluation:
        self.asked += 1
        if self.asked <= self.failures:
            return Evaluation(self.name, self.version, "TIMEOUT", 1, error=f"no answer the {self.asked}. time")
        run = replace(await super().judge(signal, features), model=self.name)
        assert run.decision is not None
        if signal.symbol == self.poison:
            # Postgres takes no NUL in a text: this decision cannot be stored.
            return replace(run, decision=replace(run.decision, reasons=("a\x00b",)))
        return run


class ScriptedEvaluate(Evaluate):
    """Evaluate with models of the test's own."""

    def __init__(self, *models: ScriptedModel) -> None:
        super().__init__()
        self.models: list[Model] = list(models)

    async def prepare(self) -> None:
        self._models = self.models


ASSETS = (
    {"symbol": "AAPL", "asset_type": "stock"},
    {"symbol": "QQQ", "asset_type": "etf"},
    {"symbol": "EUR/USD", "asset_type": "forex", "entry_price": Decimal("1.085"), "liquidation_price": None},
    {"symbol": "AAPL 195C 3/15/2099", "asset_type": "option", "asset_data": {"strike": 195}},
    {"symbol": "Snow", "asset_type": "prediction", "entry_price": Decimal("0.68"), "liquidation_price": None},
)


async def test_a_type_that_no_source_knows_is_published_with_a_flag_and_scored_from_what_there_is(
    settings: Settings,
) -> None:
    """The kind: a valid signal that is lost because no market data source covers it."""
    async with pipeline(settings.replace(market_data="hyperliquid", lens_retries=0)) as (actors, conn):
        ids = await post(actors, *(submit(**each) for each in ASSETS))
        assert await finished(conn, ids) == ["PUBLISHED"] * len(ASSETS)
        assert await conn.fetchval("SELECT count(*) FROM lens_dlq") == 0
        for event_id in ids:
            event = await get_event(conn, event_id)
            assert event is not None
            assert event.quality_flags == {"missing_data": ["quote", "market"], "stale_data": [], "provider_errors": []}
            assert [(each["model"], each["decision"]) for each in event.decisions] == [("technical", "IGNORE")]
            row = await conn.fetchrow("SELECT * FROM signals WHERE id = $1", event_id)
            parts = {name: each["contribution"] for name, each in row["factors"].items()}
            assert (parts["expected_return"], parts["consensus"], parts["volatility"]) == (0, 0, 0)
            assert row["score"] == opportunity_score(row["factors"]) == 23  # 12.5 + 10
            assert row["market_context"]["current_price"] == float(event.entry_price)


async def test_an_option_that_is_over_is_published_flagged_and_not_ranked(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        over = {"symbol": "AAPL 195C 3/15", "asset_type": "option", "asset_data": {"expiry": "2024-03-15"}}
        ids = await post(actors, submit(**over), submit(symbol="AAPL 195C 3/15", asset_type="option"))
        assert await finished(conn, ids) == ["PUBLISHED", "PUBLISHED"]
        flags = [(await get_event(conn, each)).quality_flags["stale_data"] for each in ids]  # type: ignore[union-attr,index]
        assert flags == [["expiry"], []]
        rows = await conn.fetch("SELECT is_ranked, instrument FROM signals ORDER BY id")
        assert [row["is_ranked"] for row in rows] == [False, True]
        assert rows[0]["instrument"] == "AAPL 195C 2024-03-15"


@asynccontextmanager
async def pipeline(
    settings: Settings,
    *,
    enrich: Enrich | None = None,
    evaluate: Evaluate | None = None,
    publish: Publish | None = None,
) -> AsyncIterator[tuple[LocalActors, asyncpg.Connection[Any]]]:
    behaviours = {
        INTAKE: Intake(),
        ENRICH: enrich or Enrich(),
        EVALUATE: evaluate or Evaluate(),
        PUBLISH: publish or Publish(),
    }
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 1, name="test")
    try:
        async with local_actors(settings, behaviours) as actors, pool.acquire() as conn:
            yield actors, conn  # type: ignore[misc]
    finally:
        await pool.close()


async def post(actors: LocalActors, *messages: Any) -> list[UUID]:
    replies = await actors.ref(INTAKE).ask_batch(messages)
    assert all(isinstance(each, Receipt) for each in replies), replies
    return [each.event_id for each in replies]


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.replace(lens_retry_base_seconds=0.02, lens_retry_max_seconds=0.05)


class BrokenEnrich(Enrich):
    """Enrich with a defect in the part done at once, for some symbols; for others also in the error's text."""

    def __init__(self) -> None:
        super().__init__()
        self.defects = 1

    def work_at_once(self, work: Work) -> StageResult | None:
        if work.signal.symbol == "BROKEN":
            raise RuntimeError("a defect of the stage")
        return super().work_at_once(work)

    def _failed(self, work: Work, error: Exception) -> StageResult:
        if self.defects:
            self.defects -= 1
            raise RuntimeError("a defect in telling of the defect") from error
        return super()._failed(work, error)


async def test_a_defect_in_what_is_done_at_once_ends_in_the_dead_letter_queue(quick: Settings) -> None:
    async with pipeline(quick, enrich=BrokenEnrich()) as (actors, conn):
        ids = await post(actors, *(submit(symbol=symbol) for symbol in ("BTC", "BROKEN", "ETH")))
        assert await finished(conn, ids, seconds=30) == ["PUBLISHED", "FAILED", "PUBLISHED"]
        dead_letter = await conn.fetchrow("SELECT stage, reason_code, error_message FROM lens_dlq")
        assert dead_letter is not None
        assert tuple(dead_letter) == ("enrich", "INTERNAL_ERROR", "RuntimeError: a defect of the stage")


async def test_a_signal_goes_through_every_stage_to_the_feed(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        event = await get_event(conn, event_id)
        assert event is not None
        timeline = [line["status"] for line in event.timeline]
        assert timeline == ["RECEIVED", "ENQUEUED", "ENRICHED", "MODEL_DONE", "PUBLISHED"]
        assert event.timeline[3]["details"] == {"model": "technical"}
        times = [line["timestamp"] for line in event.timeline]
        assert times == sorted(times)
        assert event.feature_profile == "trend_follow_v1"
        assert [each["model"] for each in event.decisions] == ["technical"]
        decided = await conn.fetchrow("SELECT id, evaluated_at FROM lens_decisions WHERE event_id = $1", event_id)
        assert decided is not None
        assert rfc3339(decided["evaluated_at"]) == times[3], "as old as its line, however late it is stored"
        assert time_of(decided["id"]) == decided["evaluated_at"]
        row = await conn.fetchrow("SELECT * FROM signals WHERE id = $1", event_id)
        assert row is not None
        assert (row["feed_seq"], row["action"], row["direction"]) == (1, "buy", "long")
        assert str(row["entry_price"]) == "42000.50", "prices stay exact decimals"
        item = orjson.loads(row["feed_data"])
        assert item["provider"]["name"] == "strategy_alpha"
        assert item["score"] == row["score"] == opportunity_score(row["factors"])


async def test_the_quote_of_the_receipt_and_the_worse_price_are_stored(settings: Settings) -> None:
    """Of all asset types, of a first signal on a symbol and of later ones, which are enriched without waiting."""
    async with pipeline(settings) as (actors, conn):
        ids = await post(actors, submit(), *(submit(**each) for each in ASSETS))
        again = submit(entry_price=Decimal("0.000001"), liquidation_price=None)
        high = submit(entry_price=Decimal(1_000_000), signal_direction="close_long", event_type="CLOSE_SIGNAL")
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        ids += await post(actors, again, high)
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        rows = {row["id"]: row for row in await conn.fetch("SELECT * FROM signals")}
        for row in rows.values():
            assert row["quote_bid"] < row["quote_mid"] < row["quote_ask"]
            assert -5 <= (row["quote_at"] - row["received_at"]).total_seconds() <= 2
            assert (row["quote_source"], row["way_in"]) == ("simulated", "lens")
            is_buy = row["event_type"] == "OPEN_SIGNAL"
            worse = max(row["entry_price"], row["quote_ask"]) if is_buy else min(row["entry_price"], row["quote_bid"])
            assert row["record_price"] == worse
            shown = orjson.loads(row["feed_data"])
            assert (shown["record_price"], shown["verified"]) == (float(worse), True)
        assert rows[again.event_id]["record_price"] > 40_000
        assert rows[high.event_id]["record_price"] < 45_000
        assert await conn.fetchval("SELECT count(*) FROM simulated_anchors") == 1 + len(ASSETS)
        event = await get_event(conn, again.event_id)
        assert event is not None
        assert event.quality_flags == {"missing_data": [], "stale_data": ["entry_price"], "provider_errors": []}


async def test_a_signal_that_is_enriched_long_after_its_receipt_has_no_quote(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        await finished(conn, await post(actors, submit()))
        late = submit(event_id=derived_uuid7(milliseconds_of(clock.now()) - 2100, b"late"))
        assert await finished(conn, await post(actors, late)) == ["PUBLISHED"]
        row = await conn.fetchrow("SELECT * FROM signals WHERE id = $1", late.event_id)
        assert row is not None
        assert (row["quote_at"], row["record_price"]) == (None, None)
        assert orjson.loads(row["feed_data"])["verified"] is False
        event = await get_event(conn, late.event_id)
        assert event is not None
        assert event.quality_flags is not None
        assert event.quality_flags["missing_data"] == ["quote"]


async def test_published_batches_are_dense_and_reach_redis(settings: Settings) -> None:
    assert settings.redis_url is not None
    redis = create_redis(settings.redis_url)
    try:
        async with pipeline(settings) as (actors, conn), redis.pubsub() as listener:
            await listener.subscribe(FEED_CHANNEL, DECISIONS_CHANNEL)
            ids = await post(actors, *(submit(symbol=f"S{n}", source=f"s{n % 7}") for n in range(60)))
            await finished(conn, ids)
            feed: list[int] = []
            decided: set[str] = set()

            async def heard() -> bool:
                message = await listener.get_message(ignore_subscribe_messages=True, timeout=0.05)
                if message is not None and message["channel"] == FEED_CHANNEL.encode():
                    feed.extend(item.feed_seq for item in decode_batch(message["data"]))
                elif message is not None:
                    decided.update(orjson.loads(i.data)["event_id"] for i in decode_decisions(message["data"]))
                return len(feed) == 60 and len(decided) == 60

            await until(heard)
            assert feed == list(range(1, 61))
            assert decided == {str(each) for each in ids}
            stored = await conn.fetch("SELECT id, feed_seq FROM signals ORDER BY feed_seq")
            assert [row["feed_seq"] for row in stored] == list(range(1, 61))
            assert {row["id"] for row in stored} == set(ids)
            assert await conn.fetchval("SELECT count(*) FROM providers WHERE is_system") == 7
    finally:
        await redis.aclose()


async def test_a_batch_delivered_twice_is_stored_once(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        message = submit(idempotency_key="k")
        first = await actors.ref(INTAKE).ask("", message)
        again = await actors.ref(INTAKE).ask("", message)
        assert first == again
        assert first.replayed is False
        await finished(conn, [first.event_id])
        assert await conn.fetchval("SELECT count(*) FROM signals") == 1


async def test_an_idempotency_key_answers_the_same_body_and_refuses_another(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        intake = actors.ref(INTAKE)
        message = submit(idempotency_key="key-1")
        first = await intake.ask("", message)
        replay = await intake.ask("", replace(message, event_id=uuid7()))
        assert (replay.event_id, replay.received_at, replay.replayed) == (first.event_id, first.received_at, True)
        with pytest.raises(IdempotencyMismatch):
            await intake.ask("", replace(message, event_id=uuid7(), size=message.size * 2))
        other_source = await intake.ask("", replace(message, event_id=uuid7(), source="strategy_beta"))
        assert other_source.event_id != first.event_id
        assert await conn.fetchval("SELECT count(*) FROM lens_events") == 2


async def test_concurrent_duplicates_make_one_event(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        message = submit(idempotency_key="same")
        batches = [[replace(message, event_id=uuid7()) for _ in range(5)] for _ in range(8)]
        answers = await asyncio.gather(*(actors.ref(INTAKE).ask_batch(batch) for batch in batches))
        ids = {reply.event_id for batch in answers for reply in batch}
        assert len(ids) == 1
        assert sum(not reply.replayed for batch in answers for reply in batch) == 1
        assert await conn.fetchval("SELECT count(*) FROM lens_events") == 1


async def test_an_expired_key_may_be_used_again(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        message = submit(idempotency_key="old")
        first = await actors.ref(INTAKE).ask("", message)
        await conn.execute("UPDATE lens_idempotency SET received_at = received_at - interval '25 hours'")
        second = await actors.ref(INTAKE).ask("", replace(message, event_id=uuid7(), size=message.size * 2))
        assert second.event_id != first.event_id


@pytest.mark.parametrize("lost", [ENRICH, EVALUATE, PUBLISH])
async def test_a_lost_hand_over_is_found_by_the_sweep(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    for module in ("_commits", "_stage", "intake"):
        monkeypatch.setattr(f"actors.lens.{module}.LEASE_SECONDS", 0.5)
    async with pipeline(settings) as (actors, conn):
        actors.ref(lost).dropping = True
        ids = await post(actors, *(submit() for _ in range(20)))
        assert set(await finished(conn, ids, seconds=20)) == {"PUBLISHED"}
        assert await conn.fetchval("SELECT count(*) FROM signals") == 20


async def test_a_stage_that_dies_at_work_is_replaced_and_nothing_is_done_twice(settings: Settings) -> None:
    market = ScriptedMarket()
    async with pipeline(settings, enrich=ScriptedEnrich(market)) as (actors, conn):
        ids = await post(actors, submit(symbol="STUCK"), *(submit(symbol=f"S{n}") for n in range(10)))
        await market.hanging.wait()
        await actors.kill(ENRICH)
        market.released.set()
        await actors.start(ENRICH, ScriptedEnrich(market), settings)
        assert set(await finished(conn, ids)) == {"PUBLISHED"}
        assert await conn.fetchval("SELECT count(*) FROM signals") == 11
        assert await conn.fetchval("SELECT count(*) FROM lens_decisions") == 11
        assert await conn.fetchval("SELECT last_seq FROM feed_counter") == 11


async def test_a_stuck_symbol_delays_no_other(settings: Settings) -> None:
    market = ScriptedMarket()
    async with pipeline(settings, enrich=ScriptedEnrich(market)) as (actors, conn):
        [stuck] = await post(actors, submit(symbol="STUCK"))
        await market.hanging.wait()
        ids = await post(actors, *(submit() for _ in range(30)))
        assert set(await finished(conn, ids, seconds=5)) == {"PUBLISHED"}
        assert await conn.fetchval("SELECT finished_at FROM lens_progress WHERE event_id = $1", stuck) is None
        market.released.set()
        assert await finished(conn, [stuck]) == ["PUBLISHED"]


async def test_an_event_without_any_data_ends_in_the_dead_letter_queue_with_every_attempt(quick: Settings) -> None:
    market = ScriptedMarket()
    async with pipeline(quick, enrich=ScriptedEnrich(market)) as (actors, conn):
        dead, alive = await post(actors, submit(symbol="DEAD"), submit())
        assert await finished(conn, [dead, alive]) == ["FAILED", "PUBLISHED"]
        assert market.asked.count("DEAD") == 4
        dead_letter = await conn.fetchrow("SELECT * FROM lens_dlq")
        assert dead_letter is not None
        assert (dead_letter["event_id"], dead_letter["stage"], dead_letter["reason_code"]) == (
            dead,
            "enrich",
            "PROVIDER_ERROR",
        )
        assert dead_letter["error_message"] == "Hyperliquid API timeout"
        assert (dead_letter["retry_count"], len(dead_letter["attempts"])) == (3, 4)
        assert dead_letter["payload"]["symbol"] == "DEAD"
        stage = await conn.fetchval("SELECT stage FROM lens_progress WHERE event_id = $1", dead)
        assert stage == "DEAD_LETTER"


async def test_a_market_that_comes_back_during_the_retries_publishes_the_event(quick: Settings) -> None:
    market = ScriptedMarket()
    async with pipeline(quick, enrich=ScriptedEnrich(market)) as (actors, conn):
        [event_id] = await post(actors, submit(symbol="DEAD"))

        async def asked() -> bool:
            return market.asked.count("DEAD") >= 2

        await until(asked)
        market.dead.clear()
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        assert await conn.fetchval("SELECT count(*) FROM lens_dlq") == 0
        assert await conn.fetchval("SELECT failures FROM lens_progress") == []


async def test_a_failing_model_leaves_its_own_dead_letter_and_the_others_publish(quick: Settings) -> None:
    good, flaky, bad = ScriptedModel("claude"), ScriptedModel("gemini", failures=2), ScriptedModel("chatgpt", 99)
    async with pipeline(quick, evaluate=ScriptedEvaluate(bad, good, flaky)) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        event = await get_event(conn, event_id)
        assert event is not None
        assert [each["model"] for each in event.decisions] == ["claude", "gemini"], "in the order of their answers"
        done = [line["details"]["model"] for line in event.timeline if line["status"] == "MODEL_DONE"]
        assert done == ["claude", "gemini"]
        assert (good.asked, flaky.asked, bad.asked) == (1, 3, 4), "an answer is asked for once, a failure four times"
        dead_letters = await conn.fetch("SELECT * FROM lens_dlq")
        assert [(row["stage"], row["model"], row["reason_code"]) for row in dead_letters] == [
            ("evaluate", "chatgpt", "TIMEOUT")
        ]
        assert [each["error_message"] for each in dead_letters[0]["attempts"]] == [
            f"no answer the {n}. time" for n in range(1, 5)
        ]


async def test_an_event_that_every_model_failed_on_is_not_published(quick: Settings) -> None:
    async with pipeline(quick, evaluate=ScriptedEvaluate(ScriptedModel("claude", 99), ScriptedModel("gemini", 99))) as (
        actors,
        conn,
    ):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["FAILED"]
        assert await conn.fetchval("SELECT count(*) FROM lens_dlq") == 2
        assert await conn.fetchval("SELECT count(*) FROM signals") == 0


async def test_a_result_that_cannot_be_stored_fails_alone(settings: Settings) -> None:
    model = ScriptedModel("technical", poison="POISON")
    async with pipeline(settings, evaluate=ScriptedEvaluate(model)) as (actors, conn):
        symbols = [f"S{n}" for n in range(20)]
        symbols[7] = "POISON"
        ids = await post(actors, *(submit(symbol=symbol) for symbol in symbols))
        statuses = await finished(conn, ids)
        assert statuses == ["FAILED" if symbol == "POISON" else "PUBLISHED" for symbol in symbols]
        dead_letter = await conn.fetchrow("SELECT * FROM lens_dlq")
        assert dead_letter is not None
        assert (dead_letter["stage"], dead_letter["reason_code"], dead_letter["event_id"]) == (
            "evaluate",
            "INTERNAL_ERROR",
            ids[7],
        )


async def test_a_submission_that_cannot_be_stored_fails_alone(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        messages: Sequence[Any] = [submit(), submit(commentary="a\x00b"), submit()]
        replies = await actors.ref(INTAKE).ask_batch(messages)
        assert [isinstance(each, AppError) for each in replies] == [False, True, False]
        await finished(conn, [messages[0].event_id, messages[2].event_id])
        assert await conn.fetchval("SELECT count(*) FROM lens_events") == 2


async def test_the_gates_reject_with_a_reason_when_they_are_set(settings: Settings) -> None:
    async with pipeline(settings.replace(lens_reject_age_seconds=60.0)) as (actors, conn):
        old, new = submit(ts_utc=submit().ts_utc.replace(year=2024)), submit()
        ids = await post(actors, old, new)
        assert await finished(conn, ids) == ["REJECTED", "PUBLISHED"]
        event = await get_event(conn, old.event_id)
        assert event is not None
        assert event.timeline[-1]["status"] == "REJECTED"
        assert "s old, the limit is 60 s" in event.timeline[-1]["details"]["reason"]
        assert await conn.fetchval("SELECT count(*) FROM signals") == 1


async def test_an_old_signal_is_flagged_and_published_by_default(settings: Settings) -> None:
    async with pipeline(settings) as (actors, conn):
        [event_id] = await post(actors, submit(ts_utc=submit().ts_utc.replace(year=2024)))
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        event = await get_event(conn, event_id)
        assert event is not None
        assert event.quality_flags is not None
        assert event.quality_flags["stale_data"] == ["signal"]


async def test_the_depth_of_each_stage_and_of_the_dead_letter_queue_is_measured(quick: Settings) -> None:
    market = ScriptedMarket()
    async with pipeline(quick, enrich=ScriptedEnrich(market)) as (actors, conn):
        dead, stuck = await post(actors, submit(symbol="DEAD"), submit(symbol="STUCK"))
        assert await finished(conn, [dead]) == ["FAILED"]
        intake = actors.behaviours[INTAKE]
        assert isinstance(intake, Intake)
        await intake._measure()
        assert _gauge("tradestream_lens_stage_depth", stage="ENRICH") == 1
        assert _gauge("tradestream_lens_dead_letters", stage="ENRICH") == 1
        market.released.set()
        await finished(conn, [stuck])
        await intake._measure()
        assert _gauge("tradestream_lens_stage_depth", stage="ENRICH") == 0


def _gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)
