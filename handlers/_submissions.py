"""Hand raw signals to Lens, once for each idempotency key."""

from __future__ import annotations

from marshmallow import ValidationError
from tornado.httputil import HTTPHeaders

from actors.lens.messages import INTAKE, Receipt, Submit
from config.documents import Loaded
from config.ids import uuid7
from handlers._http.base import GatewayHandler
from schemas._fields import Text
from schemas.errors import ValidationFailed

KEY_HEADER = "X-Idempotency-Key"
KEY_CHARACTERS = 255
IDEMPOTENCY_KEY = Text(
    min=1, max=KEY_CHARACTERS, metadata={"description": "Repeating it within 24 hours repeats the answer."}
)


async def hand_in(handler: GatewayHandler, signal: Loaded) -> Receipt:
    """Submit the request's signal to Lens; returns once it is durable."""
    submit = Submit(event_id=uuid7(), idempotency_key=_idempotency_key(handler.request.headers), **signal)
    receipt = await handler.ask(INTAKE, submit.source, submit)
    if receipt.replayed:
        handler.set_header("Idempotent-Replayed", "true")
    return receipt


def _idempotency_key(headers: HTTPHeaders) -> str | None:
    key = headers.get(KEY_HEADER)
    try:
        return None if key is None else str(IDEMPOTENCY_KEY.deserialize(key))
    except ValidationError as error:
        raise ValidationFailed.of(KEY_HEADER, error.messages[0]) from None
