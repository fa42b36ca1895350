"""Decisions, listed and read: every filter and combination against a plain reading of the same rows."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from config.clock import rfc3339
from config.ids import time_of, uuid7
from config.model_sdks import MODELS
from config.settings import Settings
from db._postgres import create_pool
from db.lens.stages import NewDecision, insert_decisions
from schemas import decisions
from schemas._vocabulary import DecisionKind, values_of
from tests.api.serving import Client, serving

PATH = "/api/v1/decisions"
START = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


@asynccontextmanager
async def gateway(settings: Settings, rows: Sequence[NewDecision] = ()) -> AsyncIterator[tuple[Client, Any]]:
    """Run a gateway over a database that holds these decisions."""
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test gateway")
    try:
        async with pool.acquire() as conn:
            if rows:
                await insert_decisions(conn, rows)
            async with serving(settings, pool=pool) as client:
                yield client, conn
    finally:
        pool.terminate()


def decision(at: datetime = START, **changes: Any) -> NewDecision:
    """The document's own example, decided at a time."""
    decision_id = UUID(int=(round(at.timestamp() * 1000) << 80) | (uuid7().int & (1 << 80) - 1))
    fields: dict[str, Any] = {
        "id": decision_id,
        "event_id": uuid7(),
        "model": "chatgpt",
        "symbol": "BTC",
        "event_type": "OPEN_SIGNAL",
        "decision": "FOLLOW_ENTER",
        "confidence": 0.78,
        "entry_plan": {"type": "limit", "offset_bps": -5},
        "risk_plan": {"stop_method": "atr", "atr_multiple": 2.0},
        "size_pct": 15,
        "reasons": ["bullish_ema_alignment", "positive_macd_crossover"],
        "model_version": "gpt-4o",
        "latency_ms": 1850,
        "tokens_used": 1250,
        "prompt_hash": None,
        "evaluated_at": time_of(decision_id),
    }
    return NewDecision(**fields | changes)


def many(count: int) -> list[NewDecision]:
    """Decisions of all kinds, several in each millisecond."""
    chance = random.Random(7)
    return [
        decision(
            START + timedelta(milliseconds=n // 3),
            model=chance.choice(MODELS),
            symbol=chance.choice(("BTC", "ETH", "Fed Rate Cut March")),
            event_type=chance.choice(("OPEN_SIGNAL", "CLOSE_SIGNAL")),
            decision=chance.choice(values_of(DecisionKind)),
            confidence=chance.choice((0.0, 0.5, 0.78, 1.0)),
        )
        for n in range(count)
    ]


FILTERS: dict[str, Any] = {
    "model": "claude",
    "symbol": "fed rate CUT march",
    "event_type": "CLOSE_SIGNAL",
    "decision": "HOLD",
    "min_confidence": 0.5,
    "since": rfc3339(START + timedelta(milliseconds=20)),
    "until": rfc3339(START + timedelta(milliseconds=180)),
}


def matches(row: NewDecision, given: dict[str, Any]) -> bool:
    """Apply the filters as the document defines them."""
    return (
        row.model == given.get("model", row.model)
        and row.symbol.lower() == given.get("symbol", row.symbol).lower()
        and row.event_type == given.get("event_type", row.event_type)
        and row.decision == given.get("decision", row.decision)
        and row.confidence >= given.get("min_confidence", 0)
        and given.get("since", "") <= rfc3339(row.evaluated_at) <= given.get("until", "9")
    )


async def test_every_combination_of_filters_finds_what_it_says_newest_first(settings: Settings) -> None:
    rows = many(600)
    async with gateway(settings, rows) as (client, _):
        for count in range(len(FILTERS) + 1):
            for names in itertools.combinations(FILTERS, count):
                given = {name: FILTERS[name] for name in names}
                page = (await client.get(f"{PATH}?{urlencode(given | {'limit': 100})}")).json
                expected = sorted((str(row.id) for row in rows if matches(row, given)), reverse=True)
                assert [item["id"] for item in page["items"]] == expected[:100], given
                assert page["total"] == len(expected), given


async def test_pages_neither_overlap_nor_miss_and_the_total_grows_with_the_list(settings: Settings) -> None:
    rows = many(95)
    async with gateway(settings, rows) as (client, conn):
        pages = [(await client.get(f"{PATH}?limit=30&offset={offset}")).json for offset in (0, 30, 60, 90, 120)]
        assert [len(page["items"]) for page in pages] == [30, 30, 30, 5, 0]
        assert [item["id"] for page in pages for item in page["items"]] == sorted(
            (str(row.id) for row in rows), reverse=True
        )
        assert {(page["total"], page["limit"]) for page in pages} == {(95, 30)}
        for more in range(1, 4):
            await insert_decisions(conn, [decision(datetime.now(UTC), symbol="NEW")])
            assert (await client.get(f"{PATH}?limit=1")).json["total"] == 95 + more
            assert (await client.get(f"{PATH}?symbol=new")).json["total"] == more
        default = (await client.get(PATH)).json
        assert (default["limit"], default["offset"], len(default["items"])) == (50, 0, 50)


async def test_a_decision_is_shown_as_the_document_shows_it(settings: Settings) -> None:
    row = decision(START + timedelta(milliseconds=204))
    plain = decision(entry_plan=None, risk_plan=None, model="technical", tokens_used=0)
    async with gateway(settings, [row, plain]) as (client, _):
        page = (await client.get(PATH)).json
        assert not decisions.PageOfDecisions().validate(page)
        listed = {
            "id": str(row.id),
            "event_id": str(row.event_id),
            "symbol": "BTC",
            "event_type": "OPEN_SIGNAL",
            "model": "chatgpt",
            "decision": "FOLLOW_ENTER",
            "confidence": 0.78,
            "entry_plan": {"type": "limit", "offset_bps": -5},
            "risk_plan": {"stop_method": "atr", "atr_multiple": 2.0},
            "size_pct": 15,
            "reasons": ["bullish_ema_alignment", "positive_macd_crossover"],
            "evaluated_at": "2026-01-15T10:30:00.204Z",
        }
        assert page["items"][0] == listed
        one = (await client.get(f"{PATH}/{row.id}")).json
        assert not decisions.Decision().validate(one)
        meta = {
            "model_name": "chatgpt",
            "model_version": "gpt-4o",
            "latency_ms": 1850,
            "status": "SUCCESS",
            "tokens_used": 1250,
        }
        assert one == listed | {"model_meta": meta}
        other = (await client.get(f"{PATH}/{plain.id}")).json
        assert (other["entry_plan"], other["model_meta"]["tokens_used"]) == (None, 0)


@pytest.mark.parametrize("decision_id", ["dec-001", "x", "00000000-0000-7000-8000-000000000000", "%00"])
async def test_a_decision_that_never_was_is_404(settings: Settings, decision_id: str) -> None:
    async with gateway(settings) as (client, _):
        error = (await client.get(f"{PATH}/{decision_id}")).problem(404, "NOT_FOUND")
        assert error["message"] in {"Decision not found", "Not found"}  # the latter: no path of ours


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("model=gpt-4o", "model"),
        ("model=ChatGPT", "model"),
        ("model=", "model"),
        ("symbol=", "symbol"),
        ("event_type=OPEN", "event_type"),
        ("decision=BUY", "decision"),
        ("min_confidence=1.01", "min_confidence"),
        ("min_confidence=-0.1", "min_confidence"),
        ("min_confidence=nan", "min_confidence"),
        ("min_confidence=high", "min_confidence"),
        ("since=yesterday", "since"),
        ("until=2024-01-15T10:30:00", "until"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("offset=-1", "offset"),
        ("model=claude&model=gemini", "model"),
    ],
)
async def test_a_bad_value_is_400_by_name(query: str, field: str) -> None:
    async with serving() as client:
        error = (await client.get(f"{PATH}?{query}")).problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in error["details"]] == [field]


async def test_times_of_any_offset_and_before_the_epoch_are_taken(settings: Settings) -> None:
    async with gateway(settings, [decision()]) as (client, _):
        for query, total in (
            ("since=2026-01-15T11:30:00%2B01:00", 1),
            ("since=2026-01-15T10:30:00.0001Z", 0),
            ("until=2026-01-15T10:29:59.9999Z", 0),
            ("until=1066-10-14T00:00:00Z", 0),
            ("since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z", 1),
            ("unknown=ignored", 1),
        ):
            assert (await client.get(f"{PATH}?{query}")).json["total"] == total, query


async def test_answers_without_postgres_are_a_quick_503(settings: Settings) -> None:
    away = await create_pool("postgresql://postgres@127.0.0.1:1/none", 2, name="away")
    async with serving(settings, pool=away) as client:
        for path in (PATH, f"{PATH}/{uuid7()}"):
            (await client.get(path)).problem(503, "SERVICE_UNAVAILABLE")
    away.terminate()
