"""The evaluate stage with the remote models: each is independent of the others' failures."""

from __future__ import annotations

import importlib
import time
from decimal import Decimal
from typing import Any

import orjson
import pytest

from actors.lens.publication import system_provider_id
from config.settings import Settings
from db.lens.reads import get_event
from tests.integration.test_lens_pipeline import pipeline, post
from tests.peers.model_apis import GOOD, GOOD_EXIT, ModelPeer, hangs, hangs_on, says, status
from tests.support.lens_factory import finished, submit, until

# Imported before any loop runs: each SDK takes a second, in which the stages that share the loop here would stall.
for _package in ("openai", "google.genai", "anthropic"):
    importlib.import_module(_package)

EVERY = ("chatgpt", "gemini", "claude", "deepseek", "technical")


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.replace(lens_retry_base_seconds=0.02, lens_retry_max_seconds=0.05)


async def dead_letters(conn: Any) -> dict[str, Any]:
    rows = await conn.fetch("SELECT model, reason_code, error_message, retry_count, attempts, stage FROM lens_dlq")
    return {row["model"]: row for row in rows}


async def test_every_model_decides_and_the_prompt_is_stored_with_what_it_said(settings: Settings) -> None:
    async with ModelPeer() as peer, pipeline(peer.settings(settings, *EVERY)) as (actors, conn):
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        rows = {row["model"]: row for row in await conn.fetch("SELECT * FROM lens_decisions")}
        assert sorted(rows) == sorted(EVERY)
        assert rows["chatgpt"]["model_version"] == "gpt-4o"
        for name in EVERY[:4]:
            assert rows[name]["decision"] == "FOLLOW_ENTER"
            assert rows[name]["confidence"] == GOOD["confidence"]
            assert rows[name]["tokens_used"] == 1250
            assert len(bytes.fromhex(rows[name]["prompt_hash"])) == 32
        event = await get_event(conn, event_id)
        assert event is not None
        done = [line["details"]["model"] for line in event.timeline if line["status"] == "MODEL_DONE"]
        assert sorted(done) == sorted(EVERY)


async def test_a_prompt_to_close_has_the_position_that_would_be_closed(settings: Settings) -> None:
    """The prompt has this provider's oldest open position in any spelling, and null where nothing is open."""
    async with ModelPeer() as peer, pipeline(peer.settings(settings, "chatgpt", "claude")) as (actors, conn):
        await conn.execute(
            """INSERT INTO signal_outcomes (signal_id, provider_id, asset_type, symbol, direction, entry_price,
                                            opened_seq, opened_at, status)
               SELECT gen_random_uuid(), CASE WHEN n = 4 THEN gen_random_uuid() ELSE $1 END, type, 'BTC', 'short',
                      price, n, now(), status
               FROM (VALUES (1, 'crypto', 30000, 'PROFIT'), (2, 'crypto', 40000, 'PENDING'),
                            (3, 'crypto', 50000, 'PENDING'), (4, 'crypto', 60000, 'PENDING'), (0, 'etf', 9, 'PENDING'))
                    AS o (n, type, price, status)""",
            system_provider_id("strategy_alpha"),
        )
        closing = {"event_type": "CLOSE_SIGNAL", "liquidation_price": None, "entry_price": Decimal(42000)}
        for direction, symbol in (("close_short", "BTC/USD"), ("close_long", "BTC")):
            for name in ("chatgpt", "claude"):
                peer.always(name, says(GOOD_EXIT))
            ids = await post(actors, submit(symbol=symbol, signal_direction=direction, **closing))
            assert await finished(conn, ids) == ["PUBLISHED"]
        for name in ("chatgpt", "claude"):
            asked = [orjson.dumps(body).decode() for body, _ in peer.requests[name]]
            assert len(asked) == 2
            assert '{\\"opening_price\\":40000.0,\\"result\\":-0.05}' in asked[0]
            assert '\\"position\\":null' in asked[1]


async def test_a_model_that_fails_leaves_its_own_dead_letter_with_the_true_reason(quick: Settings) -> None:
    async with ModelPeer() as peer, pipeline(peer.settings(quick, *EVERY)) as (actors, conn):
        peer.always("chatgpt", status(401, "Incorrect API key provided."))
        peer.always("gemini", says({**GOOD, "confidence": 7}))
        peer.always("claude", says("I would rather not.", "refused"))
        peer.next("deepseek", status(503), says("{"))
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        found = await dead_letters(conn)
        assert {name: row["reason_code"] for name, row in found.items()} == {
            "chatgpt": "PROVIDER_ERROR",
            "gemini": "SCHEMA_ERROR",
            "claude": "MODEL_ERROR",
        }
        assert {row["stage"] for row in found.values()} == {"evaluate"}
        message = "OpenAI API returned 401 Unauthorized: Incorrect API key provided."
        assert found["chatgpt"]["error_message"] == message
        assert found["gemini"]["error_message"] == "Gemini API: confidence: must be between 0 and 1"
        assert "the model refused to answer" in found["claude"]["error_message"]
        retries = {name: (row["retry_count"], len(row["attempts"])) for name, row in found.items()}
        assert retries == {"chatgpt": (0, 1), "gemini": (3, 4), "claude": (0, 1)}, "what is final is not tried again"
        asked = {name: len(peer.requests[name]) for name in EVERY[:4]}
        assert asked == {"chatgpt": 1, "gemini": 4, "claude": 1, "deepseek": 3}
        decided = await conn.fetch("SELECT model FROM lens_decisions ORDER BY model")
        assert [row["model"] for row in decided] == ["deepseek", "technical"]


async def test_an_event_ends_in_the_queue_when_no_model_could_judge(quick: Settings) -> None:
    async with ModelPeer() as peer, pipeline(peer.settings(quick, "chatgpt", "claude")) as (actors, conn):
        peer.always("chatgpt", status(404, "No such model."))
        peer.always("claude", status(403, "Not for you."))
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["FAILED"]
        assert sorted(await dead_letters(conn)) == ["chatgpt", "claude"]


async def test_a_vendor_is_left_alone_for_as_long_as_it_asks(quick: Settings) -> None:
    async with ModelPeer() as peer, pipeline(peer.settings(quick, "claude")) as (actors, conn):
        peer.next("claude", status(429, headers={"Retry-After": "3"}))
        began = time.monotonic()
        [event_id] = await post(actors, submit())
        assert await finished(conn, [event_id]) == ["PUBLISHED"]
        # 3 s and up to a quarter more: longer than any delay of this policy, and in the database, not in the worker.
        assert 3.0 <= time.monotonic() - began < 8.0
        assert len(peer.requests["claude"]) == 2


async def test_a_signal_that_a_model_hangs_on_delays_no_other(settings: Settings) -> None:
    async with (
        ModelPeer() as peer,
        pipeline(peer.settings(settings, "gemini", "technical", lens_model_timeout_seconds=20.0)) as (actors, conn),
    ):
        peer.always("gemini", hangs_on("STUCK"))
        stuck, *others = await post(actors, submit(symbol="STUCK"), *(submit(symbol=f"S{n}") for n in range(20)))
        began = time.monotonic()
        assert await finished(conn, others) == ["PUBLISHED"] * 20
        assert time.monotonic() - began < 5.0
        status_now = await conn.fetchval("SELECT status FROM lens_progress WHERE event_id = $1", stuck)
        assert status_now == "MODEL_DONE", "what the other model said of it is stored already"


async def test_a_model_that_is_stuck_is_given_up_and_then_nobody_waits_for_it(quick: Settings) -> None:
    allowed = 0.5
    async with (
        ModelPeer() as peer,
        pipeline(peer.settings(quick, "chatgpt", "technical", lens_model_timeout_seconds=allowed)) as (actors, conn),
    ):
        peer.always("chatgpt", hangs)
        first = await post(actors, *(submit(symbol=f"S{n}") for n in range(12)))
        assert await finished(conn, first) == ["PUBLISHED"] * 12
        asked = len(peer.requests["chatgpt"])
        assert asked <= 12 + 4, "after the first time-outs the calls are paused, but for probes"
        rows = await conn.fetch("SELECT DISTINCT reason_code FROM lens_dlq")
        assert [row["reason_code"] for row in rows] == ["TIMEOUT"]

        async def is_paused() -> bool:
            [event_id] = await post(actors, submit())
            began = time.monotonic()
            await finished(conn, [event_id])
            return time.monotonic() - began < allowed

        await until(is_paused)
