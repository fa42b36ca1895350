"""Implement the model `gemini`: Google's Gemini API, with its structured output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import httpx2
from google import genai
from google.genai import errors, types

from actors.lens._responses import positive
from actors.lens.models._failures import UNREADABLE, ModelFailure, refused, retry_after
from actors.lens.models._http import open_client, unreachable
from actors.lens.models._prompt import Prompt
from actors.lens.models._remote import ModelAnswer, ModelOptions, RemoteModel
from config.documents import Document, Loaded

_ENDINGS: Final[dict[str, Literal["complete", "truncated", "refused"]]] = {
    "STOP": "complete",
    "MAX_TOKENS": "truncated",
    "SAFETY": "refused",
    "RECITATION": "refused",
    "BLOCKLIST": "refused",
    "PROHIBITED_CONTENT": "refused",
    "SPII": "refused",
    "MODEL_ARMOR": "refused",
}
_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"


class Gemini(RemoteModel):
    """Google's model. There is no temperature: the current models ignore it, and Google advises against it."""

    name = "gemini"
    vendor = "Gemini API"

    def __init__(self, options: ModelOptions) -> None:
        super().__init__(options)
        self._http = open_client(options)
        self._client = genai.Client(
            vertexai=False,
            api_key=options.api_key,
            http_options=types.HttpOptions(
                base_url=options.base_url,
                timeout=round(options.timeout_seconds * 1000),
                httpx_async_client=self._http,  # without one the SDK uses aiohttp, and retries on its own
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()
        await self._client.aio.aclose()
        await self._http.aclose()

    async def _ask(self, prompt: Prompt, schema: Document) -> ModelAnswer:
        config = types.GenerateContentConfig(
            system_instruction=prompt.system,
            max_output_tokens=self._options.max_tokens,
            response_mime_type="application/json",
            response_json_schema=schema,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            automatic_continuation=False,
        )
        try:
            response = await self._client.aio.models.generate_content(
                model=self._options.model, contents=prompt.user, config=config
            )
        except errors.APIError as error:
            raise self._refused(error) from error
        except httpx2.RequestError as error:
            raise unreachable(self.vendor, error) from error
        return _read(response)

    def _refused(self, error: errors.APIError) -> ModelFailure:
        headers: Mapping[str, str] = getattr(error.response, "headers", {})
        wait = retry_after(headers) or _retry_delay(error.details)
        status = getattr(error.response, "status_code", error.code)  # the SDK's own code is what the body claims
        return refused(self.vendor, status, error.details, retry_after_seconds=wait)


def _read(response: types.GenerateContentResponse) -> ModelAnswer:
    usage = response.usage_metadata
    tokens = None if usage is None else usage.total_token_count
    feedback = response.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
        return ModelAnswer("", "refused", f"prompt blocked: {feedback.block_reason.value}", tokens)
    if not response.candidates:
        raise LookupError("no candidate")
    candidate = response.candidates[0]
    parts = (candidate.content and candidate.content.parts) or []
    text = "".join(part.text for part in parts if part.text and not part.thought)
    reason = "" if candidate.finish_reason is None else candidate.finish_reason.value
    return ModelAnswer(text, _ENDINGS.get(reason, "interrupted"), reason, tokens)


def _retry_delay(details: Loaded) -> float | None:
    """Return the seconds of a `google.rpc.RetryInfo` in a body: `{"error": {"details": [{"retryDelay": "46s"}]}}`."""
    try:
        infos = details["error"]["details"]
        delay = next(each["retryDelay"] for each in infos if each.get("@type") == _RETRY_INFO)
        return positive(delay.removesuffix("s"))
    except (*UNREADABLE, StopIteration):
        return None
