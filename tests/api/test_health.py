"""Liveness, readiness and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from config.settings import Settings
from db._postgres import create_pool
from db._redis import create_redis
from handlers._http import readiness
from handlers._http.readiness import ReadinessProbe, Report
from schemas import health
from schemas.errors import ActorUnavailable
from tests.api.serving import Client, serving

NOWHERE = "127.0.0.1:1"


class Actors:
    """A registry with these actors' states."""

    def __init__(self, **figures: Any) -> None:
        self.figures = figures or {"intake": {"ready": True}}
        self.asked = 0

    async def probe(self) -> dict[str, Any]:
        self.asked += 1
        if self.figures.get("hang"):
            await asyncio.sleep(60)
        return self.figures


@asynccontextmanager
async def gateway(settings: Settings, actors: Actors, **urls: str) -> AsyncIterator[Client]:
    """A gateway on this test's services, or on others."""
    pool = await create_pool(urls.get("database") or settings.database_url or "", 2, name="test")
    redis = create_redis(urls.get("redis") or settings.redis_url or "")
    try:
        async with serving(settings, pool=pool, redis=redis, actors=actors) as client:
            yield client
    finally:
        pool.terminate()
        await redis.aclose()


async def test_ready_names_every_dependency(settings: Settings) -> None:
    async with gateway(settings, Actors()) as client:
        for path in ("/ready", "/api/v1/ready"):
            response = await client.get(path)
            assert response.status == 200
            assert not health.Readiness().validate(response.json)
            assert response.json["status"] == "ready"
            assert response.json["dependencies"] == {"redis": "ok", "postgres": "ok", "ray": "ok"}


async def test_ready_is_red_without_postgres(settings: Settings) -> None:
    async with gateway(settings, Actors(), database=f"postgresql://postgres@{NOWHERE}/x") as client:
        response = await client.get("/ready")
        assert (response.status, response.json["status"]) == (503, "not_ready")
        assert response.json["dependencies"]["postgres"] == "error: connection refused"
        assert response.json["dependencies"]["redis"] == "ok"
        assert (await client.get("/health")).status == 200


async def test_ready_is_green_without_redis_and_says_what_is_missing(settings: Settings) -> None:
    async with gateway(settings, Actors(), redis=f"redis://{NOWHERE}") as client:
        response = await client.get("/ready")
        assert (response.status, response.json["status"]) == (200, "ready")
        assert response.json["dependencies"]["redis"].startswith("error: ")
        assert "127.0.0.1" not in response.json["dependencies"]["redis"]


@pytest.mark.parametrize("figures", [{"ready": False}, ActorUnavailable("ActorDiedError: pid 17 of 10.0.0.1")])
async def test_ready_is_red_while_an_actor_is_unavailable(settings: Settings, figures: Any) -> None:
    async with gateway(settings, Actors(fine={"ready": True}, intake=figures)) as client:
        response = await client.get("/ready")
        assert response.status == 503
        assert response.json["dependencies"]["ray"] == "error: intake not ready"


async def test_a_hanging_probe_is_given_up_in_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.2)
    async with gateway(settings, Actors(hang=True)) as client:
        began = time.monotonic()
        response = await client.get("/ready")
        assert time.monotonic() - began < 1
        assert response.json["dependencies"]["ray"] == "error: no answer in time"


async def test_a_storm_of_probes_costs_one(settings: Settings) -> None:
    actors = Actors()
    async with gateway(settings, actors) as client:
        responses = await asyncio.gather(*(client.get("/ready") for _ in range(100)))
        assert {response.status for response in responses} == {200}
        assert actors.asked <= 2


async def test_a_request_in_the_moment_when_the_first_probe_ends_is_answered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kind: a shared answer whose time is written before the answer is, so that between them it is the last one."""
    probe, late = ReadinessProbe._probe, list[asyncio.Task[Report]]()
    async with gateway(settings, Actors()) as client:

        async def probe_and_ask_again(readiness: ReadinessProbe, services: Any) -> dict[str, str]:
            found = await probe(readiness, services)
            late.append(asyncio.create_task(readiness.report(client.application.gateway)))  # noqa: TID251 - kept here
            return found

        monkeypatch.setattr(ReadinessProbe, "_probe", probe_and_ask_again)
        assert (await client.get("/ready")).status == 200
        assert (await late[0]).is_ready


async def test_ready_is_red_while_the_server_drains_or_starts(settings: Settings) -> None:
    async with gateway(settings, Actors()) as client:
        for state in ("draining", "starting"):
            client.application.gateway.lifecycle.state = state  # type: ignore[assignment]
            response = await client.get("/ready")
            assert (response.status, response.json["status"]) == (503, "not_ready")
            assert response.json["dependencies"]["postgres"] == "ok"


async def test_metrics_are_labelled_by_the_routes_pattern_and_nothing_unbounded(settings: Settings) -> None:
    async with gateway(settings, Actors()) as client:
        await client.get("/api/v1/events/no-such-id")
        await client.get("/nothing/of/the/kind")
        await client.request("BREW", "/health")
        for path in ("/metrics", "/api/v1/metrics"):
            response = await client.get(path)
            assert response.headers["Content-Type"].startswith("text/plain")
            text = response.body.decode()
            assert 'requests_total{method="GET",route="/api/v1/events/{event_id}",status="404"}' in text
            assert 'requests_total{method="other",route="unmatched",status="404"}' in text
            assert 'requests_total{method="other",route="/health",status="405"}' in text
            assert "no-such-id" not in text
            assert "BREW" not in text
            assert "tradestream_http_request_seconds_bucket" in text
