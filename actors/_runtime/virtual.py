"""Implement virtual actors: every id behaves like an object that always exists and takes one message at a time.

An id is loaded from Postgres at its first message and dropped when idle. Its rules are one pure method.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from actors._runtime.commands import Apply, as_reply, write_batch
from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.keyed_lock import KeyedLock
from actors._runtime.messages import Envelope, Message
from config import tasks
from db._postgres import Connection
from schemas.errors import AppError, DatabaseUnavailable, Fenced

log = logging.getLogger(__name__)

State = TypeVar("State")
Event = TypeVar("Event")
Key = TypeVar("Key")
Row = TypeVar("Row")

UNPUBLISHED = 10_000  # transitions that wait to be published; past it the oldest are dropped: Postgres has the truth
_LAST_PUBLICATION_SECONDS = 1.0

_Failures = dict[str, AppError]  # by key that could not be loaded


@dataclass(frozen=True, slots=True)
class Effect(Generic[State, Event]):
    """The result of a message: the id's next state, the reply, and events, which tell what the states do not."""

    state: State
    reply: Any = None
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Transition(Generic[State, Event]):
    """The change that one message made to one id: the states before and after it, and its events."""

    key: str
    before: State
    after: State
    events: tuple[Event, ...] = ()


def changed_rows(
    transitions: Iterable[Transition[State, Event]], rows_of: Callable[[State], Mapping[Key, Row]]
) -> tuple[list[Row], list[Row]]:
    """Return the rows to store and the rows to delete: the last transition decides where several concern one row.

    A state keeps the object of a row that does not change.
    """
    stored: dict[tuple[str, Key], Row] = {}
    deleted: dict[tuple[str, Key], Row] = {}
    for each in transitions:
        before, after = rows_of(each.before), rows_of(each.after)
        for key, row in after.items():
            if before.get(key) is not row:
                stored[each.key, key] = row
                deleted.pop((each.key, key), None)
        for key in before.keys() - after.keys():
            deleted[each.key, key] = before[key]
            stored.pop((each.key, key), None)
    return list(stored.values()), list(deleted.values())


def events_of(transitions: Iterable[Transition[Any, Any]], kind: type[Row]) -> list[Row]:
    """Return the events of one class, in order."""
    return [event for each in transitions for event in each.events if isinstance(event, kind)]


class VirtualActor(Behaviour, Generic[State, Event]):
    """Base of a kind of virtual actor. A subclass defines how an id is loaded, handles a message, and is saved.

    The order is always: decide, save in one transaction for the whole batch, change memory, answer, publish. A state is
    a value: `handle` makes a new one and never alters the one it was given, so that a rollback only drops the new one.
    """

    max_in_memory: ClassVar[int] = 10_000  # ids; past it the least recently used are dropped
    idle_seconds: ClassVar[float] = 600.0  # an id without a message for so long is dropped

    @abstractmethod
    async def load(self, conn: Connection, keys: Sequence[str]) -> Mapping[str, State]:
        """Load the saved states of those keys that have one, in one query."""

    @abstractmethod
    def fresh(self, key: str) -> State:
        """Return the state of a key with none saved. May raise an AppError (`NotFound`): the reply to its messages."""

    @abstractmethod
    def handle(self, key: str, state: State, message: Message[object]) -> Effect[State, Event]:
        """Return the effect of `message`. Pure. May raise an AppError: the reply to this message alone.

        Nothing is saved when the state is equal to the one given and there are no events.
        """

    @abstractmethod
    async def save(self, conn: Connection, transitions: Sequence[Transition[State, Event]]) -> None:
        """Save the transitions of many keys, in order, with as few statements as possible."""

    async def published(self, transitions: Sequence[Transition[State, Event]]) -> None:
        """Notify others of committed transitions, in order. Replies do not wait for it; a crash may prevent it."""

    async def start(self, context: ActorContext) -> None:
        """See Behaviour."""
        await super().start(context)
        self._memory: OrderedDict[str, tuple[State, float]] = OrderedDict()  # least recently used first
        self._locks = KeyedLock()
        self._unpublished: deque[Transition[State, Event]] = deque(maxlen=UNPUBLISHED)
        self._wake_publisher = asyncio.Event()
        self._stopping = False
        self._publisher: asyncio.Task[object] | None = None
        if type(self).published is not VirtualActor.published:
            self._publisher = context.spawn(self._publish(), name="publisher")
        context.every(self.idle_seconds / 4, self._drop_idle, name="passivation")

    async def stop(self) -> None:
        """See Behaviour. Pending publications get a moment to leave."""
        if self._publisher is not None:
            self._stopping = True
            self._wake_publisher.set()
            await asyncio.wait({self._publisher}, timeout=_LAST_PUBLICATION_SECONDS)
            await tasks.cancel(self._publisher)

    def stats(self) -> Mapping[str, float]:
        """See Behaviour."""
        return {"in_memory": len(self._memory), "in_turn": len(self._locks), "to_publish": len(self._unpublished)}

    async def process(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """See Behaviour."""
        keys = list(dict.fromkeys(each.key for each in batch))
        if not any(each.message.writes for each in batch) and all(key in self._memory for key in keys):
            # Queries see what is committed. A write in progress is not answered yet, so it need not be seen.
            return _Attempt(self, self._recall(keys), {}).decide(batch)
        async with self._locks.of(keys):
            failures = await self._load_missing(keys)
            states = self._recall(keys)
            first = _Attempt(self, states, failures)
            replies = first.decide(batch)
            if first.transitions or any(each.suspect for each in batch):
                replies = await self._write(batch, first, states, failures)
        self._drop_surplus()
        return replies

    async def _write(
        self, batch: Sequence[Envelope], first: _Attempt[State, Event], states: dict[str, State], failures: _Failures
    ) -> list[object]:
        attempts: list[_Attempt[State, Event]] = []

        def attempt() -> Apply:
            attempts.append(_Attempt(self, states, failures) if attempts else first)
            return attempts[-1].apply

        try:
            replies = await write_batch(self.context.fence, batch, attempt)
        except BaseException:
            # It may have been committed all the same: the next message reloads the state.
            self._forget(states)
            raise
        done = attempts[-1]
        if done.applied:
            self._remember(done.states, done.transitions)
        return replies

    def _remember(self, states: Mapping[str, State], transitions: Sequence[Transition[State, Event]]) -> None:
        now = time.monotonic()
        for key, state in states.items():
            self._memory[key] = (state, now)
        if self._publisher is not None and transitions:
            self._unpublished.extend(transitions)
            self._wake_publisher.set()

    async def _load_missing(self, keys: Iterable[str]) -> _Failures:
        missing = [key for key in keys if key not in self._memory]
        failures: _Failures = {}
        if not missing:
            return failures
        found: dict[str, State] = {}
        try:
            async with self.context.connection() as conn:
                found.update(await self.load(conn, missing))
        except (DatabaseUnavailable, Fenced):
            raise
        except Exception as error:  # noqa: BLE001 - a key that cannot be loaded fails alone
            if len(missing) == 1:
                return {missing[0]: as_reply(error)}
            for key in missing:
                failures.update(await self._load_missing([key]))
            return failures
        now = time.monotonic()
        for key in missing:
            try:
                self._memory[key] = (found[key] if key in found else self.fresh(key), now)
            except AppError as error:
                failures[key] = error
        return failures

    def _recall(self, keys: Iterable[str]) -> dict[str, State]:
        now = time.monotonic()
        states: dict[str, State] = {}
        for key in keys:
            if key in self._memory:
                states[key] = state = self._memory[key][0]
                self._memory[key] = (state, now)
                self._memory.move_to_end(key)
        return states

    def _forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._memory.pop(key, None)

    def _drop_surplus(self) -> None:
        surplus = len(self._memory) - self.max_in_memory
        if surplus > 0:
            self._forget([key for key in self._memory if key not in self._locks][:surplus])

    async def _drop_idle(self) -> None:
        since = time.monotonic() - self.idle_seconds
        idle: list[str] = []
        for key, (_, used) in self._memory.items():
            if used > since:
                break
            if key not in self._locks:
                idle.append(key)
        self._forget(idle)

    async def _publish(self) -> None:
        while self._unpublished or not self._stopping:
            if not self._unpublished:
                await self._wake_publisher.wait()
                self._wake_publisher.clear()
                continue
            transitions = list(self._unpublished)
            self._unpublished.clear()
            try:
                await self.published(transitions)
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop goes on; the state is saved
                log.warning("%s: %d changes are not published: %r", self.context.name, len(transitions), error)


class _Attempt(Generic[State, Event]):
    """Try a batch once, on the states of its keys. Nothing outside this object is changed."""

    def __init__(self, virtual: VirtualActor[State, Event], before: Mapping[str, State], failures: _Failures) -> None:
        self._virtual = virtual
        self._before = before
        self._failures = failures
        self._decided: tuple[Sequence[Envelope], list[object]] | None = None
        self.states: dict[str, State] = {}  # only of the keys that change
        self.transitions: list[Transition[State, Event]] = []

    @property
    def applied(self) -> bool:
        """Return whether any of it was saved; not so when all commands had been applied before."""
        return self._decided is None

    def decide(self, batch: Sequence[Envelope]) -> list[object]:
        """Handle the messages in order, each on the state that the one before it left; return their replies."""
        replies = [self._decide(each.key, each.message) for each in batch]
        self._decided = batch, replies
        return replies

    async def apply(self, conn: Connection, batch: Sequence[Envelope]) -> Sequence[object]:
        """Decide (unless this batch is decided already) and save. A failure leaves this object unchanged."""
        if self._decided is not None:
            decided, replies = self._decided
            self._decided = None
            if decided is batch:
                try:
                    await self._virtual.save(conn, self.transitions)
                except BaseException:
                    self.states, self.transitions = {}, []
                    raise
                return replies
            self.states, self.transitions = {}, []  # it was decided for a batch some of which had been applied before
        kept_states, kept = dict(self.states), len(self.transitions)
        try:
            replies = [self._decide(each.key, each.message) for each in batch]
            if len(self.transitions) > kept:
                await self._virtual.save(conn, self.transitions[kept:])
        except BaseException:
            self.states = kept_states
            del self.transitions[kept:]
            raise
        return replies

    def _decide(self, key: str, message: Message[object]) -> object:
        if key in self._failures:
            return self._failures[key]
        state = self.states[key] if key in self.states else self._before[key]
        try:
            effect = self._virtual.handle(key, state, message)
            changes = bool(effect.events) or effect.state != state
            if changes and not message.writes:
                raise TypeError(f"{type(message).__name__} is declared a question, but changes something")
        except Exception as error:  # noqa: BLE001 - one message's failure is the reply to that message
            return as_reply(error)
        if changes:
            self.states[key] = effect.state
            self.transitions.append(Transition(key, state, effect.state, effect.events))
        return effect.reply
