"""Commands in a batch, with a store in memory in place of Postgres: applied, remembered, and answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest

from actors._runtime import commands
from actors._runtime.commands import ATTEMPTS, write_batch
from actors._runtime.fencing import Fence
from actors._runtime.messages import Envelope, Message
from actors._runtime.replies import decode_reply
from config.ids import uuid7
from db._postgres import CONTENDED, Connection
from schemas.errors import Conflict, DatabaseUnavailable, Fenced, Internal

OUTAGES = (DatabaseUnavailable("gone"), Fenced("taken over"))


class Add(Message[int]):
    """A message that is answered with the number of applied messages, itself included."""

    error: Exception | None = None


class Store:
    """Rows and commands; a transaction, or one within it, that fails leaves neither."""

    actor = "test/actor"

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.commands: dict[bytes, bytes] = {}
        self.calls: list[list[str]] = []
        self.looked_up: list[set[bytes]] = []
        self.attempts = 0
        self.faults: list[Exception] = []  # of the next transactions, once their messages are applied

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Store]:
        """See Fence, and asyncpg."""
        before = list(self.applied), dict(self.commands)
        try:
            yield self
        except BaseException:
            self.applied, self.commands = before
            raise

    def attempt(self) -> Callable[[Connection, Sequence[Envelope]], Awaitable[list[int]]]:
        """See write_batch."""
        self.attempts += 1
        return self.apply

    async def apply(self, conn: object, batch: Sequence[Envelope]) -> list[int]:
        """Apply the messages, until one fails."""
        assert conn is self
        self.calls.append([each.key for each in batch])
        replies = []
        for each in batch:
            self.applied.append(each.key)
            if each.message.error is not None:
                raise each.message.error
            replies.append(len(self.applied))
        if self.faults:
            raise self.faults.pop(0)
        return replies

    async def write(self, *batch: Envelope) -> list[Any]:
        """Write the batch, and return the replies."""
        return await write_batch(cast(Fence, self), batch, self.attempt)

    async def find_commands(self, conn: object, actor: str, ids: Sequence[UUID]) -> dict[bytes, bytes]:
        """See db.actors."""
        assert (conn, actor) == (self, self.actor)
        self.looked_up.append({each.bytes for each in ids})
        return {each.bytes: self.commands[each.bytes] for each in ids if each.bytes in self.commands}

    async def store_commands(self, conn: object, actor: str, ids: Sequence[UUID], replies: Sequence[bytes]) -> bool:
        """See db.actors."""
        assert (conn, actor) == (self, self.actor)
        fresh = not self.commands.keys() & {each.bytes for each in ids}
        self.commands |= {each.bytes: reply for each, reply in zip(ids, replies, strict=True)}
        return fresh


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(commands.sql, "find_commands", made.find_commands)
    monkeypatch.setattr(commands.sql, "store_commands", made.store_commands)
    return made


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the upper bound of each wait between attempts, without waiting."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(commands, "jittered", lambda seconds, jitter: seconds * (1 + jitter))
    return found


def a_command(
    key: str, error: Exception | None = None, *, number: int | None = None, suspect: bool = False
) -> Envelope:
    return Envelope(key, Add(error), UUID(int=number).bytes if number else uuid7().bytes, suspect)


async def test_a_batch_is_applied_in_one_call_and_answered_in_order(store: Store) -> None:
    batch = [a_command("a"), Envelope("b", Add()), a_command("c")]
    assert await store.write(*batch) == [1, 2, 3]
    assert (store.calls, store.attempts, store.looked_up) == ([["a", "b", "c"]], 1, [])
    stored = {each.command_id: reply for each, reply in ((batch[0], 1), (batch[2], 3))}
    assert {key: decode_reply(Add(), reply) for key, reply in store.commands.items()} == stored


async def test_an_empty_batch_and_a_batch_without_commands_store_nothing(store: Store) -> None:
    assert await store.write() == []
    assert await store.write(Envelope("a", Add())) == [1]
    assert store.commands == {}


async def test_a_command_twice_in_a_batch_is_applied_once_and_answered_twice(store: Store) -> None:
    batch = [Envelope("q", Add()), *(a_command(key, number=n) for key, n in (("a", 1), ("b", 2), ("a", 1), ("a", 1)))]
    assert await store.write(*batch, Envelope("q", Add())) == [1, 2, 3, 2, 2, 4]
    assert store.calls == [["q", "a", "b", "q"]]


async def test_a_suspect_command_that_is_stored_is_answered_from_there(store: Store) -> None:
    first = a_command("a", number=1)
    assert await store.write(first) == [1]
    batch = [a_command("b", number=2), first._replace(suspect=True), a_command("c", suspect=True, number=3)]
    assert await store.write(*batch) == [2, 1, 3]
    assert store.calls[1:] == [["b", "c"]]
    assert store.looked_up == [{batch[1].command_id, batch[2].command_id}]
    assert await store.write(first._replace(suspect=True)) == [1]
    assert store.calls[2:] == [], "nothing was left to apply"


async def test_a_stored_command_that_is_not_suspect_is_found_by_the_insert(store: Store) -> None:
    first = a_command("a", number=1)
    assert await store.write(first) == [1]
    assert await store.write(a_command("b"), first, a_command("c")) == [2, 1, 3]
    assert store.applied == ["a", "b", "c"]
    assert store.attempts == 1 + 2


async def test_a_stored_reply_that_cannot_be_read_is_an_error_of_its_sender(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    first = a_command("a", number=1, suspect=True)
    store.commands[UUID(int=1).bytes] = b"nonsense"
    [reply, other] = await store.write(first, a_command("b"))
    assert (type(reply), other, store.applied) == (Internal, 1, ["b"])
    assert "UnreadableReply" in caplog.text


@pytest.mark.parametrize(("error", "kind"), [(Conflict("taken"), Conflict), (RuntimeError("a bug"), Internal)])
async def test_a_failing_command_fails_alone(
    store: Store, caplog: pytest.LogCaptureFixture, error: Exception, kind: type[Exception]
) -> None:
    bad = a_command("bad", error)
    replies = await store.write(a_command("a"), bad, a_command("b"))
    assert [replies[0], type(replies[1]), replies[2]] == [1, kind, 2]
    assert store.applied == ["a", "b"]
    assert store.calls[1:] == [["a"], ["bad"], ["b"]]
    assert bad.command_id not in store.commands, "it may be decided anew"
    logged = [each.exc_info for each in caplog.records if each.levelname == "ERROR"]
    assert [found and found[1] for found in logged] == ([error] if kind is Internal else [])


async def test_a_single_command_that_fails_is_not_tried_again(store: Store) -> None:
    error = Conflict("taken")
    assert await store.write(a_command("bad", error)) == [error]
    assert (store.attempts, store.applied, store.commands) == (1, [], {})


async def test_an_actor_that_answers_too_little_fails(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def apply(_: Connection, batch: Sequence[Envelope]) -> list[int]:
        return [1] * (len(batch) - 1)

    monkeypatch.setattr(store, "apply", apply)
    assert [type(each) for each in await store.write(a_command("a"))] == [Internal]


@pytest.mark.parametrize("error", CONTENDED)
async def test_a_contended_transaction_is_tried_again_with_growing_pauses(
    store: Store, pauses: list[float], error: type[Exception]
) -> None:
    store.faults = [error("x")] * (ATTEMPTS + 1)
    assert await store.write(a_command("a"), a_command("b")) == [1, 2]
    assert store.calls == [["a", "b"]] * (ATTEMPTS + 2)
    assert pauses == [pytest.approx(0.02 * tried) for tried in range(1, ATTEMPTS + 2)]


async def test_a_transaction_that_stays_contended_is_an_outage(store: Store, pauses: list[float]) -> None:
    store.faults = [asyncpg.DeadlockDetectedError("x")] * 100
    with pytest.raises(DatabaseUnavailable, match=r"^The database is contended$"):
        await store.write(a_command("a"))
    assert store.attempts == len(pauses) == ATTEMPTS + 2
    assert (store.applied, store.commands) == ([], {})


@pytest.mark.parametrize("error", OUTAGES)
async def test_outages_and_takeovers_are_raised_at_once(store: Store, error: Exception) -> None:
    store.faults = [error]
    with pytest.raises(type(error)):
        await store.write(a_command("a"), a_command("b"))
    assert (store.attempts, store.applied, store.commands) == (1, [], {})


@pytest.mark.parametrize(
    "error", [*OUTAGES, ConnectionResetError("lost"), asyncpg.InterfaceError("connection is closed")]
)
async def test_outages_among_single_messages_are_raised(store: Store, error: Exception) -> None:
    with pytest.raises(type(error)):
        await store.write(a_command("a"), a_command("b", Conflict("taken")), a_command("c", error))
    assert (store.attempts, store.applied, store.commands) == (2, [], {})


async def test_contention_among_single_messages_tries_the_batch_again(store: Store, pauses: list[float]) -> None:
    bad = Conflict("taken")
    store.faults = [asyncpg.LockNotAvailableError("x")]
    assert await store.write(a_command("a"), a_command("bad", bad)) == [1, bad]
    assert (store.attempts, len(pauses), store.applied) == (3, 1, ["a"])
