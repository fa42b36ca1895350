"""Schemas that all signals share: action, provider, terms, reactions."""

from __future__ import annotations

from typing import Any

from schemas._fields import Choice, Flag, Number, Schema, Text, Timestamp, Whole

ACTIONS = ("buy", "sell", "hold", "yes", "no")
REACTIONS = ("like", "fire", "rocket", "sad")


class Action(Choice):
    """An action in upper or lower case; loaded in lower case."""

    def __init__(self, **options: Any) -> None:
        super().__init__(ACTIONS, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return super()._deserialize(value.lower() if isinstance(value, str) else value, attr, data, **kwargs)


EVENT_TYPES = ("OPEN_SIGNAL", "CLOSE_SIGNAL")


class Terms(Schema):
    """The terms of the position that a signal opens or closes, beyond the document. Null: unknown."""

    event_type = Choice(EVENT_TYPES)
    direction = Choice(
        ("long", "short"),
        allow_none=True,
        metadata={"description": "The side of the position that it opens or closes; null: it is about none."},
    )
    entry_price = Number(allow_none=True, metadata={"description": "What it opens or closes at, as its provider says."})
    commentary = Text(allow_none=True)
    received_at = Timestamp(
        allow_none=True,
        metadata={"description": "When this server received it; null: before that was kept."},
    )


class ProviderCard(Schema):
    """The provider, as a signal shows it."""

    id = Text(metadata={"format": "uuid"})
    name = Text()
    avatar_url = Text(allow_none=True)
    win_rate = Whole(min=0, max=100, allow_none=True, metadata={"description": "Percent; null: nothing closed yet."})
    followers = Whole(min=0)
    verified = Flag()


class ReactionCounts(Schema):
    """The number of reactions by kind; kinds without any are left out."""

    like = Whole(min=1)
    fire = Whole(min=1)
    rocket = Whole(min=1)
    sad = Whole(min=1)

    def _dump_one(self, obj: Any) -> dict[str, Any]:
        return {kind: obj[kind] for kind in REACTIONS if kind in obj}
