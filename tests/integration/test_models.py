"""The four remote models over loopback, against servers that answer as the vendors' APIs do, well and badly."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

import actors.lens
from actors.lens.model import Evaluation
from actors.lens.models import Model, open_models
from config import clock
from config.settings import Settings
from schemas.decisions import response_schema
from tests.peers.model_apis import GOOD, GOOD_EXIT, ModelPeer, Turn, cuts, hangs, raw, redirects, resets, says, status
from tests.peers.model_dialects import DIALECTS, TOKENS_IN, TOKENS_OUT, VENDORS
from tests.support.lens_factory import until
from tests.unit.lens.factories import make_features, make_signal

MODELS = tuple(DIALECTS)
PROMPTS = Path(actors.lens.__file__).parent / "prompts"
SIGNAL = make_signal()
FEATURES = make_features(SIGNAL)
HALF = orjson.dumps(GOOD).decode()[:80]

each_model = pytest.mark.parametrize("name", MODELS)


@asynccontextmanager
async def opened(peer: ModelPeer, name: str, **changes: Any) -> AsyncIterator[Model]:
    [model] = open_models(peer.settings(Settings.load(env_file=None), name, **changes))
    try:
        yield model
    finally:
        await model.close()


async def judged(name: str, *turns: Turn, **changes: Any) -> Evaluation:
    """Make one judgement, and check that the peer was asked once: no SDK may retry on its own."""
    async with ModelPeer() as peer, opened(peer, name, **changes) as model:
        peer.next(name, *turns)
        run = await model.judge(SIGNAL, FEATURES)
        assert len(peer.requests[name]) == 1, "retries wait in the database, not in the SDK"
        return run


def question_hash(name: str, template: str, **changes: Any) -> str:
    """Return the hash of all that a decision depends on but the signal."""
    settings = Settings.load(env_file=None)
    vendor = {"chatgpt": "openai", "gemini": "google", "claude": "anthropic", "deepseek": "deepseek"}[name]
    question = {
        "model": name,
        "model_id": getattr(settings, f"{vendor}_model"),
        "template": hashlib.sha256((PROMPTS / template).read_bytes()).hexdigest(),
        "schema": response_schema("OPEN_SIGNAL"),
        "temperature": settings.lens_model_temperature,
        "max_tokens": settings.lens_model_max_tokens,
    }
    return hashlib.sha256(orjson.dumps(question | changes, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def test_the_prompt_s_hash_is_of_all_that_was_asked_and_how() -> None:
    """The kind: a hash of a part, so that two questions that differ elsewhere are taken for one."""
    one = await judged("chatgpt")
    hotter = await judged("chatgpt", lens_model_temperature=0.9)
    longer = await judged("chatgpt", lens_model_max_tokens=2000)
    assert hotter.prompt_hash == question_hash("chatgpt", "open_signal.v2.md", temperature=0.9)
    assert longer.prompt_hash == question_hash("chatgpt", "open_signal.v2.md", max_tokens=2000)
    assert len({one.prompt_hash, hotter.prompt_hash, longer.prompt_hash}) == 3


@each_model
async def test_a_good_answer_becomes_a_decision_with_its_costs_and_its_transcript(name: str) -> None:
    run = await judged(name)
    assert (run.status, run.error, run.reason_code, run.is_final) == ("SUCCESS", None, None, False)
    assert run.decision is not None
    found = orjson.loads(orjson.dumps(run.decision.to_dict()))
    assert found == {**GOOD, "risk_plan": {"stop_method": "atr", "atr_multiple": 2.0}}
    assert run.tokens_used == TOKENS_IN + TOKENS_OUT
    assert run.prompt_hash == question_hash(name, "open_signal.v2.md")
    assert run.transcript is not None
    assert run.transcript.prompt == "open_signal.v2"
    assert orjson.loads(run.transcript.answer or "") == GOOD
    assert '"entry_price":42000.5' in run.transcript.user


@each_model
async def test_an_answer_that_contradicts_itself_is_in_the_wrong_form(name: str) -> None:
    fixed = {"stop_method": "fixed", "stop_level": 42001, "atr_multiple": None, "trail_pct": None}
    for changes, field in (
        ({"size_pct": 0}, "size_pct"),
        ({"risk_plan": fixed}, "risk_plan.stop_level"),
        ({"risk_plan": fixed | {"stop_method": "trailing"}}, "risk_plan.trail_pct"),
    ):
        run = await judged(name, says(GOOD | changes))
        assert (run.status, run.decision, run.is_final) == ("SCHEMA_ERROR", None, False)
        assert field in (run.error or "")


@each_model
async def test_a_signal_to_close_is_asked_and_answered_in_its_own_words(name: str) -> None:
    signal = make_signal(event_type="CLOSE_SIGNAL", signal_direction="close_long")
    async with ModelPeer() as peer, opened(peer, name) as model:
        run = await model.judge(signal, FEATURES)
        assert run.decision is not None
        assert run.decision.decision == GOOD_EXIT["decision"]
        peer.next(name, says(GOOD))
        run = await model.judge(signal, FEATURES)
        assert run.error is not None
        assert run.error.endswith("decision: must be one of: FOLLOW_EXIT, HOLD, TIGHTEN_STOP")


@each_model
async def test_a_code_fence_is_taken_off(name: str) -> None:
    run = await judged(name, says(f"```json\n{orjson.dumps(GOOD).decode()}\n```"))
    assert run.status == "SUCCESS"


STATUS_OF = {"PROVIDER_ERROR": "API_ERROR", "NETWORK_ERROR": "API_ERROR", "MODEL_ERROR": "API_ERROR"}
ANSWERED = "API answered 200 with"
FAILURES: dict[str, tuple[Turn, str, bool, str]] = {
    # name: the server's behaviour, reason code, final?, the error's text
    "an error of the server": (status(500), "PROVIDER_ERROR", False, "returned 500 Internal Server Error"),
    "an overloaded server": (status(529, "Overloaded"), "PROVIDER_ERROR", False, "returned 529: Overloaded"),
    "a request that is refused": (status(400, "No."), "PROVIDER_ERROR", True, "returned 400 Bad Request: No."),
    "no money left": (status(402, "Insufficient Balance"), "PROVIDER_ERROR", True, "Insufficient Balance"),
    "a rate limit": (status(429, "Slow down."), "RATE_LIMITED", False, "429 Too Many Requests: Slow down."),
    "a proxy's error page": (raw(b"<h1>Bad\nGateway</h1>", "text/html", 502), "PROVIDER_ERROR", False, "returned 502"),
    "a reset connection": (resets, "NETWORK_ERROR", False, "closed the connection"),
    "a body cut off": (cuts, "NETWORK_ERROR", False, "closed the connection"),
    "a page": (raw(b"<html>", "text/html"), "PROVIDER_ERROR", False, f"{ANSWERED} text/html instead of JSON"),
    "a page that says it is JSON": (raw(b"<html>"), "PROVIDER_ERROR", False, f"{ANSWERED} what is not JSON (6 bytes)"),
    "an envelope cut off": (raw(b'{"choices": [{"mess'), "PROVIDER_ERROR", False, f"{ANSWERED} JSON that is cut off"),
    "another document": (raw(b'{"a": 1}'), "PROVIDER_ERROR", False, f"{ANSWERED} JSON that is not in its API's form"),
    "a list": (raw(b"[1]"), "PROVIDER_ERROR", False, f"{ANSWERED} JSON that is not in its API's form"),
    "a text": (raw(b'"yes"'), "PROVIDER_ERROR", False, f"{ANSWERED} JSON that is not in its API's form"),
    "null": (raw(b"null"), "PROVIDER_ERROR", False, f"{ANSWERED} JSON that is not in its API's form"),
    "nothing": (raw(b""), "PROVIDER_ERROR", False, f"{ANSWERED} an empty body"),
    "a body of megabytes": (raw(b" " * (2 << 20)), "PROVIDER_ERROR", False, "more than 1048576 bytes"),
    "JSON that breaks off": (says(HALF), "SCHEMA_ERROR", False, "not JSON: "),
    "no more tokens": (says(HALF, "truncated"), "SCHEMA_ERROR", False, "cut off after 1000 tokens"),
    "prose": (says("I would buy."), "SCHEMA_ERROR", False, "not JSON: "),
    "a number out of range": (says({**GOOD, "confidence": 1.2}), "SCHEMA_ERROR", False, "confidence: must be between"),
    "a field too many": (says({**GOOD, "mood": "high"}), "SCHEMA_ERROR", False, "mood: unknown field"),
    "another event's decision": (says({**GOOD, "decision": "HOLD"}), "SCHEMA_ERROR", False, "decision: must be one of"),
    "a refusal": (says("I cannot.", "refused"), "MODEL_ERROR", True, "the model refused to answer"),
    "an empty answer": (says(""), "MODEL_ERROR", False, "the answer is empty"),
    "an answer broken off": (says("{", "interrupted"), "MODEL_ERROR", False, "the model did not finish"),
}


@each_model
@pytest.mark.parametrize("kind", FAILURES)
async def test_failures_are_told_apart(name: str, kind: str) -> None:
    turn, reason, is_final, text = FAILURES[kind]
    run = await judged(name, turn)
    assert run.decision is None
    assert (run.status, run.reason_code, run.is_final) == (STATUS_OF.get(reason, reason), reason, is_final), run.error
    assert run.error is not None
    assert text in run.error
    assert "\n" not in run.error
    assert not re.search(r"[A-Za-z](Error|Exception|Timeout)\b", run.error), "an operator knows no class of Python's"
    assert run.transcript is not None, "a failure's prompt goes to the archive too"
    if reason == "SCHEMA_ERROR":
        assert run.transcript.answer, "and so does the answer that did not fit"
        assert run.tokens_used == TOKENS_IN + TOKENS_OUT, "it was paid for all the same"


@pytest.mark.parametrize("name", ["chatgpt", "gemini"])
async def test_a_vendor_s_own_filter_is_a_refusal(name: str) -> None:
    run = await judged(name, says("", "filtered"))
    assert (run.status, run.reason_code, run.is_final) == ("API_ERROR", "MODEL_ERROR", True)


@each_model
async def test_no_answer_in_time_is_a_time_out(name: str) -> None:
    run = await judged(name, hangs, lens_model_timeout_seconds=0.3)
    assert (run.status, run.reason_code, run.is_final) == ("TIMEOUT", "TIMEOUT", False)
    assert run.error is not None
    assert run.error.endswith("no answer within 0.3 s")
    assert 300 <= run.latency_ms < 1000


@each_model
async def test_a_host_that_is_not_there_is_a_network_error(name: str) -> None:
    async with ModelPeer() as peer, opened(peer, name) as model:
        await peer.refuse_connections()
        run = await model.judge(SIGNAL, FEATURES)
        assert (run.status, run.reason_code, run.is_final) == ("API_ERROR", "NETWORK_ERROR", False)
        assert run.error is not None
        assert "cannot be reached" in run.error


@each_model
@pytest.mark.parametrize("code", [429, 503])
async def test_a_vendor_s_wish_for_a_pause_is_carried(name: str, code: int) -> None:
    run = await judged(name, status(code, headers={"Retry-After": "7"}))
    assert (run.retry_after_seconds, run.is_final) == (7.0, False)
    run = await judged(
        name, status(code, headers={"Retry-After": format_datetime(clock.now() + timedelta(seconds=30))})
    )
    assert run.retry_after_seconds == pytest.approx(30, abs=2)
    run = await judged(name, status(code, headers={"Retry-After": "soon"}))
    assert (run.retry_after_seconds, run.is_final) == (None, False)
    run = await judged(name, status(code, headers={"Retry-After": "3600"}))
    assert (run.retry_after_seconds, run.is_final) == (3600.0, True), "an hour is not waited for"


async def test_gemini_says_in_the_body_how_long_to_wait() -> None:
    assert (await judged("gemini", status(429, error="46s"))).retry_after_seconds == 46.0
    assert (await judged("gemini", status(429, error="37023.7s"))).is_final


@pytest.mark.parametrize(
    ("name", "code"), [("chatgpt", "insufficient_quota"), ("claude", "enforced_spend_limit_reached")]
)
async def test_a_spent_budget_is_not_waited_for(name: str, code: str) -> None:
    run = await judged(name, status(429, error=code))
    assert (run.status, run.is_final) == ("RATE_LIMITED", True)


@each_model
async def test_a_wrong_key_is_final_and_not_repeated_in_the_error(name: str) -> None:
    run = await judged(name, **{f"{VENDORS[name]}_api_key": "sk-wrong-0123456789"})
    assert (run.status, run.reason_code, run.is_final) == ("API_ERROR", "PROVIDER_ERROR", True)
    assert run.error is not None
    assert "Incorrect API key provided: ***." in run.error
    assert "sk-wrong" not in repr(run)


@each_model
async def test_an_unknown_model_id_is_final(name: str) -> None:
    run = await judged(name, **{f"{VENDORS[name]}_model": "last-years-model"})
    assert (run.model_version, run.reason_code, run.is_final) == ("last-years-model", "PROVIDER_ERROR", True)


@each_model
async def test_a_redirect_is_not_followed(name: str) -> None:
    async with ModelPeer() as elsewhere:
        run = await judged(name, redirects(f"http://127.0.0.1:{elsewhere.port}{DIALECTS[name].path}/x"))
        assert (run.reason_code, run.is_final) == ("PROVIDER_ERROR", True)
        assert not any(elsewhere.requests.values()), "the key must not reach another host"


@each_model
async def test_the_settings_alone_decide_what_is_sent_where(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-another")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GEMINI_API_KEY", "key-of-another")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-another")
    async with ModelPeer() as peer, opened(peer, name) as model:
        assert (await model.judge(SIGNAL, FEATURES)).status == "SUCCESS"
        [(_, headers)] = peer.requests[name]
        assert "of-another" not in " ".join(headers.values())


@each_model
async def test_calls_at_once_are_bounded_and_connections_reused(name: str) -> None:
    async with ModelPeer() as peer, opened(peer, name, lens_model_concurrency=2) as model:
        peer.latency_seconds = 0.05
        runs = await asyncio.gather(*(model.judge(SIGNAL, FEATURES) for _ in range(8)))
        assert {run.status for run in runs} == {"SUCCESS"}
        assert peer.most_at_once == 2


async def test_the_wait_for_a_turn_counts_within_the_time_allowed() -> None:
    changes = {"lens_model_concurrency": 1, "lens_model_timeout_seconds": 0.4}
    async with ModelPeer() as peer, opened(peer, "claude", **changes) as model:
        peer.always("claude", hangs)
        stuck, waiting = await asyncio.gather(model.judge(SIGNAL, FEATURES), model.judge(SIGNAL, FEATURES))
        assert (stuck.status, waiting.status) == ("TIMEOUT", "TIMEOUT")
        assert waiting.latency_ms < 700
        peer.always("claude", says(GOOD))
        assert (await model.judge(SIGNAL, FEATURES)).status == "SUCCESS", "the slot was given back"


async def test_a_vendor_that_is_down_is_left_alone_and_found_again() -> None:
    async with ModelPeer() as peer, opened(peer, "deepseek") as model:
        peer.always("deepseek", status(503))
        for number in range(8):
            run = await model.judge(make_signal(event_id=UUID(int=number)), FEATURES)
            assert run.reason_code == "PROVIDER_ERROR"
        asked = len(peer.requests["deepseek"])
        assert asked == 5, "after five failures in a row nobody asks"
        assert run.error is not None
        assert "returned 503" in run.error
        assert run.error.endswith("(calls are paused)")
        assert run.latency_ms < 50
        peer.always("deepseek", says(GOOD))

        async def is_back() -> bool:
            return (await model.judge(SIGNAL, FEATURES)).status == "SUCCESS"

        await until(is_back, seconds=20.0)
        assert len(peer.requests["deepseek"]) == 6, "the first call after the pause is the probe"
        assert (await model.judge(SIGNAL, FEATURES)).status == "SUCCESS"


async def test_a_rate_limit_pauses_the_other_signals_too() -> None:
    async with ModelPeer() as peer, opened(peer, "chatgpt") as model:
        peer.next("chatgpt", status(429, headers={"Retry-After": "20"}))
        await model.judge(SIGNAL, FEATURES)
        run = await model.judge(SIGNAL, FEATURES)
        assert (run.status, run.is_final) == ("RATE_LIMITED", False)
        assert run.retry_after_seconds == pytest.approx(22.5, abs=2.6)
        assert len(peer.requests["chatgpt"]) == 1


async def test_each_model_is_sent_only_what_it_takes() -> None:
    async with ModelPeer() as peer:
        for name, changes, expected in (
            ("chatgpt", {}, {"temperature": 0.1, "max_completion_tokens": 1000}),
            ("chatgpt", {"lens_model_temperature": None}, {"temperature": None}),
            ("deepseek", {}, {"temperature": 0.1, "max_tokens": 1000, "thinking": {"type": "disabled"}}),
            ("claude", {}, {"temperature": None, "max_tokens": 1000, "thinking": {"type": "between_tools"}}),
            ("claude", {"anthropic_model": "claude-haiku-5-5"}, {"thinking": {"type": "disabled"}}),
            ("claude", {"anthropic_model": "claude-opus-5-5"}, {"thinking": None}),
        ):
            async with opened(peer, name, **changes) as model:
                run = await model.judge(SIGNAL, FEATURES)
            assert run.status == "SUCCESS", run.error
            body, _ = peer.requests[name][-1]
            assert {key: body.get(key) for key in expected} == expected
        async with opened(peer, "gemini", lens_model_max_tokens=500) as model:
            assert (await model.judge(SIGNAL, FEATURES)).status == "SUCCESS"
        body, _ = peer.requests["gemini"][-1]
        assert body["generationConfig"]["maxOutputTokens"] == 500


async def test_the_sdks_are_silent_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for name in MODELS:
            await judged(name)
    said = [record for record in caplog.records if record.name.partition(".")[0] in ("httpx2", "openai", "anthropic")]
    assert not said
    assert "sk-test" not in caplog.text
