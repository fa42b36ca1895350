"""The actor reference over a transport in this process: batching, bounds, deadlines, repetition."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from uuid import UUID

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from actors._runtime.messages import UNDECODABLE, Envelope, Message, decode, encode, encode_replies
from actors._runtime.ref import ActorRef, MailboxLimits
from actors._runtime.transport import BytesTransport, Undelivered
from config.ids import uuid7
from config.tasks import spawn
from schemas.errors import (
    ActorUnavailable,
    AppError,
    Conflict,
    DeadlineExceeded,
    FieldError,
    Internal,
    NotFound,
    Overloaded,
    all_errors,
)
from tests.support.asking import ask_many


class Say(Message[str]):
    """A message that is answered with its own text."""

    words: str


class Look(Message[str]):
    """A read-only message."""

    writes: ClassVar[bool] = False

    where: str = "here"


class Put(Message[str]):
    """A write that may be repeated."""

    idempotent: ClassVar[bool] = True

    what: str = "it"


class Carry(Message[Any]):
    """A message that carries any value."""

    value: Any


Answer = Callable[[Sequence[Envelope]], Awaitable[bytes]]


class Actor:
    """The other end of a transport, in this process: it records the batches and answers as it is told."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.batches: list[list[Envelope]] = []
        self.sizes: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self._answer = answer or self.echo

    async def deliver(self, batch: bytes) -> bytes:
        """Record the batch, as ActorRuntime.deliver takes it."""
        envelopes = [Envelope._make(each) for each in decode(batch)]
        self.batches.append(envelopes)
        self.sizes.append(len(batch))
        await self.open.wait()
        return await self._answer(envelopes)

    @staticmethod
    async def echo(batch: Sequence[Envelope]) -> bytes:
        """Return the text of each message."""
        return encode_replies([getattr(each.message, "words", each.key) for each in batch])


def ref_to(actor: Any, **limits: Any) -> ActorRef:
    """Return a reference to `actor`."""
    bounds = MailboxLimits(**limits)
    return ActorRef("test/actor", BytesTransport(actor.deliver, bounds.batch_bytes), bounds)


@asynccontextmanager
async def a_mailbox(actor: Any, **limits: Any) -> Any:
    """Return a reference to `actor` that is closed at the end."""
    ref = ref_to(actor, **limits)
    try:
        yield ref
    finally:
        actor.open.set()
        await ref.close()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for the condition, and fail if it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, so there is no event to wait for
            await asyncio.sleep(0.001)


async def test_a_lone_message_leaves_at_once_and_alone() -> None:
    actor = Actor()
    async with a_mailbox(actor) as ref:
        assert await ref.ask("k", Say("hello")) == "hello"
        assert await ref.ask("k", Say("again")) == "again"
        assert [len(batch) for batch in actor.batches] == [1, 1]


async def test_messages_of_one_turn_of_the_loop_leave_in_one_call() -> None:
    actor = Actor()
    async with a_mailbox(actor) as ref:
        words = [f"w{n}" for n in range(50)]
        assert await asyncio.gather(*(ref.ask("k", Say(each)) for each in words)) == words
        assert [len(batch) for batch in actor.batches] == [50]


async def test_messages_during_a_call_wait_and_leave_in_the_next_one_in_order() -> None:
    actor = Actor()
    actor.open.clear()
    async with a_mailbox(actor) as ref:
        first = spawn(ref.ask("k", Say("first")), name="first")
        await until(lambda: len(actor.batches) == 1)
        rest = [spawn(ref.ask("k", Say(f"{n}")), name="rest") for n in range(20)]
        await asyncio.sleep(0.02)
        assert len(actor.batches) == 1, "one call at a time"
        actor.open.set()
        assert await asyncio.gather(first, *rest) == ["first", *(f"{n}" for n in range(20))]
        assert [[each.message.words for each in batch] for batch in actor.batches] == [
            ["first"],
            [f"{n}" for n in range(20)],
        ]


async def test_a_full_mailbox_refuses_to_ask_and_to_tell() -> None:
    actor = Actor()
    actor.open.clear()
    async with a_mailbox(actor, waiting=3) as ref:
        under_way = spawn(ref.ask("k", Say("under way")), name="under way")
        await until(lambda: len(actor.batches) == 1)
        assert [ref.tell("k", Say(f"{n}")) for n in range(5)] == [True] * 3 + [False] * 2
        assert ref.depth == 3
        assert ref.tell("k", Say("x")) is False
        with pytest.raises(Overloaded) as raised:
            await ref.ask("k", Say("x"))
        assert (raised.value.status, raised.value.retry_after) == (503, 1)
        actor.open.set()
        assert await under_way == "under way"
        await until(lambda: ref.depth == 0)
        assert await ref.ask("k", Say("room again")) == "room again"


async def test_a_message_past_its_deadline_is_withdrawn_if_it_still_waits() -> None:
    actor = Actor()
    actor.open.clear()
    async with a_mailbox(actor) as ref:
        under_way = spawn(ref.ask("k", Say("under way")), name="under way")
        await until(lambda: len(actor.batches) == 1)
        started = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded) as raised:
            await ref.ask("k", Say("late"), deadline_seconds=0.05)
        assert raised.value.status == 503
        assert 0.04 < asyncio.get_running_loop().time() - started < 0.5
        assert ref.depth == 0
        actor.open.set()
        assert await under_way == "under way"
        await ref.ask("k", Say("next"))
        assert [each.message.words for batch in actor.batches for each in batch] == ["under way", "next"]


async def test_a_message_under_way_past_its_deadline_is_answered_but_not_called_back() -> None:
    done: list[str] = []

    async def slow(batch: Sequence[Envelope]) -> bytes:
        await asyncio.sleep(0.1)
        done.extend(each.message.words for each in batch)
        return await Actor.echo(batch)

    actor = Actor(slow)
    async with a_mailbox(actor) as ref:
        with pytest.raises(DeadlineExceeded):
            await ref.ask("k", Say("late"), deadline_seconds=0.03)
        assert done == []
        assert await ref.ask("k", Say("next")) == "next"
        assert done == ["late", "next"]


async def test_under_load_the_next_batch_waits_for_company_and_a_lone_message_never_does() -> None:
    actor = Actor()
    async with a_mailbox(actor, pause_seconds_each=0.02, pause_seconds=0.1) as ref:
        loop = asyncio.get_running_loop()

        async def ask(count: int) -> float:
            began = loop.time()
            await asyncio.gather(*(ref.ask("k", Say("x")) for _ in range(count)))
            return loop.time() - began

        assert await ask(1) < 0.05
        assert await ask(1) < 0.05
        await ask(4)  # after which the next one waits 80 ms
        began = loop.time()
        first = spawn(ask(1), name="first")
        await asyncio.sleep(0.02)
        second = spawn(ask(1), name="second")
        await asyncio.gather(first, second)
        assert loop.time() - began > 0.06
        assert [len(batch) for batch in actor.batches] == [1, 1, 4, 2]


async def test_a_batch_as_large_as_the_last_one_waits_for_nobody() -> None:
    actor = Actor()
    actor.open.clear()
    async with a_mailbox(actor, pause_seconds_each=1.0, pause_seconds=1.0) as ref:
        asked = [spawn(ref.ask("k", Say("x")), name="asked") for _ in range(3)]
        await until(lambda: len(actor.batches) == 1)
        asked += [spawn(ref.ask("k", Say("x")), name="asked") for _ in range(3)]
        await until(lambda: ref.depth == 3)
        actor.open.set()
        async with asyncio.timeout(0.9):
            assert await asyncio.gather(*asked) == ["x"] * 6
        assert [len(batch) for batch in actor.batches] == [3, 3]


async def test_deadlines_of_any_order_are_met() -> None:
    actor = Actor()
    actor.open.clear()
    async with a_mailbox(actor) as ref:
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def late_by(seconds: float) -> float:
            with pytest.raises(DeadlineExceeded):
                await ref.ask("k", Say("x"), deadline_seconds=seconds)
            return loop.time() - started - seconds

        delays = await asyncio.gather(*(late_by(seconds) for seconds in (0.2, 0.05, 0.15, 0.05, 0.1)))
        assert all(-0.005 < delay < 0.2 for delay in delays), delays


async def test_a_message_whose_caller_gave_up_is_not_sent() -> None:
    actor = Actor()
    actor.open.clear()
    async with a_mailbox(actor) as ref:
        first = spawn(ref.ask("k", Say("first")), name="first")
        await until(lambda: len(actor.batches) == 1)
        second = spawn(ref.ask("k", Say("second")), name="second")
        await until(lambda: ref.depth == 1)
        second.cancel()
        actor.open.set()
        assert await first == "first"
        assert await ref.ask("k", Say("third")) == "third"
        assert [each.message.words for batch in actor.batches for each in batch] == ["first", "third"]


async def test_a_failed_call_is_repeated_with_the_same_command_ids_marked_as_suspect() -> None:
    failures = 2

    async def fail_twice(batch: Sequence[Envelope]) -> bytes:
        nonlocal failures
        if failures:
            failures -= 1
            raise Undelivered("the process died")
        return await Actor.echo(batch)

    actor = Actor(fail_twice)
    async with a_mailbox(actor, retry_seconds=(0.001, 0.5)) as ref:
        assert await asyncio.gather(ref.ask("a", Say("x")), ref.ask("b", Look())) == ["x", "b"]
        assert len(actor.batches) == 3
        first, *again = actor.batches
        assert [each.suspect for each in first] == [False, False]
        assert all([each.suspect for each in batch] == [True, False] for batch in again)
        assert {batch[0].command_id for batch in actor.batches} == {first[0].command_id}


async def test_a_repeated_batch_holds_only_what_somebody_still_waits_for() -> None:
    failing = True

    async def fail(batch: Sequence[Envelope]) -> bytes:
        if failing:
            raise Undelivered("away")
        return await Actor.echo(batch)

    actor = Actor(fail)
    async with a_mailbox(actor, retry_seconds=(0.01, 0.02)) as ref:
        patient = spawn(ref.ask("k", Say("patient"), deadline_seconds=5), name="patient")
        with pytest.raises(ActorUnavailable):
            await ref.ask("k", Say("impatient"), deadline_seconds=0.05)
        failing = False
        assert await patient == "patient"
        assert {each.message.words for each in actor.batches[0]} == {"patient", "impatient"}
        assert [each.message.words for each in actor.batches[-1]] == ["patient"]


async def test_an_actor_that_stays_away_is_unavailable_at_the_deadline() -> None:
    async def fail(batch: Sequence[Envelope]) -> bytes:
        raise Undelivered("away")

    async with a_mailbox(Actor(fail)) as ref:
        started = asyncio.get_running_loop().time()
        with pytest.raises(ActorUnavailable) as raised:
            await ref.ask("k", Say("x"), deadline_seconds=0.1)
        assert asyncio.get_running_loop().time() - started < 1.0
        assert (raised.value.status, raised.value.retry_after) == (503, 1)


async def test_a_call_without_an_answer_is_given_up_so_that_the_next_can_leave() -> None:
    actor = Actor()
    actor.open.clear()
    async with a_mailbox(actor, call_seconds=0.1, retry_seconds=(0.001, 0.5)) as ref:
        with pytest.raises(DeadlineExceeded):
            await ref.ask("k", Say("lost"), deadline_seconds=0.02)
        following = spawn(ref.ask("k", Say("following")), name="following")
        await until(lambda: len(actor.batches) == 2)
        actor.open.set()
        assert await following == "following"


async def test_a_batch_has_at_most_so_many_messages() -> None:
    actor = Actor()
    async with a_mailbox(actor, batch_messages=10) as ref:
        await asyncio.gather(*(ref.ask("k", Say(f"{n}")) for n in range(25)))
        assert [len(batch) for batch in actor.batches] == [10, 10, 5]


async def test_a_batch_has_at_most_so_many_bytes_unless_it_is_one_message() -> None:
    actor = Actor()
    async with a_mailbox(actor, batch_bytes=10_000) as ref:
        words = [f"{n}".ljust(2000, ".") for n in range(40)]
        assert await asyncio.gather(*(ref.ask("k", Say(each)) for each in words)) == words
        assert max(actor.sizes) <= 10_000
        assert [each.message.words for batch in actor.batches for each in batch] == words
        huge = "x" * 50_000
        assert await ref.ask("k", Say(huge)) == huge


async def test_a_message_that_cannot_be_pickled_fails_alone() -> None:
    async with a_mailbox(Actor()) as ref:
        replies = await asyncio.gather(
            ref.ask("a", Carry(1)),
            ref.ask("b", Carry(lambda: None)),
            ref.ask("c", Carry(2)),
            return_exceptions=True,
        )
        assert replies[0] == "a"
        assert replies[2] == "c"
        assert isinstance(replies[1], Exception)
        assert "pickle" in str(replies[1])


async def test_a_reply_that_cannot_be_pickled_fails_alone() -> None:
    async def answer(batch: Sequence[Envelope]) -> bytes:
        return encode_replies([1, lambda: None, NotFound("gone")])

    async with a_mailbox(Actor(answer)) as ref:
        replies = await ask_many(ref, [("k", Say("x"))] * 3)
        assert replies[0] == 1
        assert isinstance(replies[1], Internal)
        assert replies[2] == NotFound("gone")


async def test_a_message_that_the_actor_cannot_read_fails_alone() -> None:
    async def old_code(batch: Sequence[Envelope]) -> bytes:
        if any(isinstance(each.message, Put) for each in batch):
            return UNDECODABLE
        return await Actor.echo(batch)

    async with a_mailbox(Actor(old_code)) as ref:
        pairs: list[tuple[str, Message[str]]] = [("k", Say(f"{n}")) for n in range(9)]
        pairs.insert(5, ("k", Put()))
        replies = await ask_many(ref, pairs)
        assert isinstance(replies.pop(5), Internal)
        assert replies == [f"{n}" for n in range(9)]


async def test_an_answer_that_makes_no_sense_costs_its_batch_and_nothing_else() -> None:
    answers = [b"nonsense", encode_replies([1, 2, 3])]

    async def answer(batch: Sequence[Envelope]) -> bytes:
        return answers.pop(0) if answers else await Actor.echo(batch)

    async with a_mailbox(Actor(answer)) as ref:
        for _ in range(2):
            with pytest.raises(Internal):
                await ref.ask("k", Say("x"))
        assert await ref.ask("k", Say("fine")) == "fine"


@pytest.mark.parametrize("error", all_errors(), ids=lambda cls: cls.__name__)
async def test_every_error_of_the_tree_is_raised_at_the_caller_as_it_was(error: type[AppError]) -> None:
    sent = error("what happened", details=[FieldError("a.b", "wrong")], retry_after=7, headers={"X": "y"})

    async def answer(batch: Sequence[Envelope]) -> bytes:
        return encode_replies([sent])

    async with a_mailbox(Actor(answer)) as ref:
        with pytest.raises(error) as raised:
            await ref.ask("k", Say("x"))
        assert type(raised.value) is error
        assert raised.value == sent
        assert raised.value.headers == {"X": "y"}


async def test_asking_many_gives_each_its_reply_or_its_error() -> None:
    async def answer(batch: Sequence[Envelope]) -> bytes:
        return encode_replies([Conflict() if each.message.words == "bad" else each.message.words for each in batch])

    async with a_mailbox(Actor(answer), waiting=3) as ref:
        replies = await ask_many(ref, [("k", Say(each)) for each in ("a", "bad", "c", "too many")])
        assert replies[:3] == ["a", Conflict(), "c"]
        assert isinstance(replies[3], Overloaded)
        assert await ask_many(ref, []) == []


async def test_only_a_write_that_must_not_be_repeated_carries_a_command_id() -> None:
    actor = Actor()
    chosen = uuid7()
    async with a_mailbox(actor) as ref:
        await ref.ask("k", Say("x"))
        await ref.ask("k", Say("x"), command_id=chosen)
        await ref.ask("k", Look(), command_id=chosen)
        await ref.ask("k", Put())
        made, known, question, idempotent = (batch[0] for batch in actor.batches)
        assert UUID(bytes=made.command_id).version == 7
        assert not made.suspect
        assert known.command_id == chosen.bytes
        assert known.suspect, "an id that the caller chose may have been applied before"
        assert question.command_id is None
        assert idempotent.command_id is None


async def test_told_messages_arrive_and_a_lost_call_is_repeated() -> None:
    failures = [Undelivered("once")]

    async def answer(batch: Sequence[Envelope]) -> bytes:
        if failures:
            raise failures.pop()
        return await Actor.echo(batch)

    actor = Actor(answer)
    async with a_mailbox(actor, retry_seconds=(0.001, 0.5)) as ref:
        assert ref.tell("k", Say("x")) is True
        await until(lambda: len(actor.batches) == 2)
        assert actor.batches[0][0].command_id == actor.batches[1][0].command_id


async def test_told_messages_are_dropped_when_they_are_too_old() -> None:
    actor = Actor()
    actor.open.clear()
    async with a_mailbox(actor, tell_seconds=0.05) as ref:
        under_way = spawn(ref.ask("k", Say("under way")), name="under way")
        await until(lambda: len(actor.batches) == 1)
        ref.tell("k", Say("old"))
        await until(lambda: ref.depth == 0)
        actor.open.set()
        await under_way
        await ref.ask("k", Say("next"))
        assert [each.message.words for batch in actor.batches for each in batch] == ["under way", "next"]


async def test_closing_sends_what_waits_and_takes_nothing_more() -> None:
    actor = Actor()
    actor.open.clear()
    ref = ref_to(actor, batch_messages=2)
    asked = [spawn(ref.ask("k", Say(f"{n}")), name="asked") for n in range(5)]
    await until(lambda: len(actor.batches) == 1)
    closing = spawn(ref.close(), name="closing")
    await asyncio.sleep(0)
    with pytest.raises(ActorUnavailable):
        await ref.ask("k", Say("too late"))
    assert ref.tell("k", Say("too late")) is False
    actor.open.set()
    await closing
    assert await asyncio.gather(*asked) == [f"{n}" for n in range(5)]


async def test_closing_does_not_wait_for_ever() -> None:
    actor = Actor()
    actor.open.clear()
    ref = ref_to(actor, batch_messages=1)
    asked = [spawn(ref.ask("k", Say("x")), name="asked") for _ in range(2)]
    await until(lambda: len(actor.batches) == 1)
    await ref.close(drain_seconds=0.05)
    for each in asked:
        with pytest.raises(ActorUnavailable):
            await each


def test_messages_come_back_from_their_bytes_as_they_were() -> None:
    assert decode(encode([Say("x"), Look(), Carry({"a": (1, None)})])) == [Say("x"), Look(), Carry({"a": (1, None)})]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["ok", "lost before", "lost after"]), max_size=12), st.integers(1, 30))
def test_each_command_is_applied_once_whatever_calls_are_lost(faults: list[str], count: int) -> None:
    """`lost after`: the actor has applied the batch, but the answer does not arrive."""
    applied: dict[bytes, str] = {}
    times = 0
    left = list(faults)

    async def answer(batch: Sequence[Envelope]) -> bytes:
        nonlocal times
        fault = left.pop(0) if left else "ok"
        if fault == "lost before":
            raise Undelivered(fault)
        for each in batch:
            assert each.command_id is not None
            if each.suspect and each.command_id in applied:
                continue
            times += 1
            applied[each.command_id] = each.message.words
        if fault == "lost after":
            raise Undelivered(fault)
        return encode_replies([applied[each.command_id] for each in batch if each.command_id is not None])

    async def run() -> None:
        async with a_mailbox(Actor(answer), batch_messages=7, retry_seconds=(0.0001, 0.0002), ask_seconds=30) as ref:
            words = [f"{n}" for n in range(count)]
            assert await asyncio.gather(*(ref.ask("k", Say(each)) for each in words)) == words

    uvloop.run(run())
    assert times == count
