"""Implement the model `chatgpt`: OpenAI's API, with its structured output."""

from __future__ import annotations

from typing import Any

from actors.lens.models._openai_chat import ChatModel


class ChatGpt(ChatModel):
    """OpenAI's model. The API itself enforces the schema of the answer."""

    name = "chatgpt"
    vendor = "OpenAI API"

    def _parameters(self, schema: dict[str, Any]) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "max_completion_tokens": self._options.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "decision", "strict": True, "schema": schema},
            },
        }
        if self._options.temperature is not None:
            parameters["temperature"] = self._options.temperature
        return parameters


open_model = ChatGpt
