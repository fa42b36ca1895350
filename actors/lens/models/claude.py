"""Implement the model `claude`: Anthropic's Messages API, with its structured output."""

from __future__ import annotations

from typing import Final, Literal

import anthropic
from anthropic.types import Message, ThinkingConfigParam

from actors.lens.models._failures import ModelFailure, nonsense, refused, retry_after
from actors.lens.models._http import open_client, time_limits, unreachable
from actors.lens.models._prompt import Prompt
from actors.lens.models._remote import ModelAnswer, ModelOptions, RemoteModel
from config.documents import Document

_ENDINGS: Final[dict[str, Literal["complete", "truncated", "refused"]]] = {
    "end_turn": "complete",
    "stop_sequence": "complete",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
    "refusal": "refused",
}
# These models think unless told not to, each by its own parameter, at the cost of the answer's tokens. Others either do
# not think unasked, or cannot be told: for those, nothing is sent.
_NO_THINKING: Final[dict[str, ThinkingConfigParam]] = {
    "claude-sonnet-5-5": {"type": "between_tools"},
    "claude-haiku-5-5": {"type": "disabled"},
    "claude-sonnet-5": {"type": "disabled"},
    "claude-opus-5": {"type": "disabled"},
}
_SPENT: Final = "enforced_spend_limit_reached"


class Claude(RemoteModel):
    """Anthropic's model. There is no temperature: the API of the SDK's version refuses it."""

    name = "claude"
    vendor = "Anthropic API"

    def __init__(self, options: ModelOptions) -> None:
        super().__init__(options)
        self._client = anthropic.AsyncAnthropic(
            api_key=options.api_key,
            base_url=options.base_url,
            timeout=time_limits(options),
            max_retries=0,
            http_client=open_client(options),
            open_telemetry=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _ask(self, prompt: Prompt, schema: Document) -> ModelAnswer:
        try:
            message = await self._client.messages.create(
                model=self._options.model,
                max_tokens=self._options.max_tokens,
                system=prompt.system,
                messages=[{"role": "user", "content": prompt.user}],
                output_config={"format": {"type": "json_schema", "schema": schema}},
                thinking=_NO_THINKING.get(self._options.model, anthropic.omit),
            )
        except anthropic.APIStatusError as error:
            raise self._refused(error) from error
        except anthropic.APIConnectionError as error:
            raise unreachable(self.vendor, error.__cause__) from error
        except anthropic.AnthropicError as error:
            raise nonsense(self.vendor) from error
        return _read(message)

    def _refused(self, error: anthropic.APIStatusError) -> ModelFailure:
        wait = retry_after(error.response.headers)
        body = error.body if error.body is not None else error.response.text
        is_final = str(error.error_code) == _SPENT  # 429 too, but no pause restores the budget
        return refused(self.vendor, error.status_code, body, retry_after_seconds=wait, is_final=is_final)


def _read(message: Message) -> ModelAnswer:
    text = "".join(block.text for block in message.content if block.type == "text")
    reason = str(message.stop_reason)
    usage = message.usage
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    tokens = usage.input_tokens + cached + usage.output_tokens
    details = message.stop_details
    if reason == "refusal" and details is not None:
        reason = ": ".join(each for each in (reason, details.category, details.explanation) if each)[:200]
        return ModelAnswer(text, "refused", reason, tokens)
    return ModelAnswer(text, _ENDINGS.get(reason, "interrupted"), reason, tokens)
