"""Store the replies to commands in Postgres: data with the name of its type, which executes nothing when it is read.

A reply is decoded only as a type that the message declares (`Message[SignedIn | Refused]`): the name in the row chooses
among these, never anything else. A tampered database can give a false reply, not run code in an actor.

Rows of earlier versions are pickles. They live for an hour, and reading them can call nothing but the constructors of
the same declared types; when every server has run this version for an hour, `_OldReply` can go.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from asyncpg.pgproto import pgproto

from actors._runtime.messages import Message

_PICKLE = b"\x80"  # the first byte of every pickle since protocol 2; ours begins with an array of two, 0x92


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
        if stored[:1] == _PICKLE:
            reply = _OldReply(io.BytesIO(stored), type(message)).load()
            if any(check is None or isinstance(reply, check) for check, _ in declared.values()):
                return reply
            raise UnreadableReply(f"a stored {type(reply).__name__} does not answer {type(message).__name__}")
        name, value = _ROW.decode(stored)
        if name in declared:
            return declared[name][1].decode(value)
    except UnreadableReply:
        raise
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


class _OldReply(pickle.Unpickler):
    """Read a pickled reply that names no other types than the declared ones, and their fields'."""

    def __init__(self, file: io.BytesIO, message: type[Message[object]]) -> None:
        super().__init__(file)
        self._known = _constructors(message)

    def find_class(self, module: str, name: str) -> object:
        """Resolve a name for pickle. Raises UnreadableReply for a name that is not declared."""
        found = self._known.get((module, name))
        if found is None:
            raise UnreadableReply(f"the stored answer names {module}.{name}")
        return found

    def persistent_load(self, pid: object) -> object:
        """Refuse a persistent id, which no stored reply has."""
        raise UnreadableReply(f"the stored answer refers to {pid!r}")


# The constructors of the values in replies; each makes a value of its own type and does nothing else.
_PLAIN = (UUID, pgproto.UUID, datetime, date, timezone, timedelta, Decimal)


@cache
def _constructors(message: type[Message[object]]) -> Mapping[tuple[str, str], Callable[..., object]]:
    kinds = (*_PLAIN, *_records(declared_reply(message), set()))
    return {(each.__module__, each.__qualname__): _maker(each) for each in kinds}


def _maker(kind: type) -> Callable[..., object]:
    # A pickle can set attributes of what it was given, of a class too, unless that has a `__setstate__`.
    if hasattr(kind, "__setstate__"):
        return kind

    def make(*arguments: object) -> object:
        return kind(*arguments)

    return make


def _records(declared: object, seen: set[object]) -> Iterator[type]:
    """Yield the records of ours that a type is, or has in its fields."""
    if declared in seen:
        return
    seen.add(declared)
    for argument in typing.get_args(declared):
        yield from _records(argument, seen)
    if isinstance(declared, type) and (dataclasses.is_dataclass(declared) or issubclass(declared, msgspec.Struct)):
        yield declared
        for hint in typing.get_type_hints(declared).values():
            yield from _records(hint, seen)
