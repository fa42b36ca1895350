"""The models that judge signals: one interface, one door."""

from __future__ import annotations

from typing import Protocol

from actors.lens.model import Evaluation, Features, RawSignal
from actors.lens.models.technical import TechnicalModel
from config.settings import Settings


class Model(Protocol):
    """Somebody who judges a signal by its features.

    `judge` answers with an Evaluation whatever happens: a decision, or the status and the text of the failure.
    """

    name: str
    version: str
    timeout_seconds: float

    async def judge(self, signal: RawSignal, features: Features) -> Evaluation:
        """One judgement."""

    async def close(self) -> None:
        """Give back connections."""


def open_models(settings: Settings) -> list[Model]:
    """The models of `settings.active_models`, in that order."""
    return [TechnicalModel() for name in settings.active_models if name == "technical"]
