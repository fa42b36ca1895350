"""Implement virtual actors: every id behaves like an object that always exists and takes one message at a time.

An id is loaded from Postgres at its first message and dropped when idle. Its rules are one pure method.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
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
Change = TypeVar("Change")

PUBLICATIONS = 10_000  # changes that wait to be published; past it the oldest are dropped: Postgres has the truth
_LAST_PUBLICATION_SECONDS = 1.0

_Failures = dict[str, AppError]  # by key that could not be loaded


@dataclass(frozen=True, slots=True)
class Decision(Generic[State, Change]):
    """The result of a message: the id's next state, the reply, and the changes to save and publish.

    Without `changes` nothing is saved and the state stays as it was.
    """

    state: State
    reply: Any = None
    changes: tuple[Change, ...] = ()


class VirtualActor(Behaviour, Generic[State, Change]):
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
    def handle(self, key: str, state: State, message: Message[Any]) -> Decision[State, Change]:
        """Decide the result of `message`. Pure. May raise an AppError: the reply to this message alone."""

    @abstractmethod
    async def save(self, conn: Connection, changes: Sequence[Change]) -> None:
        """Save the changes of many keys, in order, with as few statements as possible."""

    async def published(self, changes: Sequence[Change]) -> None:
        """Notify others of committed changes, in order. Replies do not wait for it; a crash may prevent it."""

    async def start(self, context: ActorContext) -> None:
        """See Behaviour."""
        await super().start(context)
        self._memory: OrderedDict[str, tuple[State, float]] = OrderedDict()  # least recently used first
        self._turns = KeyedLock()
        self._news: deque[Change] = deque(maxlen=PUBLICATIONS)
        self._news_came = asyncio.Event()
        self._stopping = False
        self._publisher: asyncio.Task[None] | None = None
        if type(self).published is not VirtualActor.published:
            self._publisher = context.spawn(self._publish(), name="publisher")
        context.every(self.idle_seconds / 4, self._drop_idle, name="passivation")

    async def stop(self) -> None:
        """See Behaviour. Pending publications get a moment to leave."""
        if self._publisher is not None:
            self._stopping = True
            self._news_came.set()
            await asyncio.wait({self._publisher}, timeout=_LAST_PUBLICATION_SECONDS)
            await tasks.cancel(self._publisher)

    def stats(self) -> Mapping[str, float]:
        """See Behaviour."""
        return {"in_memory": len(self._memory), "in_turn": len(self._turns), "to_publish": len(self._news)}

    async def process(self, batch: Sequence[Envelope]) -> Sequence[Any]:
        """See Behaviour."""
        keys = list(dict.fromkeys(each.key for each in batch))
        if not any(each.message.writes for each in batch) and all(key in self._memory for key in keys):
            # Queries see what is committed. A write in progress is not answered yet, so it need not be seen.
            return _Attempt(self, self._recall(keys), {}).decide(batch)
        async with self._turns.of(keys):
            failures = await self._load_missing(keys)
            states = self._recall(keys)
            first = _Attempt(self, states, failures)
            replies = first.decide(batch)
            if first.changes or any(each.suspect for each in batch):
                replies = await self._write(batch, first, states, failures)
        self._drop_surplus()
        return replies

    async def _write(
        self, batch: Sequence[Envelope], first: _Attempt[State, Change], states: dict[str, State], failures: _Failures
    ) -> list[Any]:
        attempts: list[_Attempt[State, Change]] = []

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
            self._remember(done.states, done.changes)
        return replies

    def _remember(self, states: Mapping[str, State], changes: Sequence[Change]) -> None:
        now = time.monotonic()
        for key, state in states.items():
            self._memory[key] = (state, now)
        if self._publisher is not None and changes:
            self._news.extend(changes)
            self._news_came.set()

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
            self._forget([key for key in self._memory if key not in self._turns][:surplus])

    async def _drop_idle(self) -> None:
        since = time.monotonic() - self.idle_seconds
        idle: list[str] = []
        for key, (_, used) in self._memory.items():
            if used > since:
                break
            if key not in self._turns:
                idle.append(key)
        self._forget(idle)

    async def _publish(self) -> None:
        while self._news or not self._stopping:
            if not self._news:
                await self._news_came.wait()
                self._news_came.clear()
                continue
            changes = list(self._news)
            self._news.clear()
            try:
                await self.published(changes)
            except Exception as error:  # noqa: BLE001 - whatever it is, the loop goes on; the state is saved
                log.warning("%s: %d changes are not published: %r", self.context.name, len(changes), error)


class _Attempt(Generic[State, Change]):
    """Try a batch once, on the states of its keys. Nothing outside this object is changed."""

    def __init__(self, virtual: VirtualActor[State, Change], before: Mapping[str, State], failures: _Failures) -> None:
        self._virtual = virtual
        self._before = before
        self._failures = failures
        self._decided: tuple[Sequence[Envelope], list[Any]] | None = None
        self.states: dict[str, State] = {}  # only of the keys that change
        self.changes: list[Change] = []

    @property
    def applied(self) -> bool:
        """Return whether any of it was saved; not so when all commands had been applied before."""
        return self._decided is None

    def decide(self, batch: Sequence[Envelope]) -> list[Any]:
        """Handle the messages in order, each on the state that the one before it left; return their replies."""
        replies = [self._decide(each.key, each.message) for each in batch]
        self._decided = batch, replies
        return replies

    async def apply(self, conn: Connection, batch: Sequence[Envelope]) -> Sequence[Any]:
        """Decide (unless this batch is decided already) and save. A failure leaves this object unchanged."""
        if self._decided is not None:
            decided, replies = self._decided
            self._decided = None
            if decided is batch:
                try:
                    await self._virtual.save(conn, self.changes)
                except BaseException:
                    self.states, self.changes = {}, []
                    raise
                return replies
            self.states, self.changes = {}, []  # it was decided for a batch some of which had been applied before
        kept_states, kept_changes = dict(self.states), len(self.changes)
        try:
            replies = [self._decide(each.key, each.message) for each in batch]
            if len(self.changes) > kept_changes:
                await self._virtual.save(conn, self.changes[kept_changes:])
        except BaseException:
            self.states = kept_states
            del self.changes[kept_changes:]
            raise
        return replies

    def _decide(self, key: str, message: Message[Any]) -> Any:
        if key in self._failures:
            return self._failures[key]
        state = self.states[key] if key in self.states else self._before[key]
        try:
            decision = self._virtual.handle(key, state, message)
            if decision.changes and not message.writes:
                raise TypeError(f"{type(message).__name__} is declared a question, but changes something")
        except Exception as error:  # noqa: BLE001 - one message's failure is the reply to that message
            return as_reply(error)
        if decision.changes:
            self.states[key] = decision.state
            self.changes += decision.changes
        return decision.reply
