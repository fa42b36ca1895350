"""Answers of commands as they are stored in Postgres.

The kind of fault: stored data decides which code its reader executes. A pickle in a table runs whatever it
names in the process that reads it, so who can write one row of `actor_commands` owns every actor.
"""

from __future__ import annotations

import ast
import importlib
import pickle
import pkgutil
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from asyncpg.pgproto import pgproto

import actors
from actors._runtime.messages import Message
from actors._runtime.replies import UnreadableReply, _types, decode_reply, encode_reply
from actors.lens.messages import Counts, ResolveDeadLetters
from actors.providers.messages import Follow, Unfollow
from actors.users.messages import (
    ChangePassword,
    EndSessions,
    Profile,
    React,
    Refresh,
    Refused,
    SaveView,
    SignedIn,
    SignIn,
    Watch,
)
from db.lens.dlq import DeadLetterFilters
from db.providers.follows import FollowRow
from db.users.preferences import ViewRow, WatchlistRow

ROOT = Path(__file__).parents[2]
A, B = UUID(int=1 << 100), UUID(int=2)
AT = datetime(2026, 1, 15, 10, 30, 0, 123456, UTC)
PROFILE = Profile(A, "a@example.com", True, "Ann", None, None, AT)

SIGN_IN = SignIn(A, None, b"", None, "127.0.0.1", AT)
REFRESH = Refresh(A, b"", b"", None, "127.0.0.1", AT)
WATCH = Watch("BTC", {}, AT)
FOLLOW = Follow(B, None, AT)
VIEW = SaveView(A, "x", None, {}, False, AT)

ANSWERS: list[tuple[Message[Any], Any]] = [
    (SIGN_IN, SignedIn(PROFILE, B, (A, B))),
    (REFRESH, SignedIn(PROFILE, B)),
    (REFRESH, Refused("ended", (B,))),
    (EndSessions(None), (A, B)),
    (ChangePassword(None, "", A, AT), ()),
    (WATCH, (WatchlistRow(pgproto.UUID(str(A)), "BTC", None, True, Decimal("1.20"), None, AT), True)),
    (VIEW, ViewRow(A, B, "x", None, {"a": [1, 2.5, None, {"b": True}]}, False, AT)),
    (FOLLOW, (FollowRow(A, B, True, AT), False)),
    (Unfollow(B, AT), None),
    (React("like", AT), True),
    (ResolveDeadLetters(DeadLetterFilters(), "x", 1, False), Counts(1, 2, 3)),
]


@pytest.mark.parametrize(("message", "reply"), ANSWERS, ids=lambda each: type(each).__name__)
def test_an_answer_comes_back_equal_from_its_row(message: Message[Any], reply: Any) -> None:
    stored = encode_reply(message, reply)
    assert not stored.startswith(b"\x80"), "no pickle"
    assert decode_reply(message, stored) == reply
    assert type(decode_reply(message, stored)) is type(reply)


def test_every_command_of_the_system_declares_an_answer_that_can_be_stored() -> None:
    for each in pkgutil.walk_packages(actors.__path__, "actors."):
        if each.name.endswith("messages"):
            importlib.import_module(each.name)
    kinds = [each for each in _subclasses(Message) if each.__module__.startswith("actors.")]
    assert len(kinds) > 40
    for kind in kinds:
        assert _types(kind), kind
        assert None not in [check for check, _ in _types(kind).values()], kind


class Bomb:
    """A pickle that would import what it names and call it."""

    def __init__(self, callee: Any, *arguments: Any) -> None:
        self.reduced = (callee, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def test_a_hostile_row_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    import os

    bombs = [
        pickle.dumps(Bomb(os.system, f"touch {mark}"), 5),
        pickle.dumps(Bomb(eval, f"open({str(mark)!r}, 'w')"), 5),
        pickle.dumps(Bomb(getattr, Profile, "of"), 5),
        pickle.dumps(SignedIn(PROFILE, Bomb(os.system, f"touch {mark}")), 5),  # type: ignore[arg-type]
        b"cposix\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.",  # protocol 0
        b"\x80\x05cactors.users.messages\nProfile.of\n.",
        b"\x80\x05P0\n.",
        pickle.dumps(os.system, 5),
        b"\x80",
        b"",
        b"\x92\xa8SignedIn",
        msgspec.msgpack.encode(("os.system", f"touch {mark}")),
        msgspec.msgpack.encode(("Profile", PROFILE)),  # a type of ours, but not of this message
        pickle.dumps(Refused("no"), 5),  # the same
        pickle.dumps("yes", 5),
    ]
    for bomb in bombs:
        with pytest.raises(UnreadableReply):
            decode_reply(SIGN_IN, bomb)
    assert not mark.exists()


def test_a_hostile_row_changes_no_class() -> None:
    """BUILD sets attributes of what stands on the stack, which may be a class."""
    name = b"\x8c\x15actors.users.messages\x8c\x08SignedIn\x93"
    build = b"\x80\x05" + name + b"N}(\x8c\x05spoilK\x01u\x86b."
    with pytest.raises(UnreadableReply):
        decode_reply(SIGN_IN, build)
    for module, kind in (("uuid", "UUID"), ("decimal", "Decimal"), ("datetime", "datetime")):
        opened = b"\x80\x05c" + module.encode() + b"\n" + kind.encode() + b"\nN}(\x8c\x05spoilK\x01u\x86b."
        with pytest.raises(UnreadableReply):
            decode_reply(SIGN_IN, opened)
        assert not hasattr(getattr(importlib.import_module(module), kind), "spoil")
    assert not hasattr(SignedIn, "spoil")


def test_an_answer_that_the_message_does_not_declare_is_not_stored() -> None:
    with pytest.raises(UnreadableReply, match="SignIn is not answered with str"):
        encode_reply(SIGN_IN, "yes")


READERS = {"pickle": {"loads", "load", "Unpickler"}, "marshal": {"loads", "load"}, "shelve": {"open"}}
MAY = {("actors/_runtime/messages.py", "pickle.loads")}


def test_unpickling_is_confined_to_one_module() -> None:
    """Batches between our own processes are pickles, by Ray; no store, channel, topic or file is."""
    found = set()
    for folder in ("actors", "config", "db", "handlers", "schemas", "server"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    if node.attr in READERS.get(node.value.id, ()):
                        found.add((str(path.relative_to(ROOT)), f"{node.value.id}.{node.attr}"))
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    assert node.func.id not in {"eval", "exec"}, path
                elif isinstance(node, ast.ImportFrom):
                    assert node.module not in READERS, path
    assert found == MAY


def _subclasses(kind: type[Any]) -> list[type[Any]]:
    return [each for direct in kind.__subclasses__() for each in (direct, *_subclasses(direct))]
