"""The requests, refusals and answers of OpenAI's, Google's, Anthropic's and DeepSeek's APIs, each in its form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

Document = dict[str, Any]

TOKENS_IN, TOKENS_OUT = 1100, 150


class Dialect(ABC):
    """One vendor's API."""

    path: str  # of the base URL
    key: str
    models: frozenset[str]

    @abstractmethod
    def key_of(self, request: web.Request) -> str:
        """Return the key that the request carries."""

    @abstractmethod
    def objection(self, request: web.Request, body: Document) -> web.Response | None:
        """Return the vendor's refusal of a request, if it would refuse it."""

    @abstractmethod
    def answer(self, text: str, ending: str) -> Document:
        """Return the envelope of an answer that ended as `complete`, `truncated`, `refused` or `interrupted`."""

    @abstractmethod
    def error(self, status: int, message: str, code: str = "") -> Document:
        """Return the body of an error."""

    @abstractmethod
    def is_close(self, body: Document) -> bool:
        """Return whether the question is about a signal to close."""

    def refuse(self, status: int, message: str, code: str = "") -> web.Response:
        return json_response(self.error(status, message, code), status)


class OpenAiDialect(Dialect):
    path = "/openai/v1"
    key = "sk-test-openai-0123456789"
    models = frozenset({"gpt-4o", "gpt-4o-mini"})
    _known = frozenset({"model", "messages", "response_format", "max_completion_tokens", "temperature"})
    _finish: Mapping[str, str] = {"complete": "stop", "truncated": "length", "interrupted": "tool_calls"}

    def key_of(self, request: web.Request) -> str:
        return request.headers.get("Authorization", "").removeprefix("Bearer ")

    def objection(self, request: web.Request, body: Document) -> web.Response | None:
        if body["model"] not in self.models:
            message = f"The model `{body['model']}` does not exist or you do not have access to it."
            return self.refuse(404, message, "model_not_found")
        unknown = set(body) - self._known
        if unknown:
            return self.refuse(400, f"Unrecognized request argument supplied: {min(unknown)}")
        return self._objection_to_format(body)

    def _objection_to_format(self, body: Document) -> web.Response | None:
        wanted = body["response_format"]
        if wanted["type"] != "json_schema" or not wanted["json_schema"]["strict"]:
            return self.refuse(400, "response_format: expected a strict json_schema")
        fault = schema_fault(wanted["json_schema"]["schema"])
        return self.refuse(400, f"Invalid schema for response_format 'decision': {fault}") if fault else None

    def answer(self, text: str, ending: str) -> Document:
        message: Document = {"role": "assistant", "content": text, "refusal": None}
        finish = self._finish.get(ending, "stop")
        if ending == "refused":
            message |= {"content": None, "refusal": text}
        if ending == "filtered":
            finish = "content_filter"
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": TOKENS_IN,
                "completion_tokens": TOKENS_OUT,
                "total_tokens": TOKENS_IN + TOKENS_OUT,
            },
        }

    def error(self, status: int, message: str, code: str = "") -> Document:
        kind = {401: "invalid_request_error", 429: "requests"}.get(status, "server_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": code or None}}

    def is_close(self, body: Document) -> bool:
        return "CLOSE_SIGNAL" in body["messages"][-1]["content"]


class DeepSeekDialect(OpenAiDialect):
    path = "/deepseek"
    key = "sk-test-deepseek-0123456789"
    models = frozenset({"deepseek-flash"})
    _known = frozenset({"model", "messages", "response_format", "max_tokens", "temperature", "thinking"})
    _finish: Mapping[str, str] = {
        "complete": "stop",
        "truncated": "length",
        "interrupted": "insufficient_system_resource",
        "refused": "content_filter",
    }

    def _objection_to_format(self, body: Document) -> web.Response | None:
        if body["response_format"] != {"type": "json_object"}:
            return self.refuse(400, "This response_format type is unavailable now")
        if not any("json" in each["content"].lower() for each in body["messages"]):
            return self.refuse(400, "Prompt must contain the word 'json' in some form")
        return None

    def answer(self, text: str, ending: str) -> Document:
        document = super().answer(text, "complete")
        [choice] = document["choices"]
        choice["finish_reason"] = self._finish[ending]
        choice["message"] = {"role": "assistant", "content": "" if ending == "refused" else text}
        return document


class AnthropicDialect(Dialect):
    path = "/anthropic"
    key = "sk-ant-test-0123456789"
    models = frozenset({"claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5"})
    _thinking: Mapping[str, frozenset[str]] = {
        "claude-sonnet-5-5": frozenset({"adaptive", "between_tools"}),
        "claude-haiku-5-5": frozenset({"adaptive", "disabled"}),
        "claude-opus-5-5": frozenset({"adaptive"}),
    }
    _known = frozenset({"model", "max_tokens", "system", "messages", "output_config", "thinking"})
    _stop: Mapping[str, str] = {
        "complete": "end_turn",
        "truncated": "max_tokens",
        "refused": "refusal",
        "interrupted": "pause_turn",
    }

    def key_of(self, request: web.Request) -> str:
        return request.headers.get("X-Api-Key") or request.headers.get("Authorization", "").removeprefix("Bearer ")

    def objection(self, request: web.Request, body: Document) -> web.Response | None:
        if request.headers.get("anthropic-version") != "2026-10-21":
            return self.refuse(400, "anthropic-version: header is required")
        if body["model"] not in self.models:
            return self.refuse(404, f"model: {body['model']}")
        unknown = set(body) - self._known
        if unknown:
            return self.refuse(400, f"{min(unknown)}: Extra inputs are not permitted")
        thinking = body.get("thinking")
        if thinking is not None and thinking["type"] not in self._thinking[body["model"]]:
            return self.refuse(400, f'"thinking.type.{thinking["type"]}" is not supported for this model.')
        wanted = body["output_config"]["format"]
        fault = schema_fault(wanted["schema"]) if wanted["type"] == "json_schema" else "type"
        return self.refuse(400, f"output_config.format: {fault}") if fault else None

    def answer(self, text: str, ending: str) -> Document:
        details = None
        if ending == "refused":
            details = {"type": "refusal", "category": "general_harms", "explanation": text}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-5-5",
            "content": [{"type": "text", "text": text}] if text and ending != "refused" else [],
            "stop_reason": self._stop[ending],
            "stop_sequence": None,
            "stop_details": details,
            "usage": {
                "input_tokens": TOKENS_IN - 100,
                "cache_creation_input_tokens": 60,
                "cache_read_input_tokens": 40,
                "output_tokens": TOKENS_OUT,
            },
        }

    def error(self, status: int, message: str, code: str = "") -> Document:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
        kind = (kinds | {429: "rate_limit_error", 529: "overloaded_error"}).get(status, "api_error")
        details = {"error_code": code} if code else None
        error = {"type": kind, "message": message, "details": details}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def is_close(self, body: Document) -> bool:
        return "CLOSE_SIGNAL" in body["messages"][-1]["content"]


class GeminiDialect(Dialect):
    path = "/google"
    key = "AIza-test-0123456789"
    models = frozenset({"gemini-3.5-flash-lite", "gemini-3.8-flash"})
    _finish: Mapping[str, str] = {"complete": "STOP", "truncated": "MAX_TOKENS", "refused": "SAFETY"}
    _statuses: Mapping[int, str] = {
        400: "INVALID_ARGUMENT",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
    }

    def key_of(self, request: web.Request) -> str:
        return request.headers.get("x-goog-api-key", "")

    def objection(self, request: web.Request, body: Document) -> web.Response | None:
        model, _, method = request.match_info["rest"].rpartition("/")[2].partition(":")
        if method != "generateContent" or model not in self.models:
            return self.refuse(404, f"models/{model} is not found for API version v1")
        config = body["generationConfig"]
        if set(config) - {"maxOutputTokens", "responseMimeType", "responseJsonSchema"}:
            return self.refuse(400, f"Invalid JSON payload received. Unknown name in {sorted(config)}")
        fault = schema_fault(config["responseJsonSchema"])
        if config["responseMimeType"] != "application/json" or fault:
            return self.refuse(400, f"Invalid value at 'generation_config': {fault}")
        if not body["systemInstruction"]["parts"][0]["text"]:
            return self.refuse(400, "System instruction is empty")
        return None

    def answer(self, text: str, ending: str) -> Document:
        document: Document = {
            "modelVersion": "gemini-3.5-flash-lite",
            "usageMetadata": {
                "promptTokenCount": TOKENS_IN,
                "candidatesTokenCount": TOKENS_OUT - 50,
                "thoughtsTokenCount": 50,
                "totalTokenCount": TOKENS_IN + TOKENS_OUT,
            },
        }
        if ending == "filtered":
            return document | {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        parts = [{"text": "The trend is up.", "thought": True}, {"text": text}] if text and ending != "refused" else []
        finish = self._finish.get(ending, "OTHER")
        candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}
        return document | {"candidates": [candidate]}

    def error(self, status: int, message: str, code: str = "") -> Document:
        details = []
        if code:
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": code})
        name = self._statuses.get(status, "UNKNOWN")
        return {"error": {"code": status, "message": message, "status": name, "details": details}}

    def is_close(self, body: Document) -> bool:
        return "CLOSE_SIGNAL" in body["contents"][-1]["parts"][0]["text"]


DIALECTS: Mapping[str, Dialect] = {
    "chatgpt": OpenAiDialect(),
    "gemini": GeminiDialect(),
    "claude": AnthropicDialect(),
    "deepseek": DeepSeekDialect(),
}
VENDORS = {"chatgpt": "openai", "gemini": "google", "claude": "anthropic", "deepseek": "deepseek"}


def schema_fault(schema: Document) -> str:
    """Return a structured output's objection to a schema; empty if none."""
    allowed = {"type", "properties", "required", "additionalProperties", "items", "enum"}
    if set(schema) - allowed:
        return f"unsupported keywords {sorted(set(schema) - allowed)}"
    if schema["type"] == "object":
        properties = schema["properties"]
        if schema.get("additionalProperties") is not False:
            return "additionalProperties must be false"
        if schema.get("required") != list(properties):
            return "every property must be required"
        return next((fault for each in properties.values() if (fault := schema_fault(each))), "")
    return schema_fault(schema["items"]) if schema["type"] == "array" else ""


def json_response(document: Document, code: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(document), status=code, headers=dict(headers or {}), content_type="application/json"
    )
