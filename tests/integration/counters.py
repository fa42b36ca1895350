"""Actors for the tests of the actor layer: counters, kept in Postgres, and some that misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from actors._runtime.context import Behaviour
from actors._runtime.messages import Envelope, Message
from actors._runtime.virtual import Effect, Transition, VirtualActor
from db._postgres import Connection
from schemas.errors import AppError, NotFound, all_errors

SCHEMA = """
CREATE TABLE counters (id text PRIMARY KEY, total bigint NOT NULL CHECK (total <= 1000000));
CREATE TABLE additions (at bigint GENERATED ALWAYS AS IDENTITY, id text NOT NULL, tag text NOT NULL);
"""


DIES_BEFORE_COMMIT = "dies before commit"
DIES_AFTER_COMMIT = "dies after commit"


class Add(Message[int]):
    """Add to a counter; answered with the new total. `tag` is stored beside it, so that tests see what was applied.

    `DIES_BEFORE_COMMIT` and `DIES_AFTER_COMMIT` as tags kill the actor's process at that moment, unless the message is
    delivered again.
    """

    by: int = 1
    tag: str = ""


class SetTo(Message[int]):
    """Set a counter."""

    idempotent: ClassVar[bool] = True

    total: int


class Total(Message[int]):
    """Ask for a counter's total."""

    writes: ClassVar[bool] = False


class Fail(Message[None]):
    """Ask for an error: one of the tree by its class name; any other name is a bug of the actor."""

    error: str

    writes: ClassVar[bool] = False


class Wait(Message[None]):
    """Ask for an answer after some time; the whole batch waits, too."""

    seconds: float

    writes: ClassVar[bool] = False


class Counters(VirtualActor[int, str]):
    """Owns `counters`, and the tags of additions as events.

    Success: the total is committed. A crash loses nothing; commands are applied once.
    """

    max_in_memory: ClassVar[int] = 100

    _dies_in_save = False

    async def load(self, conn: Connection, keys: Sequence[str]) -> Mapping[str, int]:
        """See VirtualActor."""
        rows = await conn.fetch("SELECT id, total FROM counters WHERE id = ANY ($1)", keys)
        return {row[0]: row[1] for row in rows}

    def fresh(self, key: str) -> int:
        """See VirtualActor."""
        if key.startswith("unknown"):
            raise NotFound
        return 0

    def handle(self, key: str, state: int, message: Message[Any]) -> Effect[int, str]:
        """See VirtualActor."""
        match message:
            case Add(by, tag):
                total = state + by
                return Effect(total, total, (tag,) if tag else ())
            case SetTo(total):
                return Effect(total, total)
            case Fail(name):
                raise next((cls() for cls in all_errors() if cls.__name__ == name), RuntimeError(name))
        return Effect(state, state)

    async def process(self, batch: Sequence[Envelope]) -> Sequence[Any]:
        """See Behaviour; `Wait` is applied first, then the death that a tag asks for."""
        for each in batch:
            if isinstance(each.message, Wait):
                await asyncio.sleep(each.message.seconds)
        deadly = {each.message.tag for each in batch if isinstance(each.message, Add) and not each.suspect}
        self._dies_in_save = DIES_BEFORE_COMMIT in deadly
        replies = await super().process(batch)
        if DIES_AFTER_COMMIT in deadly:
            kill_this_process()
        return replies

    async def save(self, conn: Connection, transitions: Sequence[Transition[int, str]]) -> None:
        """See VirtualActor."""
        latest = {each.key: each.after for each in transitions}
        await conn.execute(
            "INSERT INTO counters SELECT * FROM unnest($1::text[], $2::bigint[]) AS u (id, total) "
            "ON CONFLICT (id) DO UPDATE SET total = excluded.total",
            list(latest),
            list(latest.values()),
        )
        tagged = [(each.key, tag) for each in transitions for tag in each.events]
        await conn.execute(
            "INSERT INTO additions (id, tag) SELECT * FROM unnest($1::text[], $2::text[])",
            [key for key, _ in tagged],
            [tag for _, tag in tagged],
        )
        if self._dies_in_save:
            kill_this_process()


class Forwarder(Behaviour):
    """Owns nothing; passes additions on to the counters, as one stage of a pipeline does to the next."""

    counters: ClassVar[str] = "test/counters"

    async def process(self, batch: Sequence[Envelope]) -> Sequence[Any]:
        """Return the counters' answers."""

        async def forward(each: Envelope) -> int | AppError:
            try:
                return await self.context.ref(self.counters, each.key).ask(each.key, each.message)
            except AppError as error:
                return error

        return await asyncio.gather(*map(forward, batch))


class NeighbourForwarder(Forwarder):
    """Passes additions on to counters that run in its own process."""

    counters: ClassVar[str] = "near/counters"


class Plain(Behaviour):
    """Owns nothing that lasts: a counter in memory, for measuring."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}

    async def process(self, batch: Sequence[Envelope]) -> Sequence[Any]:
        """Return the new totals."""
        replies = []
        for key, message, *_ in batch:
            assert isinstance(message, Add)
            self._totals[key] = total = self._totals.get(key, 0) + message.by
            replies.append(total)
        return replies


def kill_this_process() -> None:
    """End at once, as if by the kernel."""
    os.kill(os.getpid(), signal.SIGKILL)
