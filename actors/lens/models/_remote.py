"""Implement what the models behind an HTTP API have in common."""

from __future__ import annotations

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Final, Literal

import orjson

from actors.lens.model import Evaluation, Features, Judgement, RawSignal, Transcript
from actors.lens.models._failures import UNREADABLE, ModelFailure, nonsense
from actors.lens.models._gate import VendorGate
from actors.lens.models._prompt import Prompt, render
from config.documents import Document
from config.masking import protect
from schemas._vocabulary import EventType
from schemas.decisions import load_decision, problem_text, response_schema
from schemas.errors import ValidationFailed

_GRACE_SECONDS: Final = 1.0
_LONGEST_ERROR: Final = 500
_MOST_TOKENS: Final = 2**31 - 1  # the limit of the database's column


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Configure access to a model. `temperature` None: the vendor's default. `max_tokens`: of one answer."""

    model: str
    api_key: str = field(repr=False)
    base_url: str
    timeout_seconds: float
    temperature: float | None
    max_tokens: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A vendor's answer: the model's text, how it ended, and what it cost.

    `stop_reason` is the vendor's word; `ending` its meaning: the model was done, ran out of tokens, refused or was not
    allowed to answer, or stopped for a reason of the vendor's own.
    """

    text: str
    ending: Literal["complete", "truncated", "refused", "interrupted"]
    stop_reason: str
    tokens_used: int | None = None


class RemoteModel(ABC):
    """Judge by asking a vendor's model, once per call: retries are the pipeline's.

    `judge` never raises: any failure is an Evaluation that describes it. It ends within the configured time, waiting
    for one of the `concurrency` calls included; `timeout_seconds` is a little longer, for the caller's guard.
    """

    name: str
    vendor: str  # begins every error message
    in_words = True  # its prompt contains the position that a CLOSE signal closes

    def __init__(self, options: ModelOptions) -> None:
        protect(options.api_key)
        self.version = options.model
        self.timeout_seconds = options.timeout_seconds + _GRACE_SECONDS
        self._options = options
        self._hashes: dict[EventType, str] = {}
        self._gate = VendorGate(self.vendor, options.concurrency)

    async def judge(self, signal: RawSignal, features: Features) -> Evaluation:
        """Return the model's decision, or the reason why there is none; with the transcript in both cases."""
        prompt = render(signal, features)
        began = time.perf_counter()
        answer: ModelAnswer | None = None
        decision: Judgement | None = None
        failure: ModelFailure | None = None
        try:
            answer = await self._answer(str(signal.event_id), prompt, signal.event_type)
            decision = self._decide(answer, signal)
        except ModelFailure as error:
            failure = error
        return Evaluation(
            model=self.name,
            model_version=self.version,
            status="SUCCESS" if failure is None else failure.status,
            latency_ms=round((time.perf_counter() - began) * 1000),
            decision=decision,
            error=None if failure is None else failure.message[:_LONGEST_ERROR],
            tokens_used=None if answer is None else _count(answer.tokens_used),
            prompt_hash=self._question_hash(signal.event_type, prompt),
            reason_code=None if failure is None else failure.reason,
            is_final=failure is not None and failure.is_final,
            retry_after_seconds=None if failure is None else failure.retry_after_seconds,
            transcript=_transcript(prompt, answer),
        )

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    @abstractmethod
    async def _ask(self, prompt: Prompt, schema: Document) -> ModelAnswer:
        """Make one call. Raises ModelFailure."""

    async def _answer(self, subject: str, prompt: Prompt, event_type: EventType) -> ModelAnswer:
        seconds = self._options.timeout_seconds
        deadline = asyncio.get_running_loop().time() + seconds
        async with self._gate.enter(subject, deadline):
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._ask(prompt, response_schema(event_type))
            except TimeoutError:
                raise ModelFailure("TIMEOUT", f"{self.vendor}: no answer within {seconds:g} s") from None
            except UNREADABLE as error:  # a form that neither the vendor's dialect nor its SDK handles
                raise nonsense(self.vendor) from error

    def _decide(self, answer: ModelAnswer, signal: RawSignal) -> Judgement:
        why = f" ({answer.stop_reason})" if answer.stop_reason else ""
        if answer.ending == "refused":
            raise ModelFailure("MODEL_ERROR", f"{self.vendor}: the model refused to answer{why}", is_final=True)
        if answer.ending == "truncated":
            limit = self._options.max_tokens
            raise ModelFailure("SCHEMA_ERROR", f"{self.vendor}: the answer was cut off after {limit} tokens{why}")
        if answer.ending == "interrupted":
            raise ModelFailure("MODEL_ERROR", f"{self.vendor}: the model did not finish{why}")
        if not answer.text.strip():
            raise ModelFailure("MODEL_ERROR", f"{self.vendor}: the answer is empty{why}")
        try:
            loaded = load_decision(
                answer.text,
                signal.event_type,
                direction=signal.signal_direction,
                entry_price=signal.entry_price or None,
            )
            return Judgement.from_dict(loaded)
        except ValidationFailed as error:
            raise ModelFailure("SCHEMA_ERROR", f"{self.vendor}: {problem_text(error)}") from None

    def _question_hash(self, event_type: EventType, prompt: Prompt) -> str:
        """Return the hash of all that a decision depends on but the signal: template, schema, model and parameters."""
        found = self._hashes.get(event_type)
        if found is None:
            options = self._options
            question = {
                "model": self.name,
                "model_id": options.model,
                "template": prompt.sha256,
                "schema": response_schema(event_type),
                "temperature": options.temperature,
                "max_tokens": options.max_tokens,
            }
            found = hashlib.sha256(orjson.dumps(question, option=orjson.OPT_SORT_KEYS)).hexdigest()
            self._hashes[event_type] = found
        return found


def _count(tokens: object) -> int | None:
    """Return the vendor's count of tokens; None if it is not one."""
    return tokens if type(tokens) is int and 0 <= tokens <= _MOST_TOKENS else None


def _transcript(prompt: Prompt, answer: ModelAnswer | None) -> Transcript:
    if answer is None:
        return Transcript(prompt.name, prompt.system, prompt.user)
    return Transcript(prompt.name, prompt.system, prompt.user, answer.text, answer.stop_reason)
