"""What the owner of the log reads of the feed: signals and retractions in one order, with all that a leaf holds."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from uuid import UUID

import orjson

from config.ids import uuid7
from config.settings import Settings
from db._postgres import Connection, create_pool, transaction
from db.lens.stages import NewDecision, insert_decisions
from db.signals.log_source import hash_of_decision, read_feed
from db.signals.writes import take_feed_seq
from tests.support.signals_factory import publish
from tests.support.users_factory import NOON


async def retract(conn: Connection, signal_id: UUID, provider_id: UUID) -> int:
    """Store a retraction as lens/publish does."""
    place = await take_feed_seq(conn, 1)
    await conn.execute("INSERT INTO retractions VALUES ($1, $2, $3, $4)", place, signal_id, provider_id, NOON)
    return place


def decision(event_id: UUID, model: str) -> NewDecision:
    """Return a model's decision."""
    return NewDecision(
        id=uuid7(),
        event_id=event_id,
        model=model,
        symbol="BTC",
        event_type="OPEN_SIGNAL",
        decision="FOLLOW_ENTER",
        confidence=0.82,
        entry_plan={"type": "market"},
        risk_plan={"stop_method": "atr", "atr_multiple": 2.0},
        size_pct=1.5,
        reasons=["trend_up"],
        model_version="1",
        latency_ms=12,
        tokens_used=0,
        prompt_hash=None,
        evaluated_at=NOON,
    )


async def test_signals_and_retractions_are_in_one_order_whatever_the_page(settings: Settings) -> None:
    async with await create_pool(settings.database_url or "", 2, name="test") as pool:
        first, second = await publish(pool, [{"score": 71}, {"score": 72}])
        async with transaction(pool) as conn:
            assert await retract(conn, first.id, first.provider_id) == 3
        [third] = await publish(pool, [{"score": 73}])
        async with transaction(pool) as conn:
            assert await retract(conn, third.id, third.provider_id) == 5
            expected = [(1, first.id), (2, second.id), (3, first.id), (4, third.id), (5, third.id)]
            for size in (1, 2, 3, 100):
                found, after = [], 0
                while page := await read_feed(conn, after, size):
                    assert len(page) <= size
                    found += page
                    after = page[-1].feed_seq
                assert [(each.feed_seq, each.signal_id) for each in found] == expected
                assert [each.retracted_at for each in found] == [None, None, NOON, None, NOON]
                assert found[2].provider_id == first.provider_id


async def test_an_item_has_exact_prices_and_the_hashes_of_texts_and_verdicts(settings: Settings) -> None:
    async with await create_pool(settings.database_url or "", 2, name="test") as pool:
        plain, spoken = await publish(pool, [{"reasoning": "why"}, {"reasoning": "why", "commentary": "é"}])
        async with transaction(pool) as conn:
            await conn.execute(
                "UPDATE signals SET take_profit = '[0.100000000000000001, 3]', stop_loss = 0.01, order_type = 'limit'"
                " WHERE id = $1",
                plain.id,
            )
            await insert_decisions(conn, [decision(plain.id, "technical"), decision(plain.id, "gpt")])
            one, other = await read_feed(conn, 0, 10)
            salts = {row[0]: row[1] for row in await conn.fetch("SELECT id, text_salt FROM signals")}
    assert one.take_profit == (Decimal("0.100000000000000001"), Decimal(3))
    assert (one.stop_loss, one.order_type, one.close_fraction) == (Decimal("0.01"), "limit", None)
    assert one.texts == hashlib.sha256(salts[plain.id].bytes + b"why").hexdigest()
    assert other.texts == hashlib.sha256(salts[spoken.id].bytes + b"why\0" + "é".encode()).hexdigest()
    shown = {
        "confidence": 0.82,
        "decision": "FOLLOW_ENTER",
        "entry_plan": {"type": "market"},
        "model": "gpt",
        "model_version": "1",
        "prompt_hash": None,
        "reasons": ["trend_up"],
        "risk_plan": {"atr_multiple": 2.0, "stop_method": "atr"},
        "size_pct": 1.5,
    }
    assert one.verdicts[0] == hashlib.sha256(orjson.dumps(shown)).hexdigest()
    assert one.verdicts == (hash_of_decision(shown), hash_of_decision(shown | {"model": "technical"}))
    assert other.verdicts == ()
