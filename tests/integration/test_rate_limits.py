"""Rate limits over a real Valkey: what the script counts, one round trip for many, and life without Redis."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import ResponseError

from db import _redis
from db._redis import RedisClient, create_redis
from handlers._http.limits import EXEMPT, STANDARD, Limiter, Rule
from tests.api.serving import until

FIXED = Rule(5, window_seconds=60)
SLIDING = Rule(5, window_seconds=1, sliding=True)


@asynccontextmanager
async def limiter(url: str, *, enabled: bool = True) -> AsyncIterator[tuple[Limiter, RedisClient]]:
    redis = create_redis(url)
    try:
        yield Limiter(redis, standard_limit=60, enabled=enabled), redis
    finally:
        await redis.aclose()


async def test_a_fixed_window_is_counted_and_expires(redis_url: str) -> None:
    async with limiter(redis_url) as (limits, redis):
        verdicts = [await limits.check(FIXED, "GET /x", "a") for _ in range(7)]
        assert [verdict and verdict.allowed for verdict in verdicts] == [True] * 5 + [False] * 2
        assert [verdict and verdict.remaining for verdict in verdicts] == [4, 3, 2, 1, 0, 0, 0]
        assert all(verdict and 59 <= verdict.reset_seconds <= 60 for verdict in verdicts)
        [key] = await redis.keys("*")
        assert 0 < await redis.pttl(key) <= 60_000
        await redis.delete(key)
        verdict = await limits.check(FIXED, "GET /x", "a")
        assert verdict is not None
        assert verdict.allowed


async def test_routes_and_callers_count_for_themselves(redis_url: str) -> None:
    async with limiter(redis_url) as (limits, _):
        for _ in range(6):
            await limits.check(FIXED, "GET /x", "a")
        for route, subject in (("GET /x", "b"), ("GET /y", "a")):
            verdict = await limits.check(FIXED, route, subject)
            assert verdict is not None
            assert verdict.used == 1


async def test_a_sliding_window_lets_in_again_as_time_passes(redis_url: str) -> None:
    async with limiter(redis_url) as (limits, redis):
        first = [await limits.check(SLIDING, "GET /x", "a") for _ in range(8)]
        assert [verdict and verdict.allowed for verdict in first] == [True] * 5 + [False] * 3
        began = time.monotonic()
        while not (verdict := await limits.check(SLIDING, "GET /x", "a")) or not verdict.allowed:
            assert time.monotonic() - began < 3
            await asyncio.sleep(0.02)
        assert 0.8 < time.monotonic() - began < 1.5
        [key] = await redis.keys("*")
        assert await redis.llen(key) <= 5


async def test_requests_that_wait_share_a_round_trip_and_none_is_lost(redis_url: str) -> None:
    async with limiter(redis_url) as (limits, redis):
        await limits.check(FIXED, "warm up", "a")
        before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
        rule = Rule(100)
        verdicts = await asyncio.gather(*(limits.check(rule, "GET /x", "a") for _ in range(500)))
        calls = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] - before
        assert sum(verdict is not None and verdict.allowed for verdict in verdicts) == 100
        assert sorted(verdict.used for verdict in verdicts if verdict is not None) == list(range(1, 501))
        assert calls <= 5


async def test_exempt_and_switched_off_limits_do_not_ask_redis(redis_url: str) -> None:
    async with limiter(redis_url) as (limits, redis):
        assert await limits.check(EXEMPT, "GET /health", "a") is None
        assert await redis.keys("*") == []
    async with limiter(redis_url, enabled=False) as (limits, redis):
        assert await limits.check(STANDARD, "GET /x", "a") is None
        assert await redis.keys("*") == []


async def test_requests_are_counted_here_without_redis_and_without_a_wait() -> None:
    async with limiter("redis://127.0.0.1:1") as (limits, _):
        began = time.monotonic()
        verdicts = [await limits.check(FIXED, "GET /x", "a") for _ in range(200)]
        assert time.monotonic() - began < 1
        assert sum(verdict is not None and verdict.allowed for verdict in verdicts) == 5


async def test_a_redis_that_does_not_answer_costs_one_short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis, "PROBE_SECONDS", 0.1)
    silent = socket.create_server(("127.0.0.1", 0))  # the kernel takes connections, and no process answers
    port = silent.getsockname()[1]
    async with limiter(f"redis://127.0.0.1:{port}") as (limits, redis):
        began = time.monotonic()
        await asyncio.gather(*(limits.check(FIXED, "GET /x", "a") for _ in range(50)))
        assert 0.2 < time.monotonic() - began < 0.6
        slowest = 0.0
        while time.monotonic() - began < 1.2:  # while the probes go on in the background
            asked = time.monotonic()
            await limits.check(FIXED, "GET /x", "a")
            slowest = max(slowest, time.monotonic() - asked)
            await asyncio.sleep(0.01)
        assert slowest < 0.1
        assert not redis.is_available
    silent.close()


async def test_a_redis_that_answers_pings_and_takes_no_writes_begins_no_window_anew(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(**_: object) -> object:
        raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")

    monkeypatch.setattr(_redis, "PROBE_SECONDS", 0.01)
    async with limiter(redis_url) as (limits, redis):
        changes: list[bool] = []
        redis.on_change(lambda: changes.append(redis.is_available))
        admitted = 0
        with monkeypatch.context() as full:
            full.setattr(limits, "_script", refuse)
            while len(changes) < 8:
                verdict = await limits.check(FIXED, "GET /x", "a")
                assert verdict is not None
                admitted += verdict.allowed
                await asyncio.sleep(0.005)
        assert admitted == 5
        await until(lambda: redis.is_trusted)
        verdict = await limits.check(FIXED, "GET /x", "a")
        assert verdict is not None
        assert verdict.used == 1, "Redis counts again, and has counted none of them"


async def test_redis_counts_again_when_it_is_back(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis, "PROBE_SECONDS", 0.05)
    async with limiter(redis_url) as (limits, redis):
        redis.failed(ConnectionError())
        await limits.check(FIXED, "GET /x", "a")
        assert await redis.keys("*") == []
        await until(lambda: redis.is_trusted)
        verdict = await limits.check(FIXED, "GET /x", "a")
        assert verdict is not None
        assert verdict.used == 1
        assert len(await redis.keys("*")) == 1
