"""Virtual actors without a database: locks by key, and the decisions of a batch against a model."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from actors._runtime.keyed_lock import KeyedLock
from actors._runtime.messages import Envelope, Message
from actors._runtime.registry import shard_of
from actors._runtime.virtual import Transition, _Attempt, changed_rows
from config.tasks import cancel, spawn
from schemas.errors import AppError, Conflict, Internal, NotFound
from tests.integration.counters import Add, Counters, Fail, SetTo, Total

KEYS = ["a", "b", "c"]


async def test_a_key_has_one_turn_at_a_time_in_the_order_of_asking() -> None:
    turns = KeyedLock()
    log: list[str] = []

    async def work(name: str, keys: list[str]) -> None:
        async with turns.of(keys):
            log.append(f"+{name}")
            await asyncio.sleep(0.001)
            log.append(f"-{name}")

    await asyncio.gather(*(work(f"{n}", ["k"]) for n in range(5)))
    assert log == [f"{sign}{n}" for n in range(5) for sign in "+-"]
    assert len(turns) == 0


async def test_turns_with_different_keys_overlap() -> None:
    turns = KeyedLock()
    both = asyncio.Barrier(2)

    async def work(key: str) -> None:
        async with turns.of([key]):
            await both.wait()

    async with asyncio.timeout(1):
        await asyncio.gather(work("a"), work("b"))


async def test_a_waiter_that_gives_up_lets_no_message_overtake() -> None:
    turns = KeyedLock()
    log: list[str] = []

    async def work(name: str, keys: list[str], open_: asyncio.Event) -> None:
        async with turns.of(keys):
            log.append(name)
            await open_.wait()

    first_open, always_open = asyncio.Event(), asyncio.Event()
    always_open.set()
    first = spawn(work("first", ["a"], first_open), name="first")
    given_up = spawn(work("given up", ["a", "b"], always_open), name="given up")
    last = spawn(work("last", ["a", "b"], always_open), name="last")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await cancel(given_up)
    await asyncio.sleep(0.01)
    assert log == ["first"]
    first_open.set()
    async with asyncio.timeout(1):
        await asyncio.gather(first, last)
    assert log == ["first", "last"]
    assert len(turns) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=4), st.booleans(), st.integers(0, 3)),
        min_size=1,
        max_size=25,
    )
)
def test_turns_never_deadlock_never_overlap_and_keep_the_order_of_each_key(
    plan: list[tuple[set[str], bool, int]],
) -> None:
    async def run() -> None:
        turns = KeyedLock()
        holding: dict[str, int] = {}
        order: dict[str, list[int]] = defaultdict(list)

        async def work(number: int, keys: list[str], pauses: int) -> None:
            async with turns.of(keys):
                for key in keys:
                    assert key not in holding
                    holding[key] = number
                    order[key].append(number)
                for _ in range(pauses):
                    await asyncio.sleep(0)
                for key in keys:
                    del holding[key]

        tasks = []
        for number, (keys, gives_up, pauses) in enumerate(plan):
            task = spawn(work(number, sorted(keys), pauses), name=f"turn {number}")
            tasks.append(task)
            await asyncio.sleep(0)  # it waits in the lock's queue
            if gives_up and number % 2:
                task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert len(turns) == 0
        assert all(numbers == sorted(numbers) for numbers in order.values())

    uvloop.run(run())


# --- the decisions of a batch

messages = st.one_of(
    st.builds(Add, st.integers(-5, 5), st.just("")),
    st.builds(SetTo, st.integers(-3, 3)),
    st.just(Total()),
    st.sampled_from([Fail("Conflict"), Fail("not of the tree")]),
)
batches = st.lists(st.tuples(st.sampled_from([*KEYS, "unknown"]), messages), max_size=30)


def model(states: dict[str, int], batch: list[tuple[str, Message[Any]]]) -> list[Any]:
    """Apply a batch in the simplest way: one message after another."""
    replies: list[Any] = []
    for key, message in batch:
        if key == "unknown":
            replies.append(NotFound)
        elif isinstance(message, Fail):
            replies.append(Conflict if message.error == "Conflict" else Internal)
        else:
            if isinstance(message, Add):
                states[key] += message.by
            elif isinstance(message, SetTo):
                states[key] = message.total
            # SetTo without effect is answered with the state it found, which is the same
            replies.append(states[key])
    return replies


def kind(reply: Any) -> Any:
    """Return an error's class, or the value."""
    return type(reply) if isinstance(reply, AppError) else reply


class Saved(Counters):
    """Counters that save to a list, and refuse a total that the database would refuse."""

    limit = 10**9

    def __init__(self) -> None:
        self.saved: list[Transition[int, str]] = []

    async def save(self, conn: Any, transitions: Sequence[Transition[int, str]]) -> None:
        if any(abs(each.after) > self.limit for each in transitions):
            raise ValueError("the table's check")
        self.saved += transitions


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({key: st.integers(-100, 100) for key in KEYS}), batches)
def test_a_batch_decides_as_its_messages_would_one_after_another(
    before: dict[str, int], batch: list[tuple[str, Message[Any]]]
) -> None:
    states = dict(before)
    attempt = _Attempt(Saved(), before, {"unknown": NotFound()})
    replies = attempt.decide([Envelope(key, message) for key, message in batch])
    kept = dict(before)
    assert [kind(reply) for reply in replies] == model(states, batch)
    assert before == kept, "a decision changes nothing but the attempt"
    assert {**before, **attempt.states} == states
    replayed = dict(before)
    for each in attempt.transitions:
        assert replayed[each.key] == each.before
        replayed[each.key] = each.after
    assert replayed == states, "what is saved, in order, is what is remembered"


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({key: st.integers(-8, 8) for key in KEYS}), batches)
def test_a_message_whose_save_fails_one_by_one_leaves_no_trace(
    before: dict[str, int], batch: list[tuple[str, Message[Any]]]
) -> None:
    counters = Saved()
    counters.limit = 10
    envelopes = [Envelope(key, message) for key, message in batch]

    async def one_by_one() -> tuple[list[Any], dict[str, int]]:
        attempt = _Attempt(counters, before, {"unknown": NotFound()})
        replies: list[Any] = []
        for each in envelopes:
            try:
                replies += await attempt.apply(None, [each])  # type: ignore[arg-type]
            except ValueError:
                replies.append("refused")
        assert counters.saved == attempt.transitions
        return replies, {**before, **attempt.states}

    replies, after = asyncio.run(one_by_one())
    states = dict(before)
    expected: list[Any] = []
    for pair in batch:
        tried = dict(states)
        [reply] = model(tried, [pair])
        # SetTo may find a state that is past the limit already only if it was so before: nothing is saved then.
        if tried != states and abs(tried[pair[0]]) > counters.limit:
            expected.append("refused")
        else:
            expected.append(reply)
            states = tried
    assert [kind(reply) for reply in replies] == expected
    assert after == states


async def test_decisions_are_saved_without_deciding_again_unless_some_were_applied_before() -> None:
    counters = Saved()
    batch = [Envelope("a", Add(1)), Envelope("b", Add(2)), Envelope("a", Add(3))]
    attempt = _Attempt(counters, {"a": 0, "b": 0}, {})
    assert attempt.decide(batch) == [1, 2, 4]
    assert await attempt.apply(None, batch) == [1, 2, 4]  # type: ignore[arg-type]
    assert attempt.states == {"a": 4, "b": 2}

    attempt = _Attempt(counters, {"a": 0, "b": 0}, {})
    attempt.decide(batch)
    assert await attempt.apply(None, batch[1:]) == [2, 3]  # type: ignore[arg-type]
    assert attempt.states == {"a": 3, "b": 2}


async def test_a_question_that_changes_something_is_a_bug_and_changes_nothing() -> None:
    class Wrong(Saved):
        def handle(self, key: str, state: int, message: Message[Any]) -> Any:
            return super().handle(key, state, Add(1))

    attempt = _Attempt(Wrong(), {"a": 0}, {})
    [reply] = attempt.decide([Envelope("a", Total())])
    assert isinstance(reply, Internal)
    assert (attempt.states, attempt.transitions) == ({}, [])


Rows = dict[int, str]


@given(st.lists(st.dictionaries(st.integers(0, 3), st.text("ab", min_size=1, max_size=3)), max_size=6))
def test_rows_are_stored_and_deleted_as_the_last_transition_left_them(states: list[Rows]) -> None:
    known: dict[tuple[int, str], str] = {}
    for each in states:  # a row that stays is the same object, as in a state
        each.update({key: known.setdefault((key, row), f"{key}{row}") for key, row in each.items()})
    before, table = (states or [{}])[0], {}
    table.update(before)
    steps = [Transition("k", one, two) for one, two in pairwise(states)]
    stored, deleted = changed_rows(steps, lambda state: state)
    for row in deleted:
        table.pop(int(row[0]), None)
    table.update({int(row[0]): row for row in stored})
    assert table == (states or [{}])[-1]
    assert len(stored) + len(deleted) == len({row[0] for row in (*stored, *deleted)}), "a row is named once"


def test_rows_of_two_ids_are_two_rows() -> None:
    steps: list[Transition[Rows, Any]] = [Transition("a", {}, {1: "x"}), Transition("b", {1: "y"}, {})]
    assert changed_rows(steps, lambda state: state) == (["x"], ["y"])


@pytest.mark.parametrize(("key", "shards", "shard"), [("", 4, 0), ("123456789", 1000, 262), ("é", 16, 14)])
def test_a_key_belongs_to_the_same_shard_for_ever(key: str, shards: int, shard: int) -> None:
    assert shard_of(key, shards) == shard  # CRC-32's published check: "123456789" gives 3421780262
