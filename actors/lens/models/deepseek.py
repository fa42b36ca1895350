"""Implement the model `deepseek`: an API of OpenAI's form, with a JSON mode but no schema."""

from __future__ import annotations

from typing import Any

from actors.lens.models._openai_chat import ChatModel


class DeepSeek(ChatModel):
    """DeepSeek's model. The schema is in the prompt alone; JSON mode requires that the prompt mentions JSON."""

    name = "deepseek"
    vendor = "DeepSeek API"

    def _parameters(self, schema: dict[str, Any]) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "max_tokens": self._options.max_tokens,
            "response_format": {"type": "json_object"},
            # On by default: it would spend the answer's tokens, and the API then ignores the temperature.
            "extra_body": {"thinking": {"type": "disabled"}},
        }
        if self._options.temperature is not None:
            parameters["temperature"] = self._options.temperature
        return parameters


open_model = DeepSeek
