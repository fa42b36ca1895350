"""Define what is sent between an ActorRef and an actor: messages with typed replies, and batches that carry them.

A batch is one `bytes`: Ray passes bytes on as they are, and one plain pickle of a whole batch names each class once.
Both ends are our own processes, so pickle is as safe as Ray itself, which uses it for everything else.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from config.values import Value
from schemas.errors import Internal

Reply_co = TypeVar("Reply_co", covariant=True)

_PROTOCOL = 5

# Replaces the replies: the actor could not read the batch, since it runs other code than the sender.
UNDECODABLE = b""


class Message(Value, Generic[Reply_co]):
    """Base of a request to the owner of a key. `Message[int]` is one that the owner answers with an int.

    Subclasses hold plain values and are defined at the top of a module that both sides import:

        class Increment(Message[int]):
            by: int = 1

    `writes`: False for a query. It needs no transaction and may be repeated freely.
    `idempotent`: True when applying it twice in a row is harmless by its own nature (a compare-and-set, an absolute
    set). All other writes carry a command id, under which the owner stores its reply.
    """

    writes: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False


class Envelope(NamedTuple):
    """Carry a message to its owner, with its key and command id."""

    key: str
    message: Message[object]
    command_id: bytes | None = None  # 16 bytes of a UUID; None for queries and idempotent messages
    suspect: bool = False  # may have been applied before: it was sent again, or the sender chose the command id


def encode(value: object) -> bytes:
    """Encode any value as bytes."""
    return pickle.dumps(value, _PROTOCOL)


def decode(data: bytes) -> Any:
    """Decode the value that `encode` was given."""
    return pickle.loads(data)  # noqa: S301 - from our own processes only, see the module


def encode_replies(replies: Sequence[object]) -> bytes:
    """Encode the replies to a batch, in order. One that cannot be pickled becomes an `Internal`, the others stay."""
    try:
        return encode(list(replies))
    except Exception:  # noqa: BLE001 - pickling runs arbitrary code, which can raise anything
        return encode([_portable(reply) for reply in replies])


def _portable(reply: object) -> object:
    try:
        encode(reply)
    except Exception:  # noqa: BLE001 - as above
        return Internal(f"a reply of type {type(reply).__name__} cannot be sent")
    return reply
