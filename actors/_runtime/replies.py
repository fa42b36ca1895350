"""Store the replies to commands in Postgres: data with the name of its type, which executes nothing when it is read.

A reply is decoded only as a type that the message declares (`Message[SignedIn | Refused]`): the name in the row chooses
among these, never anything else. A tampered database can give a false reply, not run code in an actor.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from actors._runtime.messages import Message


class UnreadableReply(Exception):
    """A stored reply is not one that this message can have."""


def encode_reply(message: Message[object], reply: object) -> bytes:
    """Encode the reply to `message` for storage. Raises UnreadableReply for one that the message does not declare."""
    for name, (check, _) in _types(type(message)).items():
        if check is None or isinstance(reply, check):
            return msgspec.msgpack.encode((name, reply))
    raise UnreadableReply(f"{type(message).__name__} is not answered with {type(reply).__name__}")


def decode_reply(message: Message[object], stored: bytes) -> object:
    """Decode the stored reply to `message`. Raises UnreadableReply."""
    declared = _types(type(message))
    try:
        name, value = _ROW.decode(stored)
        if name in declared:
            return declared[name][1].decode(value)
    except Exception as error:  # noqa: BLE001 - whatever is stored there: it is not a reply
        raise UnreadableReply(f"the stored answer to {type(message).__name__}: {type(error).__name__}") from None
    raise UnreadableReply(f"a stored {name} does not answer {type(message).__name__}")


_ROW = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])


@cache
def _types(message: type[Message[object]]) -> Mapping[str, tuple[type | None, msgspec.msgpack.Decoder[object]]]:
    """Return the reply types of a message, by name: what `isinstance` needs (None: anything), and the decoder."""
    found: dict[str, tuple[type | None, msgspec.msgpack.Decoder[object]]] = {}
    for each in _members(declared_reply(message)):
        check = None if each is Any else (typing.get_origin(each) or each)
        name = each.__name__ if isinstance(each, type) else str(each)
        found[name] = (check, msgspec.msgpack.Decoder(each))
    return found


def declared_reply(message: type[Message[object]]) -> Any:
    """Return the type between the brackets of `Message[…]`."""
    for kind in message.__mro__:
        for base in getattr(kind, "__orig_bases__", ()):
            if typing.get_origin(base) is Message:
                return typing.get_args(base)[0]
    return Any


def _members(declared: object) -> tuple[Any, ...]:
    if isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union:
        return typing.get_args(declared)
    return (declared,)
