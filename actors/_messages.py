"""What travels between a mailbox and an actor: messages with typed replies, and the batches that carry them.

A batch is one `bytes`: Ray passes bytes on as they are, and one plain pickle of a whole batch names each class once.
Both ends are our own processes, so pickle is as safe as Ray itself, which uses it for everything else.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from schemas.errors import Internal

Reply_co = TypeVar("Reply_co", covariant=True)

_PROTOCOL = 5

# Instead of replies: the actor could not read the batch, since it runs other code than the sender.
UNDECODABLE = b""


class Message(Generic[Reply_co]):
    """A request to the owner of a key. `Message[int]` is one that the owner answers with an int.

    Subclasses are frozen, slotted dataclasses of plain values, defined at the top of a module that both sides import:

        @dataclass(frozen=True, slots=True)
        class Increment(Message[int]):
            by: int = 1

    `writes`: False for a question. It needs no transaction and may be asked again at will.
    `idempotent`: True when applying it twice in a row is harmless by its own nature (a compare-and-set, an absolute
    set). All other writes carry a command id, under which the owner remembers its answer.
    """

    __slots__ = ()

    writes: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False

    def __reduce__(self) -> tuple[object, ...]:
        # A slotted frozen dataclass pickles through dataclasses.fields(): 5.3 µs there and back, this way 2.3.
        cls: Any = type(self)
        return cls, _values_of(cls)(self)


@cache
def _values_of(cls: Any) -> Callable[[object], tuple[object, ...]]:
    fields = dataclasses.fields(cls)
    if any(field.kw_only or not field.init for field in fields):
        raise TypeError(f"{cls.__name__}: the fields of a message are positional, so that it travels cheaply")
    names = [field.name for field in fields]
    if len(names) > 1:
        return attrgetter(*names)  # in C; for one name it does not make a tuple
    return lambda message: tuple([getattr(message, name) for name in names])


class Delivery(NamedTuple):
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
