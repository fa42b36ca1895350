"""Implement the models `chatgpt` and `deepseek`: OpenAI's chat completions, which other vendors offer too."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final, Literal

import openai
from openai.types.chat import ChatCompletion

from actors.lens.models._failures import ModelFailure, nonsense, refused, retry_after
from actors.lens.models._http import open_client, time_limits, unreachable
from actors.lens.models._prompt import Prompt
from actors.lens.models._remote import ModelAnswer, ModelOptions, RemoteModel
from config.documents import Document, Loaded

_ENDINGS: Final[dict[str, Literal["complete", "truncated", "refused"]]] = {
    "stop": "complete",
    "length": "truncated",
    "content_filter": "refused",
}
_SPENT: Final = frozenset({"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"})


class ChatModel(RemoteModel):
    """A model behind an API of chat completions; a subclass defines the parameters."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__(options)
        self._client = openai.AsyncOpenAI(
            api_key=options.api_key,
            base_url=options.base_url,
            timeout=time_limits(options),
            max_retries=0,
            http_client=open_client(options),
        )
        # The SDK reads these from the environment, and would send them to any vendor.
        self._client.organization = None
        self._client.project = None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    @abstractmethod
    def _parameters(self, schema: Document) -> Loaded:
        """Return the request's parameters other than the model, the messages and the temperature."""

    async def _ask(self, prompt: Prompt, schema: Document) -> ModelAnswer:
        try:
            completion = await self._client.chat.completions.create(
                model=self._options.model,
                messages=[{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}],
                **self._parameters(schema),
                temperature=openai.omit if self._options.temperature is None else self._options.temperature,
            )
        except openai.APIStatusError as error:
            raise self._refused(error) from error
        except openai.APIConnectionError as error:
            raise unreachable(self.vendor, error.__cause__) from error
        except openai.OpenAIError as error:
            raise nonsense(self.vendor) from error
        return _read(completion)

    def _refused(self, error: openai.APIStatusError) -> ModelFailure:
        wait = retry_after(error.response.headers)
        body = error.body if error.body is not None else error.response.text
        is_final = str(error.code) in _SPENT  # 429 too, but no pause restores the budget
        return refused(self.vendor, error.status_code, body, retry_after_seconds=wait, is_final=is_final)


class ChatGpt(ChatModel):
    """OpenAI's model. The API itself enforces the schema of the answer."""

    name = "chatgpt"
    vendor = "OpenAI API"

    def _parameters(self, schema: Document) -> Document:
        return {
            "max_completion_tokens": self._options.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "decision", "strict": True, "schema": schema},
            },
        }


class DeepSeek(ChatModel):
    """DeepSeek's model. The schema is in the prompt alone; JSON mode requires that the prompt mentions JSON."""

    name = "deepseek"
    vendor = "DeepSeek API"

    def _parameters(self, schema: Document) -> Document:
        return {
            "max_tokens": self._options.max_tokens,
            "response_format": {"type": "json_object"},
            # On by default: it would spend the answer's tokens, and the API then ignores the temperature.
            "extra_body": {"thinking": {"type": "disabled"}},
        }


def _read(completion: ChatCompletion) -> ModelAnswer:
    choice = completion.choices[0]
    message = choice.message
    usage = completion.usage
    tokens = None if usage is None else usage.total_tokens
    if message.refusal:
        return ModelAnswer(str(message.refusal), "refused", f"refusal: {message.refusal}"[:200], tokens)
    reason = str(choice.finish_reason)
    return ModelAnswer(str(message.content or ""), _ENDINGS.get(reason, "interrupted"), reason, tokens)
