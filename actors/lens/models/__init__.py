"""Define the interface of the models that judge signals, and open the configured ones."""

from __future__ import annotations

from importlib import import_module
from typing import Final, Protocol

from actors.lens.model import Evaluation, Features, RawSignal
from actors.lens.models.technical import TechnicalModel
from actors.lens.technical import MODEL
from config.model_sdks import missing_extra
from config.settings import ConfigurationError, Settings

_VENDORS: Final = {
    "chatgpt": ("openai", "openai_chat", "ChatGpt"),
    "gemini": ("google", "gemini", "Gemini"),
    "claude": ("anthropic", "claude", "Claude"),
    "deepseek": ("deepseek", "openai_chat", "DeepSeek"),
}
"""By model: its settings' prefix, its module and its class."""


class Model(Protocol):
    """A model that judges a signal by its features.

    `judge` always returns an Evaluation: a decision, or the status and the text of the failure. It keeps its own
    deadline; `timeout_seconds` is after it, for a caller that guards itself against a model that does not.
    """

    name: str
    version: str
    timeout_seconds: float

    async def judge(self, signal: RawSignal, features: Features) -> Evaluation:
        """Judge one signal."""

    async def close(self) -> None:
        """Close connections."""


def open_models(settings: Settings) -> list[Model]:
    """Open the models of `settings.active_models`, in that order. Raises ConfigurationError for an SDK not installed.

    Imports the SDKs of those models, and of no others: seconds of CPU. No connection is opened yet.
    """
    missing = [problem for name in settings.active_models if (problem := missing_extra(name)) is not None]
    if missing:
        raise ConfigurationError(missing)
    return [TechnicalModel() if name == MODEL else _open(name, settings) for name in settings.active_models]


def _open(name: str, settings: Settings) -> Model:
    from actors.lens.models._remote import ModelOptions  # late: with `technical` alone, no HTTP module is loaded

    vendor, module, kind = _VENDORS[name]
    options = ModelOptions(
        model=getattr(settings, f"{vendor}_model"),
        api_key=getattr(settings, f"{vendor}_api_key"),
        base_url=getattr(settings, f"{vendor}_base_url"),
        timeout_seconds=settings.lens_model_timeout_seconds,
        temperature=settings.lens_model_temperature,
        max_tokens=settings.lens_model_max_tokens,
        concurrency=settings.lens_model_concurrency // settings.lens_shards,
    )
    model: Model = getattr(import_module(f"actors.lens.models.{module}"), kind)(options)
    return model
