"""Send messages to an actor: those that arrive while a call is in flight are batched and sent with the next call.

A call costs its sender about half a millisecond of work whether it carries one message or five hundred. One call is in
flight at a time, so messages arrive in the order in which they were sent, and a batch grows just as long as a call
takes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

import uuid_utils

from actors._runtime.messages import Envelope, Message
from actors._runtime.transport import Transport, Undelivered, Unsendable
from config import metrics, tasks
from config.backoff import backoff_seconds
from schemas.errors import ActorUnavailable, AppError, DeadlineExceeded, Internal, Overloaded

log = logging.getLogger(__name__)

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class MailboxLimits:
    """The bounds of one ActorRef."""

    waiting: int = 10_000  # messages; past it `ask` raises Overloaded and `tell` returns False
    batch_messages: int = 500  # throughput per message stops growing beyond
    batch_bytes: int = 1 << 20
    ask_seconds: float = 1.8  # the caller answers its own client within 2 s
    tell_seconds: float = 10.0  # no caller waits for it; a sweep picks up what is dropped
    call_seconds: float = 5.0  # a call without a reply is given up, so that the next can leave
    retry_seconds: tuple[float, float] = (0.02, 0.5)
    pause_seconds_each: float = 0.0  # batching delay after a batch of several, per message of it
    pause_seconds: float = 0.0  # at most


class ActorRefs(Protocol):
    """The references of one process to all actors."""

    def ref(self, kind: str, key: str) -> ActorRef:
        """Return the reference to the owner of `key` in `kind`."""

    def ref_to(self, kind: str, shard: int) -> ActorRef:
        """Return the reference to a shard of `kind`."""

    async def close(self) -> None:
        """Drain and close the references. The actors stay."""


_Future = asyncio.Future[Any]  # each entry's has another type

# future (None for `tell`), deadline (loop time), envelope. A plain tuple: it is made for every message. A withdrawn
# message is one whose future is done.
_Entry = tuple[_Future | None, float, Envelope]


class ActorRef:
    """Send messages to an actor. Bounded, in order, with deadlines; belongs to one event loop.

    A reply means that it is durable. DeadlineExceeded and ActorUnavailable mean that the outcome is unknown; asking
    again under the same command id applies it once. A failed call is retried while a caller still waits.
    """

    def __init__(self, name: str, transport: Transport, limits: MailboxLimits | None = None) -> None:
        self.name = name
        self._transport = transport
        self._limits = limits or MailboxLimits()
        self._waiting: deque[_Entry] = deque()
        self._under_way: list[_Entry] = []
        self._sent = 0  # messages in the last batch
        self._failing = False  # the last call failed, the next has not been answered yet
        self._closing = False
        self._batch_limit = self._limits.batch_messages  # lower for a while after a batch that was too large
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: asyncio.Task[None] | None = None
        self._wake_up: asyncio.Future[None] | None = None  # set while there is nothing to send
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_at = math.inf
        self._depth = metrics.MAILBOX_DEPTH.labels(name)
        self._batch_messages = metrics.MAILBOX_BATCH_MESSAGES.labels(name)
        self._call_seconds = metrics.MAILBOX_CALL_SECONDS.labels(name)
        self._retries = metrics.MAILBOX_RETRIES.labels(name)
        self._refused = metrics.MAILBOX_REFUSED.labels(name)
        self._expired = metrics.MAILBOX_EXPIRED.labels(name)

    async def ask(
        self,
        key: str,
        message: Message[Reply],
        *,
        command_id: UUID | None = None,
        deadline_seconds: float | None = None,
    ) -> Reply:
        """Send a message; return the reply. Raises the owner's error, Overloaded, DeadlineExceeded, ActorUnavailable.

        `command_id` makes repetitions of a write one command even across processes and restarts (for about an hour);
        without it a new one is made, which covers the retries of this ActorRef.
        """
        seconds = self._limits.ask_seconds if deadline_seconds is None else deadline_seconds
        future = self._open_loop().create_future()
        self._put(future, seconds, key, message, command_id)
        reply: Reply = await future
        return reply

    def tell(self, key: str, message: Message[object]) -> bool:
        """Send without a reply. False when full or closed; it may be lost later, but is never applied twice."""
        self._open_loop()
        try:
            self._put(None, self._limits.tell_seconds, key, message, None)
        except AppError:
            return False
        return True

    @property
    def depth(self) -> int:
        """Return the number of messages that wait to be sent."""
        return len(self._waiting)

    async def close(self, drain_seconds: float = 2.0) -> None:
        """Accept nothing more, send what waits, then end; what is unanswered by then gets ActorUnavailable."""
        self._closing = True
        if self._runner is not None:
            self._rouse()
            await asyncio.wait({self._runner}, timeout=drain_seconds)
            await tasks.cancel(self._runner)
        for entry in (*self._under_way, *self._waiting):
            _fail(entry, ActorUnavailable("This server is stopping"))
        self._under_way = []
        self._waiting.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._runner = tasks.spawn(self._run(), name=f"mailbox {self.name}")
        return self._loop

    def _put(
        self, future: _Future | None, seconds: float, key: str, message: Message[object], chosen: UUID | None
    ) -> None:
        if self._closing:
            raise ActorUnavailable("This server is stopping")
        if len(self._waiting) >= self._limits.waiting:
            self._refused.inc()
            raise Overloaded
        command_id = None
        if message.writes and not message.idempotent:
            command_id = (chosen or uuid_utils.uuid7()).bytes
        assert self._loop is not None
        deadline = self._loop.time() + seconds
        suspect = command_id is not None and chosen is not None
        self._waiting.append((future, deadline, Envelope(key, message, command_id, suspect)))
        if deadline < self._sweep_at:
            self._sweep_later(deadline)
        if self._wake_up is not None:
            self._rouse()

    def _rouse(self) -> None:
        if self._wake_up is not None and not self._wake_up.done():
            self._wake_up.set_result(None)

    async def _run(self) -> None:
        while True:
            if self._waiting:
                self._under_way = self._take()
                self._sent = len(self._under_way)
                try:
                    await self._deliver()
                except Exception:
                    log.exception("mailbox %s: a batch is lost", self.name)
                    for entry in self._under_way:
                        _fail(entry, Internal())
                self._depth.set(len(self._waiting))
                await self._pause()
            elif self._closing:
                return
            else:
                # Whatever wakes it, all that is put in the same iteration of the event loop leaves together.
                assert self._loop is not None
                self._wake_up = self._loop.create_future()
                await self._wake_up
                self._wake_up = None

    async def _pause(self) -> None:
        """Wait for the batching delay after a batch of several. A message that comes alone delays no other."""
        pause = min(self._sent * self._limits.pause_seconds_each, self._limits.pause_seconds)
        if self._sent > 1 and pause > 0 and len(self._waiting) < self._sent and not self._closing:
            await asyncio.sleep(pause)

    def _take(self) -> list[_Entry]:
        batch: list[_Entry] = []
        waiting = self._waiting
        limit = self._batch_limit
        while waiting and len(batch) < limit:
            entry = waiting.popleft()
            if entry[0] is None or not entry[0].done():
                batch.append(entry)
        return batch

    async def _deliver(self) -> None:
        """Send the current batch until it is answered or no caller waits for it any more."""
        attempt = 0
        while self._under_way:
            try:
                replies = await self._call(again=attempt > 0)
            except Unsendable as problem:
                self._isolate(problem.error)
                return
            except Undelivered as error:
                attempt += 1
                self._retries.inc()
                if not self._failing:
                    self._failing = True
                    log.warning("%s does not answer: %s", self.name, error)
                await asyncio.sleep(backoff_seconds(attempt, *self._limits.retry_seconds))
                self._under_way = [entry for entry in self._under_way if self._is_wanted(entry)]
                continue
            if self._failing:
                self._failing = False
                log.warning("%s answers again", self.name)
            self._answer(replies)

    async def _call(self, *, again: bool) -> Sequence[object]:
        batch = [envelope for _, _, envelope in self._under_way]
        if again:  # a command may have been applied the last time
            batch = [each._replace(suspect=each.command_id is not None) for each in batch]
        self._batch_messages.observe(len(batch))
        self._depth.set(len(self._waiting))
        assert self._loop is not None
        started = self._loop.time()
        try:
            async with asyncio.timeout(self._limits.call_seconds):
                return await self._transport.send(batch)
        except TimeoutError:
            raise Undelivered(f"no answer for {self._limits.call_seconds} s") from None
        finally:
            self._call_seconds.observe(self._loop.time() - started)

    def _answer(self, replies: Sequence[object]) -> None:
        entries = self._under_way
        assert len(replies) == len(entries), f"{len(replies)} replies to {len(entries)} messages"
        for (future, _, _), reply in zip(entries, replies, strict=True):
            if future is None or future.done():
                continue
            if isinstance(reply, AppError):
                future.set_exception(reply)
            else:
                future.set_result(reply)
        self._under_way = []
        # After a batch that was too large they grow again, slowly: finding the limit costs an encoding.
        self._batch_limit = min(self._limits.batch_messages, self._batch_limit + self._batch_limit // 8 + 1)

    def _isolate(self, error: Exception) -> None:
        """Send a batch that was not processed in halves, down to the message at fault."""
        entries, self._under_way = self._under_way, []
        if len(entries) == 1:
            log.error("%s: a %s cannot be sent: %s", self.name, type(entries[0][2].message).__name__, error)
            _fail(entries[0], error)
            return
        self._waiting.extendleft(reversed(entries))
        self._batch_limit = len(entries) // 2

    def _is_wanted(self, entry: _Entry) -> bool:
        future, deadline = entry[0], entry[1]
        assert self._loop is not None
        return deadline > self._loop.time() if future is None else not future.done()

    def _sweep_later(self, at: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        assert self._loop is not None
        self._sweep_at = at
        self._sweeper = self._loop.call_at(at, self._sweep)

    def _sweep(self) -> None:
        """Fail the messages past their deadline. One timer for all: messages with one deadline leave in their order."""
        assert self._loop is not None
        now = self._loop.time()
        waiting = [entry for entry in self._waiting if not self._expire(entry, now)]
        if len(waiting) < len(self._waiting):
            self._waiting = deque(waiting)
        earliest = math.inf
        for entry in self._under_way:
            if not self._expire(entry, now):
                earliest = min(earliest, entry[1])
        for entry in waiting:
            earliest = min(earliest, entry[1])
        self._sweeper, self._sweep_at = None, math.inf
        if earliest < math.inf:
            self._sweep_later(earliest)

    def _expire(self, entry: _Entry, now: float) -> bool:
        """Return whether no caller waits for it any more, failing it first if its deadline has come."""
        if entry[0] is not None and entry[0].done():
            return True
        if entry[1] > now:
            return False
        self._expired.inc()
        _fail(entry, ActorUnavailable() if self._failing else DeadlineExceeded())
        return True


def _fail(entry: _Entry, error: Exception) -> None:
    if entry[0] is not None and not entry[0].done():
        entry[0].set_exception(error)
