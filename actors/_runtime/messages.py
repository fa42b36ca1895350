"""What travels between a mailbox and an actor: messages with typed replies, and the batches that carry them.

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

# Instead of replies: the actor could not read the batch, since it runs other code than the sender.
UNDECODABLE = b""


class Message(Value, Generic[Reply_co]):
    """A request to the owner of a key. `Message[int]` is one that the owner answers with an int.

    Subclasses hold plain values and are defined at the top of a module that both sides import:

        class Increment(Message[int]):
            by: int = 1

    `writes`: False for a question. It needs no transaction and may be asked again at will.
    `idempotent`: True when applying it twice in a row is harmless by its own nature (a compare-and-set, an absolute
    set). All other writes carry a command id, under which the owner remembers its answer.
    """

    writes: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False


class Envelope(NamedTuple):
    """A message as its owner gets it."""

    key: str
    message: Message[Any]
    command_id: bytes | None = None  # 16 bytes of a UUID; None for questions and idempotent messages
    suspect: bool = False  # may have been applied before: delivered again, or the sender chose the command id


def encode(value: object) -> bytes:
    """Any value as bytes."""
    return pickle.dumps(value, _PROTOCOL)


def decode(data: bytes) -> Any:
    """The value of `encode`."""
    return pickle.loads(data)  # noqa: S301 - from our own processes only, see the module


def encode_replies(replies: Sequence[object]) -> bytes:
    """The answers to a batch, in its order. One that cannot be pickled becomes an `Internal`, the others stay."""
    try:
        return encode(list(replies))
    except Exception:  # noqa: BLE001 - pickling runs arbitrary code: anything may come
        return encode([_portable(reply) for reply in replies])


def _portable(reply: object) -> object:
    try:
        encode(reply)
    except Exception:  # noqa: BLE001 - as above
        return Internal(f"a reply of type {type(reply).__name__} cannot be sent")
    return reply
