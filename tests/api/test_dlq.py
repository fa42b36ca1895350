"""The dead-letter queue over HTTP: lists, details, retries with and without a body, resolutions, many at once."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from config.clock import rfc3339
from config.ids import time_of, uuid7
from config.settings import Settings
from db._postgres import create_pool
from db.lens.dlq import NewDeadLetter, insert_dead_letters
from schemas import dlq
from schemas._vocabulary import DeadLetterStage, ReasonCode, values_of
from tests.api.serving import Client, serving
from tests.integration.test_lens_pipeline import ScriptedEnrich, ScriptedMarket, pipeline, post
from tests.support.lens_factory import finished, submit

PATH = "/api/v1/dlq"
START = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


@asynccontextmanager
async def gateway(settings: Settings, dead_letters: Sequence[NewDeadLetter] = ()) -> AsyncIterator[tuple[Client, Any]]:
    """A gateway over a queue with these entries; no actor."""
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test gateway")
    try:
        async with pool.acquire() as conn:
            if dead_letters:
                await insert_dead_letters(conn, dead_letters)
            async with serving(settings, pool=pool) as client:
                yield client, conn
    finally:
        pool.terminate()


@asynccontextmanager
async def dead_symbol(settings: Settings, events: int = 1) -> AsyncIterator[tuple[Client, Any, ScriptedMarket]]:
    """A gateway with all actors, whose events on DEAD have been dead-lettered."""
    market = ScriptedMarket()
    quick = settings.replace(lens_retry_base_seconds=0.01, lens_retry_max_seconds=0.02)
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test gateway")
    try:
        async with pipeline(quick, enrich=ScriptedEnrich(market)) as (actors, conn):
            ids = await post(actors, *(submit(symbol="DEAD") for _ in range(events)))
            assert set(await finished(conn, ids)) == {"FAILED"}
            async with serving(quick, pool=pool, actors=actors) as client:
                yield client, conn, market
    finally:
        pool.terminate()


def dead_letter(at: datetime = START, **changes: Any) -> NewDeadLetter:
    """An entry that was made at a time."""
    dead_letter_id = UUID(int=(round(at.timestamp() * 1000) << 80) | (uuid7().int & (1 << 80) - 1))
    attempts = [
        {"at": rfc3339(at), "reason_code": "TIMEOUT", "error_message": "slow", "model": "claude"},
        {"at": rfc3339(at), "reason_code": "PROVIDER_ERROR", "error_message": "503"},
    ]
    fields: dict[str, Any] = {
        "id": dead_letter_id,
        "event_id": uuid7(),
        "stage": "enrich",
        "model": None,
        "reason_code": "PROVIDER_ERROR",
        "error_message": "Hyperliquid API returned 503 Service Unavailable",
        "payload": {"symbol": "BTC", "entry_price": 42000.5},
        "attempts": attempts,
        "retry_count": 1,
        "created_at": time_of(dead_letter_id),
    }
    return NewDeadLetter(**fields | changes)


async def test_every_combination_of_filters_finds_what_it_says_newest_first(settings: Settings) -> None:
    stages, reasons, event_id = values_of(DeadLetterStage), values_of(ReasonCode), uuid7()
    rows = [
        dead_letter(
            START + timedelta(milliseconds=n // 2), stage=stages[n % 4], reason_code=reasons[n % 9], model=str(n)
        )
        for n in range(120)
    ]
    rows += [dead_letter(START, event_id=event_id, model=str(n), stage="evaluate") for n in range(3)]
    filters = {
        "stage": "evaluate",
        "reason_code": "PROVIDER_ERROR",
        "event_id": str(event_id),
        "resolved": "true",
        "since": rfc3339(START),
        "until": rfc3339(START + timedelta(milliseconds=30)),
    }
    done = {row.id for row in rows[::3]}
    async with gateway(settings, rows) as (client, conn):
        await conn.execute("UPDATE lens_dlq SET resolved_at = now(), resolution_note = 'x' WHERE id = ANY ($1)", done)
        for count in range(len(filters) + 1):
            for names in itertools.combinations(filters, count):
                given = {name: filters[name] for name in names}
                expected = sorted(
                    (
                        str(row.id)
                        for row in rows
                        if row.stage == given.get("stage", row.stage)
                        and row.reason_code == given.get("reason_code", row.reason_code)
                        and str(row.event_id) == given.get("event_id", str(row.event_id))
                        and (row.id in done or "resolved" not in given)
                        and given.get("since", "") <= rfc3339(row.created_at) <= given.get("until", "9")
                    ),
                    reverse=True,
                )
                page = (await client.get(f"{PATH}?{urlencode(given | {'limit': 20, 'offset': 2})}")).json
                assert [item["id"] for item in page["items"]] == expected[2:22], given
                assert (page["total"], page["limit"], page["offset"]) == (len(expected), 20, 2), given
        assert (await client.get(f"{PATH}?resolved=false")).json["total"] == len(rows) - len(done)
        assert (await client.get(f"{PATH}?offset=1000")).json == {
            "items": [],
            "total": len(rows),
            "limit": 50,
            "offset": 1000,
        }


async def test_an_entry_is_shown_as_the_document_shows_it_and_with_every_attempt(settings: Settings) -> None:
    row = dead_letter()
    async with gateway(settings, [row]) as (client, _):
        page = (await client.get(PATH)).json
        assert not dlq.PageOfDeadLetters().validate(page)
        listed = {
            "id": str(row.id),
            "event_id": str(row.event_id),
            "stage": "enrich",
            "reason_code": "PROVIDER_ERROR",
            "error_message": "Hyperliquid API returned 503 Service Unavailable",
            "retry_count": 1,
            "created_at": "2026-01-15T10:30:00.000Z",
            "resolved_at": None,
        }
        assert page["items"] == [listed]
        one = (await client.get(f"{PATH}/{row.id}")).json
        assert not dlq.DeadLetterSchema().validate(one)
        attempts = [
            {"at": "2026-01-15T10:30:00.000Z", "reason_code": "TIMEOUT", "error_message": "slow"},
            {"at": "2026-01-15T10:30:00.000Z", "reason_code": "PROVIDER_ERROR", "error_message": "503"},
        ]
        assert one == listed | {
            "model": None,
            "payload": {"symbol": "BTC", "entry_price": 42000.5},
            "edited_payload": None,
            "attempts": attempts,
            "last_retry_at": None,
            "resolution_note": None,
        }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("stage=ENRICH", "stage"),
        ("stage=complete", "stage"),
        ("reason_code=OTHER", "reason_code"),
        ("event_id=550e8400", "event_id"),
        ("resolved=yes", "resolved"),
        ("resolved=TRUE", "resolved"),
        ("since=today", "since"),
        ("until=", "until"),
        ("limit=1000", "limit"),
        ("offset=x", "offset"),
    ],
)
async def test_a_bad_filter_is_400_by_name(query: str, field: str) -> None:
    async with serving() as client:
        error = (await client.get(f"{PATH}?{query}")).problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in error["details"]] == [field]


async def test_a_retry_needs_no_body_and_its_success_resolves_the_entry(settings: Settings) -> None:
    async with dead_symbol(settings) as (client, conn, market):
        [entry] = (await client.get(PATH)).json["items"]
        path = f"{PATH}/{entry['id']}"
        market.dead.clear()
        response = await client.request("POST", f"{path}/retry")
        assert response.status == 200
        assert response.json == {
            "id": entry["id"],
            "status": "retrying",
            "message": "Entry re-enqueued for enrich processing",
            "retry_count": entry["retry_count"] + 1,
        }
        assert await finished(conn, [UUID(entry["event_id"])]) == ["PUBLISHED"]
        after = (await client.get(path)).json
        assert after["resolution_note"] == "Resolved by retry"
        assert after["last_retry_at"] <= after["resolved_at"]
        for body in (None, b"{}", b'{"payload": {"symbol": "ETH"}}'):
            headers = {"Content-Type": "application/json"} if body else {}
            refused = await client.request("POST", f"{path}/retry", headers=headers, body=body)
            refused.problem(400, "VALIDATION_ERROR")
            assert refused.json["detail"] == "Cannot retry a resolved DLQ entry"
        refused = await client.post(f"{path}/resolve", {"resolution_note": "too late"})
        refused.problem(400, "VALIDATION_ERROR")
        assert refused.json["detail"] == "DLQ entry is already resolved"


async def test_a_retry_may_carry_an_edited_payload_which_is_kept_beside_the_original(settings: Settings) -> None:
    async with dead_symbol(settings) as (client, conn, _):
        [entry] = (await client.get(PATH)).json["items"]
        path = f"{PATH}/{entry['id']}"
        shown = (await client.get(path)).json["payload"]
        error = (await client.post(f"{path}/retry", {"payload": shown | {"size": -1, "nonsense": 1}})).problem(
            400, "VALIDATION_ERROR"
        )
        assert error["details"] == [
            {"field": "payload.size", "message": "must be greater than 0"},
            {"field": "payload.nonsense", "message": "unknown field"},
        ]
        response = await client.post(f"{path}/retry", {"payload": shown | {"symbol": "eth"}})
        assert response.json["retry_count"] == entry["retry_count"] + 1
        assert await finished(conn, [UUID(entry["event_id"])]) == ["PUBLISHED"]
        after = (await client.get(path)).json
        assert not dlq.DeadLetterSchema().validate(after)
        assert after["payload"] == shown
        assert (after["edited_payload"]["symbol"], after["edited_payload"]["size"]) == ("ETH", 0.1)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"[]", 400, None),
        (b"null", 400, None),
        (b'{"payload": []}', 400, "payload"),
        (b'{"payload": "x"}', 400, "payload"),
        (b'{"pay": {}}', 400, "pay"),
        (b"{", 400, None),
        (b" ", 400, None),
    ],
)
async def test_a_body_of_a_retry_is_checked_when_there_is_one(body: bytes, status: int, field: str | None) -> None:
    async with serving() as client:
        headers = {"Content-Type": "application/json"}
        response = await client.request("POST", f"{PATH}/{uuid7()}/retry", headers=headers, body=body)
        error = response.problem(status, "VALIDATION_ERROR")
        assert [each["field"] for each in error.get("details", [])] == ([field] if field else [])
        without_type = await client.request("POST", f"{PATH}/{uuid7()}/retry", body=b"{}")
        without_type.problem(415, "UNSUPPORTED_MEDIA_TYPE")


async def test_an_entry_that_never_was_is_404(settings: Settings) -> None:
    async with dead_symbol(settings) as (client, _, __):
        for unknown in (uuid7(), "dlq-001", "550e8400e29b41d4a716446655440000"):
            path = f"{PATH}/{unknown}"
            answers = [
                await client.get(path),
                await client.request("POST", f"{path}/retry"),
                await client.post(f"{path}/resolve", {"resolution_note": "x"}),
            ]
            for answer in answers:
                assert answer.problem(404, "NOT_FOUND")["message"] == "DLQ entry not found"


async def test_an_entry_is_resolved_by_hand(settings: Settings) -> None:
    async with dead_symbol(settings) as (client, _, __):
        [entry] = (await client.get(PATH)).json["items"]
        path = f"{PATH}/{entry['id']}"
        for note in ("", " ", "\n\t\u00a0", "x" * 1001, None, 7):
            error = (await client.post(f"{path}/resolve", {"resolution_note": note})).problem(400, "VALIDATION_ERROR")
            assert [each["field"] for each in error["details"]] == ["resolution_note"]
        (await client.request("POST", f"{path}/resolve")).problem(400, "VALIDATION_ERROR")
        note = "Manually fixed data issue and re-submitted signal 🚀".ljust(1000, ".")
        answer = await client.post(f"{path}/resolve", {"resolution_note": note})
        assert answer.status == 200
        after = (await client.get(path)).json
        assert answer.json == {"id": entry["id"], "status": "resolved", "resolved_at": after["resolved_at"]}
        assert after["resolution_note"] == note
        assert (await client.get(f"{PATH}?resolved=false")).json["total"] == 0
        assert (await client.get(f"{PATH}?resolved=true")).json["total"] == 1


async def test_many_are_counted_retried_and_resolved(settings: Settings) -> None:
    async with dead_symbol(settings, events=7) as (client, conn, market):
        dry = await client.post(f"{PATH}/retry", {"dry_run": True})
        assert dry.json == {"matched": 7, "selected": 7, "retried": 0, "skipped": 0, "dry_run": True}
        assert not dlq.RetriedMany().validate(dry.json)
        assert (await client.get(PATH)).json["items"][0]["retry_count"] == 3
        market.dead.clear()
        some = await client.post(f"{PATH}/retry", {"stage": "enrich", "max": 3, "per_second": 100})
        assert some.json == {"matched": 7, "selected": 3, "retried": 3, "skipped": 0, "dry_run": False}
        none = await client.post(f"{PATH}/retry", {"reason_code": "TIMEOUT", "until": "2001-01-01T00:00:00Z"})
        assert none.json["matched"] == 0
        oldest = (await client.get(f"{PATH}?limit=3&offset=4")).json["items"]
        assert await finished(conn, [UUID(each["event_id"]) for each in oldest]) == ["PUBLISHED"] * 3
        body = {"event_id": (await client.get(PATH)).json["items"][0]["event_id"], "resolution_note": "seen"}
        one = await client.post(f"{PATH}/resolve", body)
        assert one.json == {"matched": 1, "selected": 1, "resolved": 1, "dry_run": False}
        assert not dlq.ResolvedMany().validate(one.json)
        rest = await client.post(f"{PATH}/resolve", {"resolution_note": "all of them", "dry_run": True})
        assert rest.json == {"matched": 3, "selected": 3, "resolved": 0, "dry_run": True}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"max": 0}, "max"),
        ({"max": 1001}, "max"),
        ({"per_second": 0}, "per_second"),
        ({"per_second": 1e9}, "per_second"),
        ({"stage": "x"}, "stage"),
        ({"reason_code": "x"}, "reason_code"),
        ({"event_id": "x"}, "event_id"),
        ({"since": "x"}, "since"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"resolved": True}, "resolved"),
        ({"limit": 5}, "limit"),
    ],
)
async def test_a_bad_bulk_request_is_400_by_name(body: dict[str, Any], field: str) -> None:
    async with serving() as client:
        error = (await client.post(f"{PATH}/retry", body)).problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in error["details"]] == [field]
        error = (await client.post(f"{PATH}/resolve", {"dry_run": True})).problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in error["details"]] == ["resolution_note"]


async def test_a_bulk_request_may_have_its_selection_in_the_query(settings: Settings) -> None:
    rows = [
        dead_letter(START + timedelta(hours=n), stage=stage) for n, stage in enumerate(("enrich", "enrich", "publish"))
    ]
    quick = settings.replace(lens_retries=0)
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test gateway")
    try:
        async with pipeline(quick) as (actors, conn), serving(quick, pool=pool, actors=actors) as client:
            await insert_dead_letters(conn, rows)
            dry = await client.request("POST", f"{PATH}/retry?dry_run=true&max=2")
            assert dry.json == {"matched": 3, "selected": 2, "retried": 0, "skipped": 0, "dry_run": True}
            dry = await client.post(f"{PATH}/retry?stage=enrich&dry_run=true", {"stage": "enrich", "max": 5})
            assert dry.json == {"matched": 2, "selected": 2, "retried": 0, "skipped": 0, "dry_run": True}
            since = urlencode({"since": rfc3339(START + timedelta(hours=1))})
            done = await client.post(f"{PATH}/resolve?stage=enrich&{since}&resolved=false", {"resolution_note": "seen"})
            assert done.json == {"matched": 1, "selected": 1, "resolved": 1, "dry_run": False}
            done = await client.post(f"{PATH}/resolve?dry_run=true&max=1", {"resolution_note": "seen"})
            assert done.json == {"matched": 2, "selected": 1, "resolved": 0, "dry_run": True}
            resolved = await conn.fetchval("SELECT array_agg(id) FROM lens_dlq WHERE resolved_at IS NOT NULL")
            assert resolved == [rows[1].id]
            assert await conn.fetchval("SELECT count(*) FROM lens_dlq WHERE retrying OR last_retry_at IS NOT NULL") == 0
    finally:
        pool.terminate()


@pytest.mark.parametrize(
    ("query", "body", "field"),
    [
        ("stages=enrich", {}, "stages"),
        ("dryrun=true", {}, "dryrun"),
        ("limit=5", {}, "limit"),
        ("resolution_note=x", {}, "resolution_note"),
        ("stage=ENRICH", {}, "stage"),
        ("reason_code=x", {}, "reason_code"),
        ("event_id=x", {}, "event_id"),
        ("since=2026-01-01T00:00:00+01:00", {}, "since"),
        ("until=", {}, "until"),
        ("resolved=true", {}, "resolved"),
        ("dry_run=1", {}, "dry_run"),
        ("dry_run=true&dry_run=false", {}, "dry_run"),
        ("max=0", {}, "max"),
        ("max=1001", {}, "max"),
        ("stage=enrich", {"stage": "publish"}, "stage"),
        ("stage=enrich", {"stage": None}, "stage"),
        ("dry_run=true", {"dry_run": False}, "dry_run"),
        ("max=5", {"max": 6}, "max"),
        ("since=2026-01-01T00:00:00Z", {"since": "2026-01-01T00:00:01Z"}, "since"),
    ],
)
async def test_a_bad_unknown_or_contradictory_parameter_of_a_bulk_request_is_400_by_name(
    query: str, body: dict[str, Any], field: str
) -> None:
    async with serving() as client:
        for path, more in (("retry", {}), ("resolve", {"resolution_note": "x"})):
            answer = await client.post(f"{PATH}/{path}?{query}", body | more)
            error = answer.problem(400, "VALIDATION_ERROR")
            assert [each["field"] for each in error["details"]] == [field]


async def test_only_a_retry_has_a_pace() -> None:
    async with serving() as client:
        for path, query in (("retry", "per_second=0"), ("resolve", "per_second=5")):
            answer = await client.post(f"{PATH}/{path}?{query}", {"resolution_note": "x"} if path == "resolve" else {})
            error = answer.problem(400, "VALIDATION_ERROR")
            assert [each["field"] for each in error["details"]] == ["per_second"]


async def test_lists_without_postgres_are_a_quick_503(settings: Settings) -> None:
    away = await create_pool("postgresql://postgres@127.0.0.1:1/none", 2, name="away")
    async with serving(settings, pool=away) as client:
        for path in (PATH, f"{PATH}/{uuid7()}"):
            (await client.get(path)).problem(503, "SERVICE_UNAVAILABLE")
    away.terminate()
