"""Any answer of a model's vendor, through each SDK, gives an evaluation that can be stored.

The kind of fault: the SDKs do not check what they parse, so a `code` that is a list is looked up in a table, and a
count of tokens that is infinite becomes an integer. Each vendor's envelope, of a success and of an error, is given
the corpus in the place of each of its values, over loopback.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from actors.lens._documents import _run_row
from actors.lens.model import Evaluation
from actors.lens.models import Model, open_models
from config.settings import Settings
from tests.fuzz.budget import fuzz_seconds, rounds
from tests.fuzz.outside import FRAGMENTS, any_value, mangled, spoil_at_random
from tests.peers.model_apis import GOOD, ModelPeer, raw
from tests.peers.model_dialects import DIALECTS
from tests.unit.lens.factories import make_features, make_signal

SIGNAL = make_signal()
FEATURES = make_features(SIGNAL)
GOOD_TEXT = orjson.dumps(GOOD).decode()


@contextlib.asynccontextmanager
async def opened(name: str) -> AsyncIterator[tuple[ModelPeer, Model]]:
    async with ModelPeer() as peer:
        [model] = open_models(peer.settings(Settings.load(env_file=None), name))
        try:
            yield peer, model
        finally:
            await model.close()


async def judged(peer: ModelPeer, model: Model, body: bytes, status: int) -> Evaluation:
    """Ask a model whose vendor answers that, and open the gate again that failures close."""
    peer.next(model.name, raw(body, code=status))
    model._gate = type(model._gate)("x", 1)  # type: ignore[attr-defined]
    run = await model.judge(SIGNAL, FEATURES)
    assert (run.status == "SUCCESS") == (run.decision is not None) == (run.error is None)
    orjson.dumps(run.to_dict())
    row = _run_row(SIGNAL.event_id, run)
    for text in (row.error, row.answer, row.stop_reason):
        assert text is None or "\0" not in text.encode().decode()
    assert row.tokens_used is None or 0 <= row.tokens_used < 2**31
    return run


def envelopes(name: str) -> list[tuple[int, Any]]:
    """Return good answers and refusals of the vendor."""
    dialect = DIALECTS[name]
    return [
        (200, dialect.answer(GOOD_TEXT, "complete")),
        (200, dialect.answer("I would rather not.", "refused")),
        (429, dialect.error(429, "slow down", "46s")),
        (400, dialect.error(400, "no", "invalid")),
    ]


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "body", [b"[]", b"null", b"1", b"", b'"x"', b"{", b'{"error": []}', b'{"error": {"code": []}}']
)
async def test_a_body_of_another_form_is_a_failure_of_the_vendors(name: str, body: bytes) -> None:
    async with opened(name) as (peer, model):
        for status in (200, 400, 429, 500):
            run = await judged(peer, model, body, status)
            assert run.decision is None
            assert run.reason_code in ("PROVIDER_ERROR", "RATE_LIMITED", "MODEL_ERROR"), run


@pytest.mark.parametrize("name", ["chatgpt", "deepseek"])
async def test_a_code_that_is_no_key_of_a_table_is_read_as_text(name: str) -> None:
    async with opened(name) as (peer, model):
        for code in (b"[]", b"{}", b"1e5", b"null"):
            run = await judged(peer, model, b'{"error": {"message": "no", "code": %s}}' % code, 429)
            assert (run.status, run.reason_code) == ("RATE_LIMITED", "RATE_LIMITED")


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_count_of_tokens_that_is_none_does_not_cost_the_decision(name: str) -> None:
    async with opened(name) as (peer, model):
        for count in (-1, 2**31, 2**62):
            envelope = DIALECTS[name].answer(GOOD_TEXT, "complete")
            text = orjson.dumps(envelope)
            for written in (b"1250", b"1000", b"1100", b"150"):
                text = text.replace(b":" + written, b":%d" % count)
            run = await judged(peer, model, text, 200)
            assert run.status == "SUCCESS"
            assert run.tokens_used is None or run.tokens_used < 2**31


@pytest.mark.filterwarnings("ignore:.*is not a valid FinishReason:UserWarning")  # the SDK warns of an unknown word
@pytest.mark.parametrize("name", DIALECTS)
async def test_random_answers_become_evaluations(name: str) -> None:
    async with opened(name) as (peer, model):
        choices = envelopes(name)
        for said, chance in rounds(fuzz_seconds() / len(DIALECTS)):
            status, envelope = chance.choice(choices)
            body = spoil_at_random(chance, envelope)
            if chance.random() < 0.2:  # the model's own text, in a right envelope
                body = orjson.dumps(
                    DIALECTS[name].answer(mangled(chance, GOOD_TEXT.encode()).decode("latin-1"), "complete")
                )
            elif chance.random() < 0.1:
                body = chance.choice((chance.choice(FRAGMENTS), any_value(chance)))
            try:
                await judged(peer, model, body, status)
            except BaseException as error:
                error.add_note(f"{said}: {status} {body[:500]!r}")
                raise
