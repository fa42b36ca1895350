"""Signals in, events out: the Lens API over real Postgres and Valkey, the pipeline's actors in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from actors.lens.enrich import Enrich
from actors.lens.evaluate import Evaluate
from actors.lens.intake import Intake
from actors.lens.messages import ENRICH, EVALUATE, INTAKE, PUBLISH
from actors.lens.publish import Publish
from config.clock import rfc3339
from config.ids import uuid7
from config.settings import Settings
from db._postgres import create_pool
from db._redis import create_redis
from handlers._http.limits import Limiter
from schemas import lens
from tests.api.serving import SIGNAL, Client, serving
from tests.support.local_actors import local_actors


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[Client]:
    """A gateway with everything that the Lens API needs."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    async with AsyncExitStack() as stack:
        pool = await create_pool(settings.database_url, 4, name="test gateway")
        stack.callback(pool.terminate)
        redis = create_redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        stages: dict[str, Any] = {INTAKE: Intake(), ENRICH: Enrich(), EVALUATE: Evaluate(), PUBLISH: Publish()}
        actors = await stack.enter_async_context(local_actors(settings, stages))
        limiter = Limiter(redis, standard_limit=settings.rate_limit_per_minute, enabled=settings.rate_limit_enabled)
        services = {"pool": pool, "redis": redis, "actors": actors, "limiter": limiter}
        yield await stack.enter_async_context(serving(settings, **services))


async def ended(client: Client, event_id: str) -> dict[str, Any]:
    """Return the event once it has ended."""
    async with asyncio.timeout(15):
        while True:
            event: dict[str, Any] = (await client.get(f"/api/v1/events/{event_id}")).json
            if event["status"] in {"PUBLISHED", "REJECTED", "FAILED"}:
                return event
            await asyncio.sleep(0.05)


@pytest.fixture
def unlimited(settings: Settings) -> Settings:
    return settings.replace(rate_limit_enabled=False)


async def test_the_documents_example_is_accepted_and_its_whole_story_can_be_read(unlimited: Settings) -> None:
    async with gateway(unlimited) as client:
        response = await client.post("/api/v1/signals", SIGNAL)
        assert response.status == 201
        assert not lens.SignalAccepted().validate(response.json)
        assert response.json["status"] == "ENQUEUED"
        assert "Idempotent-Replayed" not in response.headers
        event_id = response.json["event_id"]
        assert UUID(event_id).version == 7

        event = await ended(client, event_id)
        assert not lens.EventSchema().validate(event)
        assert event["status"] == "PUBLISHED"
        assert {name: event[name] for name in SIGNAL} == SIGNAL | {"ts_utc": "2024-01-15T10:30:00.000Z"}
        assert event["received_at"] == response.json["received_at"]
        steps = [step["status"] for step in event["timeline"]]
        assert steps == ["RECEIVED", "ENQUEUED", "ENRICHED", "MODEL_DONE", "PUBLISHED"]
        assert event["enriched"]["quality_flags"]["stale_data"] == ["signal"]
        assert [each["model"] for each in event["decisions"]] == ["technical"]

        status = (await client.get(f"/api/v1/events/{event_id}/status")).json
        assert not lens.EventStatusSchema().validate(status)
        assert (status["status"], status["current_stage"]) == ("PUBLISHED", "COMPLETE")
        assert status["duration_ms"] == spanned_ms(event["timeline"]) < 15_000
        assert (await client.get(f"/api/v1/events/{event_id}/status")).json == status


def spanned_ms(timeline: list[dict[str, Any]]) -> int:
    first, last = (datetime.fromisoformat(timeline[place]["timestamp"]) for place in (0, -1))
    return (last - first) // timedelta(milliseconds=1)


@pytest.mark.parametrize("ending", ["PUBLISHED", "REJECTED", "FAILED"])
async def test_the_duration_of_an_event_that_has_ended_is_that_of_its_timeline(
    unlimited: Settings, ending: str
) -> None:
    """The kind: two numbers of one thing, here of one event's time, that come from two clocks and disagree."""
    async with gateway(unlimited) as client:
        event_id = (await client.post("/api/v1/signals", SIGNAL)).json["event_id"]
        await ended(client, event_id)
        conn = await asyncpg.connect(unlimited.database_url)
        try:
            await conn.execute(
                "UPDATE lens_progress SET status = $2, finished_at = '2024-01-15T10:31:00Z', timeline = $3::text::jsonb"
                " WHERE event_id = $1",
                UUID(event_id),
                ending,
                """[{"status": "RECEIVED", "timestamp": "2024-01-15T10:30:00.123Z"},
                    {"status": "ENQUEUED", "timestamp": "2024-01-15T10:30:00.125Z"},
                    {"status": "ENDED", "timestamp": "2024-01-15T10:30:04.510Z"}]""",
            )
        finally:
            await conn.close()
        status = (await client.get(f"/api/v1/events/{event_id}/status")).json
        assert (status["status"], status["duration_ms"]) == (ending, 4387)


async def test_prices_come_back_with_all_their_digits(unlimited: Settings) -> None:
    async with gateway(unlimited) as client:
        body = b'{"event_type":"OPEN_SIGNAL","symbol":"pepe","signal_direction":"short","source":"a",'
        body += b'"entry_price":0.000000012345678901,"size":123456789012345,"ts_utc":"2024-01-15T12:30:00.5+02:00"}'
        response = await client.request(
            "POST", "/api/v1/signals", headers={"Content-Type": "application/json"}, body=body
        )
        answer = await client.get(f"/api/v1/events/{response.json['event_id']}")
        assert b'"entry_price":0.000000012345678901,' in answer.body
        assert b'"size":123456789012345,' in answer.body
        assert (answer.json["symbol"], answer.json["ts_utc"]) == ("PEPE", "2024-01-15T10:30:00.500Z")


@pytest.mark.parametrize(
    "changes",
    [
        {
            "symbol": "AAPL 195C 3/15",
            "asset_type": "option",
            "asset_data": {"strike": 195.0, "greeks": {"delta": 0.45}},
        },
        {
            "symbol": "Fed Rate Cut March",
            "asset_type": "prediction",
            "asset_data": {"probability": 0.68},
            "entry_price": 0.68,
            "liquidation_price": None,
        },
        {"symbol": "EUR/USD", "asset_type": "forex", "asset_data": None},
        {"asset_data": {"price": 67420, "price_change_24h": -0.032}, "commentary": "Strong setup 🚀"},
        {"event_type": "CLOSE_SIGNAL", "signal_direction": "close_short", "liquidation_price": None},
    ],
)
async def test_every_asset_type_comes_back_as_it_was_sent(unlimited: Settings, changes: dict[str, Any]) -> None:
    async with gateway(unlimited) as client:
        response = await client.post("/api/v1/signals", SIGNAL | changes)
        assert response.status == 201, response.body
        event = await ended(client, response.json["event_id"])
        assert not lens.EventSchema().validate(event)
        assert {name: event[name] for name in changes} == changes


OPTION = {"symbol": "AAPL 195C 3/15", "asset_type": "option", "asset_data": {"underlying": "aapl", "strike": 195.0}}
PREDICTION = {"symbol": "Snow", "asset_type": "prediction", "entry_price": 0.68, "liquidation_price": None}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (OPTION | {"asset_data": {"underlying": "MSFT"}}, "asset_data.underlying"),
        (OPTION | {"asset_data": {"strike": 196}}, "asset_data.strike"),
        (OPTION | {"asset_data": {"option_type": "put"}}, "asset_data.option_type"),
        (OPTION | {"asset_data": {"expiry": "2026-03-16"}}, "asset_data.expiry"),
        (OPTION | {"symbol": "AAPL 195C 3/15/2027", "asset_data": {"expiry": "2026-03-15"}}, "asset_data.expiry"),
        (PREDICTION | {"entry_price": 1}, "entry_price"),
        (PREDICTION | {"entry_price": 68}, "entry_price"),
        (PREDICTION | {"asset_data": {"probability": 1.2}}, "asset_data.probability"),
        (PREDICTION | {"asset_data": {"probability": 0.32}}, "entry_price"),
    ],
)
async def test_two_fields_that_say_one_thing_agree(unlimited: Settings, changes: dict[str, Any], field: str) -> None:
    """The kind: one fact in two fields that may contradict each other."""
    async with gateway(unlimited) as client:
        problem = (await client.post("/api/v1/signals", SIGNAL | changes)).problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in problem["details"]] == [field]


async def test_a_position_may_end_where_a_probability_does(unlimited: Settings) -> None:
    closing = PREDICTION | {"event_type": "CLOSE_SIGNAL", "signal_direction": "close_long", "entry_price": 1}
    async with gateway(unlimited) as client:
        assert (await client.post("/api/v1/signals", SIGNAL | closing)).status == 201
        closing["entry_price"] = 1.01
        (await client.post("/api/v1/signals", SIGNAL | closing)).problem(400, "VALIDATION_ERROR")


@pytest.mark.parametrize(("ahead", "status"), [(0, 201), (290, 201), (310, 400), (10**9, 400)])
async def test_a_clock_may_be_ahead_by_five_minutes(unlimited: Settings, ahead: int, status: int) -> None:
    """The kind: a time of a foreign clock that is trusted without a bound."""
    async with gateway(unlimited) as client:
        stamp = rfc3339(datetime.now(UTC) + timedelta(seconds=ahead))
        response = await client.post("/api/v1/signals", SIGNAL | {"ts_utc": stamp})
        assert response.status == status, response.body
        if status == 400:
            assert [each["field"] for each in response.json["error"]["details"]] == ["ts_utc"]
        else:
            event = await ended(client, response.json["event_id"])
            assert event["enriched"]["quality_flags"]["stale_data"] == []


async def test_more_digits_than_a_column_has_are_rounded_half_to_even(unlimited: Settings) -> None:
    """The kind: a number with a program's rounding digits, refused for those digits."""
    async with gateway(unlimited) as client:
        for sent, stored in (
            (b"0.12345678901234567890", b"0.123456789012345679"),
            (b"0.1000000000000000005", b"0.1"),
            (b"0.1000000000000000015", b"0.100000000000000002"),
        ):
            body = orjson.dumps(SIGNAL).replace(b'"size":0.1', b'"size":' + sent)
            response = await client.request(
                "POST", "/api/v1/signals", headers={"Content-Type": "application/json"}, body=body
            )
            assert response.status == 201, response.body
            answer = await client.get(f"/api/v1/events/{response.json['event_id']}")
            assert orjson.loads(answer.body)["size"] == float(stored)
            assert b'"size":' + stored in answer.body
        body = orjson.dumps(SIGNAL).replace(b'"size":0.1', b'"size":1e-19')
        response = await client.request(
            "POST", "/api/v1/signals", headers={"Content-Type": "application/json"}, body=body
        )
        assert response.problem(400, "VALIDATION_ERROR")["details"][0]["field"] == "size"


async def test_a_symbol_of_a_thousand_units_is_the_coin_s_and_a_pair_needs_its_separator(unlimited: Settings) -> None:
    many = SIGNAL | {"symbol": "1000PEPE", "entry_price": 0.0112, "size": 2, "liquidation_price": 0.01}
    async with gateway(unlimited) as client:
        event_id = (await client.post("/api/v1/signals", many)).json["event_id"]
        event = (await client.get(f"/api/v1/events/{event_id}")).json
        shown = (event["symbol"], event["entry_price"], event["liquidation_price"], event["size"])
        assert shown == ("PEPE", 0.0000112, 0.00001, 2000)
        for symbol in ("1000pepe", "PEPE", "1000PEPE-PERP"):
            assert (await client.get(f"/api/v1/events?symbol={symbol}")).json["total"] == 1
        refused = (await client.post("/api/v1/signals", SIGNAL | {"symbol": "ETHBTC"})).problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in refused["details"]] == ["symbol"]
        await ended(client, event_id)
        enriched = (await client.get(f"/api/v1/events/{event_id}")).json["enriched"]
        assert enriched["verified"] is True
        quote = enriched["quote"]
        assert enriched["record_price"] >= quote["ask"] > quote["mid"] > quote["bid"]


@pytest.mark.parametrize("symbol", ["BTC", "btc/usd", "BTC-PERP"])
async def test_the_lists_find_each_spelling_of_an_instrument(unlimited: Settings, symbol: str) -> None:
    async with gateway(unlimited) as client:
        for each in ("BTC", "BTC/USD", "BTC-PERP", "BTC/EUR"):
            event_id = (await client.post("/api/v1/signals", SIGNAL | {"symbol": each})).json["event_id"]
            await ended(client, event_id)
        for path in ("events", "decisions"):
            found = (await client.get(f"/api/v1/{path}?symbol={symbol.replace('/', '%2F')}")).json
            assert {each["symbol"] for each in found["items"]} == {"BTC", "BTC/USD", "BTC-PERP"}
            assert found["total"] == 3


async def test_an_idempotency_key_makes_one_event_of_many_requests(unlimited: Settings) -> None:
    async with gateway(unlimited) as client:
        same = await asyncio.gather(
            *(client.post("/api/v1/signals", SIGNAL, X_Idempotency_Key="k1") for _ in range(10))
        )
        assert {response.status for response in same} == {201}
        assert len({response.body for response in same}) == 1
        assert sum("Idempotent-Replayed" in response.headers for response in same) == 9
        respelled = orjson.dumps(SIGNAL).replace(b"42000.5", b"4.200050e4")
        headers = {"Content-Type": "application/json", "X-Idempotency-Key": "k1"}
        again = await client.request("POST", "/api/v1/signals", headers=headers, body=respelled)
        assert (again.status, again.body) == (201, same[0].body)
        other = await client.post("/api/v1/signals", SIGNAL | {"size": 0.2}, X_Idempotency_Key="k1")
        other.problem(422, "IDEMPOTENCY_MISMATCH")
        foreign = await client.post("/api/v1/signals", SIGNAL | {"source": "beta"}, X_Idempotency_Key="k1")
        assert foreign.status == 201
        assert (await client.get("/api/v1/events")).json["total"] == 2


async def test_events_are_listed_newest_first_filtered_and_counted(unlimited: Settings) -> None:
    async with gateway(unlimited) as client:
        ids = []
        for number, symbol in enumerate(("BTC", "ETH", "BTC", "SOL")):
            changes = {"symbol": symbol, "source": f"s{number}"}
            ids.append((await client.post("/api/v1/signals", SIGNAL | changes)).json["event_id"])
        for event_id in ids:
            await ended(client, event_id)
        page = (await client.get("/api/v1/events")).json
        assert not lens.PageOfEvents().validate(page)
        assert [item["event_id"] for item in page["items"]] == ids[::-1]
        assert (page["total"], page["limit"], page["offset"]) == (4, 50, 0)

        async def found(query: str) -> list[int]:
            page = (await client.get(f"/api/v1/events?{query}")).json
            return [ids.index(item["event_id"]) for item in page["items"]]

        assert await found("symbol=BTC") == [2, 0]
        assert await found("source=s1") == [1]
        assert await found("status=PUBLISHED&limit=2&offset=1") == [2, 1]
        assert await found("event_type=CLOSE_SIGNAL") == []
        assert await found("since=2999-01-01T00:00:00Z") == []
        assert await found("until=2999-01-01T00:00:00%2B02:00&unknown=ignored") == [3, 2, 1, 0]
        received = (await client.get(f"/api/v1/events/{ids[2]}")).json["received_at"]
        assert set(await found(f"since={received}")) >= {3, 2}
        past_the_end = (await client.get("/api/v1/events?offset=10")).json
        assert (past_the_end["items"], past_the_end["total"]) == ([], 4)


@pytest.mark.parametrize("path", ["/api/v1/events/{}", "/api/v1/events/{}/status"])
async def test_an_event_that_never_was_is_404(unlimited: Settings, path: str) -> None:
    async with gateway(unlimited) as client:
        for event_id in (uuid7(), "nonsense", "550e8400e29b41d4a716446655440000"):
            error = (await client.get(path.format(event_id))).problem(404, "NOT_FOUND")
            assert error["message"] == "Event not found"


async def test_submissions_are_limited_and_say_so_from_sixty_on(settings: Settings) -> None:
    async with gateway(settings) as client:
        responses = [await client.post("/api/v1/signals", {}) for _ in range(121)]
        counted = [response.headers.get("X-RateLimit-Remaining") for response in responses]
        assert counted == [None] * 59 + [str(120 - number) for number in range(60, 121)] + ["0"]
        assert {response.status for response in responses[:120]} == {400}
        error = responses[120].problem(429, "RATE_LIMITED")
        assert error["message"] == "Rate limit exceeded"
        assert 1 <= error["retry_after"] <= 60
        assert responses[120].headers["X-RateLimit-Limit"] == "120"
        assert responses[120].headers["X-RateLimit-Reset"] == str(error["retry_after"])


async def test_other_routes_are_limited_each_and_health_is_not(settings: Settings) -> None:
    async with gateway(settings.replace(rate_limit_per_minute=3, rate_limits=(("GET /api/docs", 2),))) as client:
        first = await client.get("/api/v1/events")
        assert (first.headers["X-RateLimit-Limit"], first.headers["X-RateLimit-Remaining"]) == ("3", "2")
        for _ in range(2):
            await client.get("/api/v1/events")
        (await client.get("/api/v1/events")).problem(429, "RATE_LIMITED")
        assert (await client.get(f"/api/v1/events/{uuid7()}")).status == 404
        assert [(await client.get("/api/docs")).status for _ in range(3)] == [200, 200, 429]
        for path in ("/health", "/metrics", "/nothing"):
            responses = [await client.get(path) for _ in range(5)]
            assert 429 not in {response.status for response in responses}
            assert "X-RateLimit-Limit" not in responses[0].headers
        assert "X-RateLimit-Limit" not in (await client.request("OPTIONS", "/api/v1/events")).headers


async def test_answers_without_postgres_are_a_quick_503(unlimited: Settings) -> None:
    away = await create_pool("postgresql://postgres@127.0.0.1:1/none", 2, name="away")
    async with serving(unlimited, pool=away) as client:
        async with asyncio.timeout(2):
            error = (await client.get("/api/v1/events")).problem(503, "SERVICE_UNAVAILABLE")
        assert error["retry_after"] >= 1
    away.terminate()
